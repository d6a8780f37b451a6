"""How often: a few times of each in `make test`, all of it in `make torture`, which prints what it found."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

IS_FULL = "PATHLINE_TORTURE" in os.environ


@pytest.fixture(scope="session")
def often():
    """What chooses between a small count and the full one."""
    return lambda few, all_of_them: all_of_them if IS_FULL else few


@pytest.fixture
def figure(capfd):
    """What prints a line of the table in docs/torture.md."""

    def tell(case: str, count: object, found: str) -> None:
        if IS_FULL:
            with capfd.disabled():
                print(f"\n| {case} | {count} | {found} |", flush=True)

    return tell


class Zygote:
    """What forks children that train or save."""

    def __init__(self, folder: Path) -> None:
        self.errors = folder / "stderr"
        environment = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"}
        command = [sys.executable, str(Path(__file__).with_name("zygote.py"))]
        self.process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.answer() == {"ready": True}

    def tell(self, **values) -> None:
        print(json.dumps({**values, "stderr": str(self.errors)}), file=self.process.stdin, flush=True)

    def answer(self) -> dict:
        return json.loads(self.process.stdout.readline())

    def command(self, *argv, kill_after: float | None = None) -> dict:
        """Run the command in a child, which is killed after a while."""
        self.tell(argv=[str(word) for word in argv], kill_after=kill_after)
        return self.answer()


@pytest.fixture(scope="session")
def zygote(tmp_path_factory):
    """One for all tests, as it takes seconds to begin."""
    made = Zygote(tmp_path_factory.mktemp("zygote"))
    yield made
    made.process.stdin.close()
    made.process.wait(timeout=600)
    made.process.stdout.close()
