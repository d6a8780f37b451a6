"""What a long command says while it runs, where there is no terminal: before, nothing at all until it ended."""

import io

import pytest
from rich.console import Console

from pathline.cli import train
from pathline.cli.progress import EVERY, Lines, Pace, counting, duration, waiting


class Clock:
    """A time that passes only when it is told to."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.mark.parametrize(
    ("total", "begun", "seconds", "lines"),
    [
        pytest.param(1000, 0, 0.0, 10, id="work that takes no time: a line for each tenth"),
        pytest.param(7, 0, 0.0, 7, id="seven units: a line for each"),
        pytest.param(1000, 900, 0.0, 1, id="work that was done but for a tenth: one line"),
        pytest.param(10, 0, 10 * EVERY, 10, id="units of 5 minutes: a line after each"),
        pytest.param(1000, 0, 1.0, 1000 // 30 + 6, id="units of a second: every 30 s, and with each tenth"),
    ],
)
def test_a_plain_line_comes_with_each_tenth_and_each_half_minute(total, begun, seconds, lines):
    clock = Clock()
    due = Lines(total, begun, clock=clock)
    told = 0
    for done in range(begun + 1, total + 1):
        clock.now += seconds
        told += due.is_due(done)
    assert abs(told - lines) <= 4 if seconds == 1 else told == lines


def test_short_work_of_other_commands_says_nothing():
    clock = Clock()
    due = Lines(1000, least=1.0, clock=clock)
    for done in range(1, 1001):
        clock.now += 0.0005
        assert not due.is_due(done)


@pytest.mark.parametrize(
    ("total", "step", "at", "seconds"),
    [
        pytest.param(6000, 0.1, 31, 600.0, id="6,000 steps of 0.1 s: 10 min, after 3 s"),
        pytest.param(100, 0.01, 10, 1.0, id="short work: after a tenth"),
        pytest.param(20, 60.0, 6, 1200.0, id="slow steps: after 5 of them"),
    ],
)
def test_the_time_for_all_is_estimated_once_after_a_few_steps(total, step, at, seconds):
    clock = Clock()
    clock.now = 100.0  # the first step compiles, and does not count
    pace, told = Pace(total, clock=clock), {}
    for done in range(1, total + 1):
        estimate = pace.estimate(done)
        if estimate is not None:
            told[done] = estimate
        clock.now += step
    assert list(told) == [pytest.approx(at, abs=1)]
    assert next(iter(told.values())) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "1 s"),
        (40, "40 s"),
        (99.4, "99 s"),
        (100, "2 min"),
        (540, "9 min"),
        (4800, "80 min"),
        (8000, "2 h 13 min"),
    ],
)
def test_a_time_in_words(seconds, words):
    assert duration(seconds) == words


def test_lines_reach_a_file_as_they_are():
    file = io.StringIO()
    console = Console(file=file, width=20)
    with waiting(console, "reading [red]a table of a long name.csv"):
        pass
    with counting(console, 2, "[b]samples[/b]") as show:  # more than a second passes in no test: no line is due
        show(1, "[/nothing]")
    assert file.getvalue() == "reading [red]a table of a long name.csv\n"


def test_a_training_without_a_terminal_says_how_far_it_is_and_how_long_it_takes(tmp_path, capsys, monkeypatch):
    for drawing in ("draw_all", "write_card"):
        monkeypatch.setattr(train, drawing, lambda *_: None)

    small = "--steps 40 --width 8 --depth 1 --batch-size 16 --log-every 4 --data moons".split()
    assert train.main(["moons", *small, "--out", str(tmp_path / "run")]) == 0
    out = capsys.readouterr().out
    assert out.count(" of 40 steps") == 10, out
    assert "for 40 steps, then the pictures\n" in out
