"""The verify command: a row a law, that fails with a planted bug, whatever else goes wrong."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import pathline
from pathline.verify import Figure, laws
from pathline.verify.table import FULL, QUICK

PACKAGE = Path(pathline.__file__).parent


def verify(*arguments: str, where: Path = PACKAGE.parent) -> subprocess.CompletedProcess[str]:
    """The command, with the package in this folder."""
    return subprocess.run(
        [sys.executable, "-m", "pathline", "verify", *arguments],
        cwd=where,
        env={**os.environ, "PYTHONPATH": str(where)},
        capture_output=True,
        text=True,
        check=False,
    )


def planted(folder: Path, file: str, old: str, new: str) -> Path:
    """A copy of the package, with one edit."""
    shutil.copytree(PACKAGE, folder / "pathline", ignore=shutil.ignore_patterns("__pycache__"))
    code = (folder / "pathline" / file).read_text()
    assert code.count(old) == 1
    (folder / "pathline" / file).write_text(code.replace(old, new))
    return folder


def test_json_and_table_say_the_same_whatever_the_workers():
    table = verify("--law", "3,13,21", "--quick", "--workers", "2")
    values = json.loads(verify("--law", "3,13,21", "--quick", "--json", "--workers", "1").stdout)
    assert table.returncode == 0, table.stderr
    assert values["holds"] and values["threads"] == 1 and set(values["versions"]) == {"pathline", "torch"}
    rows = [line for line in table.stdout.splitlines() if line.startswith("holds") and line[6:8].strip().isdigit()]
    assert [(row.split()[1], row.split()[0]) for row in rows] == [
        (str(law["law"]), law["verdict"]) for law in values["laws"]
    ]
    for case in values["cases"]:
        assert case["statement"] and case["figures"] and case["error"] is None and case["holds"]
        for figure in case["figures"]:
            shown = Figure(figure["figure"], figure["value"], figure["most"] or float("inf"), figure["least"])
            assert any(
                all(word in line for word in (case["case"], shown.name, f"{shown.value:.3g}"))
                for line in table.stdout.splitlines()
            ), shown


def test_a_planted_bug_fails_its_law_and_a_law_that_raises_does_not_stop_the_rest(tmp_path):
    bug = ("paths/schedules.py", "return (math.pi / 2 * t).sin()", "return (math.pi / 2 * t).cos()")
    where = planted(tmp_path, *bug)
    training = where / "pathline" / "verify" / "training.py"
    code = training.read_text()
    place = "    network = _Listening()\n"
    assert code.count(place) == 1
    training.write_text(code.replace(place, '    raise RuntimeError("no such thing\\nas 7")\n' + place))
    done = verify("--law", "4,17,21", "--quick", where=where)
    assert done.returncode == 1
    rows = {line.split()[1]: line for line in done.stdout.splitlines() if line[6:8].strip().isdigit()}
    assert rows["4"].startswith("FAILS") and rows["17"].startswith("FAILS") and rows["21"].startswith("holds")
    assert "raised" in rows["17"]
    assert "law 4, schedule_is_sound(cosine)" in done.stdout
    assert "raised RuntimeError: no such thing as 7 (in labels_drop_at_their_rate, training.py:" in done.stdout
    assert "2 of 3 laws FAIL" in done.stdout


@pytest.mark.parametrize("law", ["99", "9;11", "nine"])
def test_a_law_that_there_is_not_is_refused(law):
    done = verify("--law", law)
    assert done.returncode == 2
    assert f"numbers from 1 to 22, with commas between, got '{law}'" in done.stderr


def test_two_sizes_at_once_are_refused():
    assert verify("--quick", "--all").returncode == 2
    assert "at least 1" in verify("--workers", "0").stderr


@pytest.mark.slow
def test_quick_holds():
    done = verify("--quick", "--json")
    values = json.loads(done.stdout)
    assert done.returncode == 0
    assert len(values["laws"]) >= 15 and all(law["verdict"] == "holds" for law in values["laws"])


@pytest.mark.skipif(os.name == "nt", reason="no such signal")
def test_an_interruption_says_what_was_checked():
    process = subprocess.Popen(
        [sys.executable, "-m", "pathline", "verify", "--law", "4,11", "--workers", "1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        process.communicate(timeout=15)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted: " in err and "FAILS" not in out


def test_a_glance_and_a_day_meet_every_part():
    for law in laws():
        whole, full, quick = law.chosen(), law.chosen(FULL), law.chosen(QUICK)
        assert sorted(whole) == sorted(dict(law.cases()))
        assert whole[: len(full)] == full and full[: len(quick)] == quick and full
        if law.name == "density_follows_its_equation":
            heads, schedules = ({name.split()[k] for name in whole} for k in (0, 1))
            first = whole[: max(len(heads), len(schedules))]
            assert {name.split()[0] for name in first} == heads
            assert {name.split()[1] for name in first} == schedules
    assert len({law.number for law in laws() if law.chosen(QUICK)}) >= 15
