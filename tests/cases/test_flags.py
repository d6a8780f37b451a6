"""What is wrong with a command line is one sentence with the flag's name, and exit code 2: before, a box of lines."""

import pytest

from pathline.cli.main import main

LINES = [
    # given, what the sentence names
    ("sample", "RUN is missing"),
    ("sample runs/x --count x", "--count must be a whole number below 2**63, got 'x'"),
    ("sample runs/x --count 1e30", "--count must be a whole number below 2**63, got '1e30'"),
    ("sample runs/x --count=", "--count must be a whole number below 2**63, got ''"),
    ("sample runs/x --count 99999999999999999999", "--count must be a whole number below 2**63"),
    (f"sample runs/x --seed {'9' * 5000}", "of 5,000 characters"),
    ("sample runs/x --cuont 3", "unknown flag --cuont; did you mean --count?"),
    ("sample runs/x -q", "unknown flag -q"),
    ("sample runs/x extra", "'extra' is one word too many"),
    ("sample runs/x --class", "--class needs a value"),
    ("sample runs/x --class --seed 3", "--class needs a value"),
    ("sample runs/x --guidance nan", "--guidance must be a number, got 'nan'"),
    ("sample runs/x --guidance two", "--guidance must be a number, got 'two'"),
    ("edit runs/x --invert=yes", "--invert takes no value, got 'yes'"),
    ("verify --no-quick", "unknown flag --no-quick"),
    ("verify --quick=1", "--quick takes no value"),
    ("tune runs/x --evaluations 8.5", "--evaluations must be a whole number"),
    ("info", "RUN is missing"),
    ("info \ud800", "RUN must be a path, which can be encoded, got '\\ud800'"),
    ("compare runs/x --out \ud800.png", "--out must be a path, which can be encoded"),
    ("train moons --batch-size 0", "--batch-size must be at least 1, got 0"),
    ("train moons --batch_size 0", "--batch-size must be at least 1, got 0"),
    ("train moons --learning-rate nan", "--learning-rate must be a number"),
    ("train moons --lr-schedule no", "unknown --lr-schedule 'no'"),
    ("train moons --is-conditional=no", "--is-conditional takes no value"),
]


@pytest.mark.parametrize(("line", "need"), LINES, ids=[line[:40].encode("ascii", "replace") for line, _ in LINES])
def test_one_sentence(line, need, capsys):
    assert main(line.split(" ")) == 2
    told = capsys.readouterr()
    assert told.out == "" and told.err.startswith(f"pathline {line.split()[0]}: ")
    assert need in told.err and told.err.count("\n") == 1 and "\u2500" not in told.err


def test_help_is_as_it_was(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["sample", "--help"])
    assert not stopped.value.code and "--guidance" in capsys.readouterr().out
