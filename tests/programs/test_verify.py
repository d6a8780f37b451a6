"""The verify command: a row a law, that fails with a planted bug, whatever else goes wrong."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import pathline
from pathline.cli import verify
from pathline.cli.main import main
from pathline.verify import Figure, laws
from pathline.verify.checked import Outcome
from pathline.verify.table import FULL, QUICK

PACKAGE = Path(pathline.__file__).parent
RAISED = '    raise RuntimeError("no such thing\\nas 7")\n'


def rows(text: str) -> dict[int, str]:
    """The lines of the table, by the number of their law."""
    return {int(line[7:9]): line for line in text.splitlines() if line[7:9].strip().isdigit()}


@pytest.mark.parametrize("workers", ["1", "2"])
def test_json_and_table_say_the_same_whatever_the_workers(workers, capsys, monkeypatch):
    told, checked = [], verify.checked
    monkeypatch.setattr(verify, "checked", lambda *those: [told.append(one) or one for one in checked(*those)])
    assert main(["verify", "--law", "18,21", "--json", "--workers", workers]) == 0
    values = json.loads(capsys.readouterr().out)
    monkeypatch.setattr(verify, "checked", lambda cases, workers: iter(told))
    assert main(["verify", "--law", "18,21"]) == 0
    table = capsys.readouterr().out
    assert values["holds"] and values["threads"] == 1 and set(values["versions"]) == {"pathline", "torch"}
    assert {law["law"]: law["verdict"] for law in values["laws"]} == {18: "holds", 21: "holds"}
    assert {number: line.split()[0] for number, line in rows(table).items()} == {18: "holds", 21: "holds"}
    known = {(case["name"], case["case"]): case["figures"] for case in values["cases"]}
    for law in laws():
        if law.number in (18, 21):
            for case, figure in law.figures():
                shown = [one for one in known[law.name, case] if one["figure"] == figure.name]
                assert [one["value"] for one in shown] == [figure.value] and figure.name in table


def test_a_planted_bug_fails_its_law_and_a_law_that_raises_does_not_stop_the_rest(tmp_path):
    shutil.copytree(PACKAGE, tmp_path / "pathline", ignore=shutil.ignore_patterns("__pycache__"))
    for file, old, new in (
        ("paths/schedules.py", "return (math.pi / 2 * t).sin()", "return (math.pi / 2 * t).cos()"),
        ("verify/training.py", "    network = _Listening()\n", RAISED),
    ):
        path = tmp_path / "pathline" / file
        code = path.read_text()
        assert code.count(old) == 1
        path.write_text(code.replace(old, new))
    done = subprocess.run(
        [sys.executable, "-m", "pathline", "verify", "--law", "4,17,21", "--quick"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    found = rows(done.stdout)
    assert {number: line.split()[0] for number, line in found.items()} == {4: "FAILS", 17: "FAILS", 21: "holds"}
    assert "raised" in found[17]
    assert "law 4, schedule_is_sound(cosine)" in done.stdout
    assert "raised RuntimeError: no such thing as 7 (in labels_drop_at_their_rate, training.py:" in done.stdout
    assert "2 of 3 laws FAIL" in done.stdout


def test_an_interruption_says_what_was_checked(capsys, monkeypatch):
    def checked(cases, workers):
        for law, case in cases[:-1]:
            yield Outcome(law, case, 0.1, (Figure("error", 0.5, 1.0),))
        raise KeyboardInterrupt

    monkeypatch.setattr(verify, "checked", checked)
    assert main(["verify", "--law", "18,21"]) == 130
    told = capsys.readouterr()
    assert rows(told.out)[18].startswith("holds") and rows(told.out)[21].startswith("begun")
    assert "interrupted: 2 of 3 cases were checked" in told.err


@pytest.mark.parametrize("law", ["99", "9;11", "nine"])
def test_a_law_that_there_is_not_is_refused(law, capsys):
    assert main(["verify", "--law", law]) == 2
    last = max(one.number for one in laws())
    assert f"numbers from 1 to {last}, with commas between, got '{law}'" in capsys.readouterr().err


def test_what_does_not_go_together_is_refused(capsys):
    assert main(["verify", "--quick", "--all"]) == 2
    assert main(["verify", "--workers", "0"]) == 2
    assert main(["verify", "runs/digits", "--law", "9"]) == 2
    told = capsys.readouterr().err
    assert "leave out one of them" in told and "at least 1, got 0" in told and "leave out runs/digits" in told


def test_a_glance_and_a_longer_look_meet_every_part():
    for law in laws():
        whole, full, quick = law.chosen(), law.chosen(FULL), law.chosen(QUICK)
        assert sorted(whole) == sorted(dict(law.cases()))
        assert whole[: len(full)] == full and full[: len(quick)] == quick and full
    assert len({law.number for law in laws() if law.chosen(QUICK)}) >= 15
    (law,) = [law for law in laws() if law.name == "density_follows_its_equation"]
    names = [name.split(":")[0].split() for name in law.chosen()]
    heads, schedules = map(set, zip(*names, strict=True))
    assert list(map(set, zip(*names[: max(len(heads), len(schedules))], strict=True))) == [heads, schedules]


@pytest.mark.slow
def test_quick_holds(capsys):
    assert main(["verify", "--quick"]) == 0
    found = rows(capsys.readouterr().out)
    assert len(found) >= 15 and all(line.startswith("holds") for line in found.values())
