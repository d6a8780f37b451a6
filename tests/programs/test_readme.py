"""The README's programs run as they stand there, and say what they ought to."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAMS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
NAMES = ("array", "sde", "score", "bridge", "likelihood")


def _run(program: str, where: Path) -> str:
    done = subprocess.run([sys.executable, "-c", program], cwd=where, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_there_are_five() -> None:
    assert len(PROGRAMS) == len(NAMES)


def test_train_on_an_array_and_sample(tmp_path: Path) -> None:
    said = _run(PROGRAMS[0], tmp_path)
    # two draws of 1,000 points from the data itself lie within 0.006 of 0; noise in place of data lies 0.3 away
    assert float(re.findall(r"to the data: (-?[\d.]+)", said)[0]) < 0.02, said


def test_sde_of_any_sigma_with_guidance(tmp_path: Path) -> None:
    said = _run(PROGRAMS[1], tmp_path)
    lines = re.findall(r"mean \[(.+), (.+)\], the class has \[(.+), (.+)\]", said)
    assert len(lines) == 5
    for line in lines:
        a, b, c, e = map(float, line)
        assert ((a - c) ** 2 + (b - e) ** 2) ** 0.5 < 0.5, said  # the other classes are 3.5 away


def test_score_of_a_velocity_model(tmp_path: Path) -> None:
    said = _run(PROGRAMS[2], tmp_path)
    assert float(re.findall(r"error of the score: ([\d.]+)", said)[0]) < 0.15, said
    assert "the score can be read in [0, 1) and the data in [0, 1]" in said


def test_bridge_between_two_sets_of_samples(tmp_path: Path) -> None:
    said = _run(PROGRAMS[3], tmp_path)
    on, before = map(int, re.findall(r"(\d+)%", said))
    assert on > 70 and before < 60, said  # half of any blurred board lies on the squares
    way, at_random = map(float, re.findall(r"way: ([\d.]+), at random ([\d.]+)", said)[0])
    assert way < at_random / 2, said


def test_likelihood_of_a_field_and_of_a_table(tmp_path: Path) -> None:
    said = _run(PROGRAMS[4], tmp_path)
    error, estimated = map(float, re.findall(r"worst error ([\d.e-]+) nats; estimated to ([\d.]+)", said)[0])
    assert error < 1e-4 and 0 < estimated < 2, said
    held = float(re.findall(r"held-out wine: (-?[\d.]+) nats", said)[0])
    assert -22 < held < -18, said  # a normal for each column by itself has -23.0, one of full covariance -20.1


@pytest.mark.slow
@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda page: page.stem)
def test_programs_of_a_page_of_the_docs(page: Path, tmp_path: Path) -> None:
    for program in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL):
        _run(program, tmp_path)


@pytest.mark.fast
def test_pictures_exist_and_are_small() -> None:
    shown = [ROOT / path for path in re.findall(r"!\[.*?\]\((.+?)\)", (ROOT / "README.md").read_text())]
    assert shown and all(path.is_file() for path in shown)
    assert sum(path.stat().st_size for path in (ROOT / "docs/pictures").iterdir()) < 1e6
