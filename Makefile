# pathline: `make demo` from noise to digits, `make test` the laws and everything else that must hold
.PHONY: demo test check lint test-slow torture gallery format clean

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1

demo: .venv/installed
	@if [ -f runs/digits/README.md ]; then \
	  $(BIN)/pathline sample runs/digits --guidance 2 && echo "sampled the finished run; to train anew: $(BIN)/pathline train digits --overwrite"; \
	elif [ -f runs/digits/config.json ]; then $(BIN)/pathline train --resume runs/digits; \
	else $(BIN)/pathline train digits; fi

test: .venv/installed-dev
	$(ONE_THREAD) $(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow"

check: lint
	$(ONE_THREAD) $(BIN)/python -m pytest -n 2 -q -m fast

lint: .venv/installed-dev
	$(BIN)/ruff check --quiet && $(BIN)/ruff format --check --quiet && $(BIN)/mypy --no-error-summary

format: .venv/installed-dev
	$(BIN)/ruff check --fix && $(BIN)/ruff format

test-slow: .venv/installed-dev
	$(ONE_THREAD) $(BIN)/python -m pytest -n 2 --dist worksteal -m slow

torture: .venv/installed-dev
	PATHLINE_TORTURE=1 $(ONE_THREAD) $(BIN)/python -m pytest -q tests/torture

gallery: .venv/installed
	for script in examples/*.py; do $(ONE_THREAD) $(BIN)/python $$script || exit 1; done

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(PIP) -e .
	@touch $@

.venv/installed-dev: .venv/installed
	$(PIP) -e '.[dev]'
	@touch $@

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache
