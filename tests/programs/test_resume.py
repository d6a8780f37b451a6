"""A run that is stopped, killed or damaged, by the real command: it ends as if nothing had happened."""

import getpass
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import warnings
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from pathline.cli.interruption import Interruption
from pathline.cli.main import main
from pathline.training import checkpoint

STEPS, EVALUATE = 250, 80
FLAGS = (
    f"moons --steps {STEPS} --batch-size 16 --width 8 --depth 1 --log-every 1 --evaluate-every {EVALUATE}"
    " --checkpoint-every 1000 --precision float32"
).split()
COMMAND = [sys.executable, "-m", "pathline"]
SLOW_TO_VALIDATE = """
import sys, time
from pathline import trainer
from pathline.cli.main import main
real, calls = trainer.loss_by_time, []

def slow(*arguments, is_asked_to_stop, **more):
    calls.append(1)
    patience = 2 if len(calls) == {} else 0  # in seconds, for each of ten stretches or more
    return real(*arguments, is_asked_to_stop=lambda: time.sleep(patience) or is_asked_to_stop(), **more)

trainer.loss_by_time = slow
sys.exit(main())
"""
PATIENCE = 900  # seconds in which anything here ends that does not hang, on a busy machine too
OF_THE_CLOCK = {"seconds", "samples_per_second", "memory_mb"}


@contextmanager
def as_in_a_new_process():
    """Random states of no one's making, and no pictures, which come after all that is tested here."""
    with torch.random.fork_rng(), pytest.MonkeyPatch.context() as patch:
        torch.seed()
        patch.setattr("pathline.cli.train.draw_all", lambda run, training: None)
        yield


def trained(*arguments):
    with as_in_a_new_process():
        return main(["train", *map(str, arguments)])


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nothing interrupts."""
    run = tmp_path_factory.mktemp("whole") / "run"
    assert trained(*FLAGS, "--out", run) == 0
    return run


def started(run, *flags, command=COMMAND):
    environment = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    arguments = [*command, "train", *FLAGS, *flags, "--out", str(run)]
    return subprocess.Popen(arguments, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def error_of(process):
    """The standard error of a process, when it has ended; one that hangs is killed."""
    try:
        return process.communicate(timeout=PATIENCE)[1]
    finally:
        process.kill()


def slow_to_validate(count):
    """The command, with a validation that takes 20 seconds or more, counted from 1."""
    return [sys.executable, "-c", SLOW_TO_VALIDATE.format(count)]


def await_step(process, run, step):
    """Wait until a step is in the log."""
    path, end = run / "metrics.jsonl", time.monotonic() + PATIENCE
    try:
        while f'{{"step": {step}, ' not in (path.read_text() if path.exists() else ""):
            assert process.poll() is None, process.stderr.read()
            assert time.monotonic() < end, f"step {step} did not come"
            time.sleep(0.005)
    except AssertionError:
        process.kill()  # what is left over would make other tests fail
        raise


def log(run):
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [{key: value for key, value in line.items() if key not in OF_THE_CLOCK} for line in lines]


def ends_as(run, whole):
    """Go on with a run in this process; it must end with the same bytes and the same log."""
    assert trained("--resume", run) == 0
    for name in ("model", "ema", "optimizer"):
        path = Path("checkpoints", f"step-{STEPS:08d}", f"{name}.safetensors")
        assert (run / path).read_bytes() == (whole / path).read_bytes()
    assert log(run) == log(whole) and len(log(run)) == STEPS + 4
    return True


# ---- stopping


@pytest.mark.parametrize(
    ("number", "code", "command", "step"),
    [
        (signal.SIGINT, 130, COMMAND, 7),
        (signal.SIGTERM, 143, slow_to_validate(1), EVALUATE),
        pytest.param(signal.SIGTERM, 143, COMMAND, 60, marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, 130, slow_to_validate(4), STEPS, marks=pytest.mark.slow),
    ],
    ids=["SIGINT", "SIGTERM in a validation", "SIGTERM", "SIGINT in the last validation"],
)
def test_a_run_that_is_stopped_goes_on_bit_for_bit(tmp_path, whole, number, code, command, step):
    run = tmp_path / "run"
    process = started(run, command=command)
    await_step(process, run, step)
    process.send_signal(number)
    process.send_signal(number)  # as `timeout` tells a process, then its group
    told = error_of(process)
    assert process.returncode == code, told
    stopped = checkpoint.steps_of(run)[-1]
    assert told == f"interrupted at step {stopped}; go on with: pathline train --resume {run}\n"
    assert stopped == step if command != COMMAND else step <= stopped < STEPS
    if command != COMMAND:  # it did not wait for the end of the validation
        assert not any(line["step"] == step and "held_out_loss" in line for line in log(run))
    checkpoint.load(run, stopped)
    assert ends_as(run, whole)


def test_a_second_wish_to_stop_is_not_waited_for(monkeypatch):
    now = [5.0]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    monkeypatch.setattr("pathline.cli.interruption.time.monotonic", lambda: now[0])
    with Interruption() as interruption:
        for _ in range(3):  # at once: one wish
            signal.raise_signal(signal.SIGINT)
        assert interruption.number == signal.SIGINT
        now[0] += 1.5
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.signal(signal.SIGINT, before) is signal.default_int_handler


def test_a_second_trainer_is_refused_until_the_first_is_killed(tmp_path, whole, capfd):
    run = tmp_path / "run"
    process = started(run, "--checkpoint-every", "10")
    await_step(process, run, 12)
    process.send_signal(signal.SIGSTOP)  # so that it is still there when the others come
    try:
        files = sorted(path for path in run.rglob("*"))
        for flags in (["--resume", run], [*FLAGS, "--overwrite", "--out", run]):
            assert trained(*flags) == 2
            assert f"{run} is being trained by another process" in capfd.readouterr().err
        assert sorted(path for path in run.rglob("*")) == files
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == -signal.SIGKILL
    checkpoint.newest(run)
    config = (whole / "config.json").read_text().replace('"checkpoint_every": 1000', '"checkpoint_every": 10')
    assert (run / "config.json").read_text() == config
    assert ends_as(run, whole)


@pytest.mark.parametrize("is_there", [False, True])
def test_a_run_that_was_killed_before_its_first_checkpoint_begins(tmp_path, whole, is_there):
    run = tmp_path / "run"
    run.mkdir()
    shutil.copy(whole / "config.json", run)
    if is_there:
        shutil.copytree(whole / "checkpoints" / "step-00000000", run / "checkpoints" / ".step-00000000.new")
    assert ends_as(run, whole)
    assert {path.name for path in (run / "checkpoints").iterdir()} == {"step-00000000", f"step-{STEPS:08d}"}


def test_a_run_that_was_killed_while_it_was_replaced_can_be_replaced(tmp_path, whole, monkeypatch, capsys):
    for count in range(1, 5):
        run, calls = tmp_path / f"{count}", []
        shutil.copytree(whole, run)
        real = shutil.rmtree

        def killed(path, *arguments, calls=calls, count=count, real=real, **keywords):
            calls.append(path)
            if len(calls) == count:
                raise KeyboardInterrupt
            real(path, *arguments, **keywords)

        with monkeypatch.context() as patch:
            patch.setattr("pathline.runs.shutil.rmtree", killed)
            code = trained(*FLAGS, "--steps", 1, "--overwrite", "--out", run)
        if code == 0:
            break
        assert trained(*FLAGS, "--steps", 1, "--out", run) == 2  # what is left is no new folder
        assert "exists already" in capsys.readouterr().err
        assert trained(*FLAGS, "--steps", 1, "--overwrite", "--out", run) == 0
        assert checkpoint.steps_of(run) == [0, 1] and len(log(run)) == 2
    assert count > 2  # the samples and the checkpoints at least are folders


# ---- damage


def told(capsys, *arguments):
    """The exit code of the command, what it printed, and its lines of warning."""
    capsys.readouterr()
    with warnings.catch_warnings(), as_in_a_new_process():
        warnings.simplefilter("default")
        code = main(list(map(str, arguments)))
    out, err = capsys.readouterr()
    return code, out, err.splitlines()


def test_a_damaged_checkpoint_is_told_of_and_the_one_before_is_used(tmp_path, moons, capsys):
    run = tmp_path / "run"
    shutil.copytree(moons, run)
    (run / "README.md").unlink()
    path = run / "checkpoints" / "step-00000006" / "ema.safetensors"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    words = f"{path} is damaged: its bytes are not the ones written; an earlier checkpoint is used instead"

    code, out, _ = told(capsys, "info", run)
    assert code == 1 and "damaged" in out and "whole" in out
    assert told(capsys, "info", moons)[0] == 0

    code, _, err = told(capsys, "sample", run, "--count", 3, "--steps", 1, "--out", tmp_path / "x.npz")
    assert code == 0 and err == [f"pathline sample: {words}"]

    code, out, err = told(capsys, "train", "--resume", run)
    assert code == 0 and err == [f"pathline train: {words}"]
    whole = Path("checkpoints", "step-00000006", "model.safetensors")
    assert (run / whole).read_bytes() == (moons / whole).read_bytes()
    assert told(capsys, "info", run)[0] == 0


def test_a_run_of_which_all_checkpoints_are_damaged_is_refused(tmp_path, moons, capsys):
    run = tmp_path / "run"
    shutil.copytree(moons, run)
    for step in checkpoint.steps_of(run):
        (run / "checkpoints" / f"step-{step:08d}" / "state.json").write_bytes(b"{}")
    before = sorted(run.rglob("*"))
    for command in (("train", "--resume", run), ("sample", run, "--out", tmp_path / "x.npz")):
        code, _, err = told(capsys, *command)
        assert code == 2 and "step-00000000/state.json is damaged" in err[-1] and "Traceback" not in "".join(err)
    assert sorted(run.rglob("*")) == before


# ---- what is in the files, and who may read them


@pytest.mark.parametrize("umask", [0o027, pytest.param(0o077, marks=pytest.mark.slow)])
def test_files_have_the_modes_that_the_umask_leaves(tmp_path, tiny, umask):
    run, before = tmp_path / "run", os.umask(umask)
    try:
        assert main(["train", "moons", *tiny, "--preview-every", "3", "--out", str(run)]) == 0
    finally:
        os.umask(before)
    modes = {str(path.relative_to(run)): (path.is_dir(), path.stat().st_mode & 0o777) for path in run.rglob("*")}
    assert {"checkpoints/step-00000006/manifest.json", "samples/grid.png", "README.md", ".lock"} <= modes.keys()
    wrong = {name: oct(mode) for name, (is_dir, mode) in modes.items() if mode != (0o777 if is_dir else 0o666) & ~umask}
    assert wrong == {}


def test_a_checkpoint_tells_nobody_who_made_it_and_where(whole):
    private = {getpass.getuser(), socket.gethostname(), str(Path.home()), str(Path.cwd()), str(whole), sys.prefix}
    files = [path for path in (whole / "checkpoints").rglob("*") if path.is_file()]
    assert len(files) == 10
    for path in files:
        data = path.read_bytes()
        assert [word for word in private if len(word) > 3 and word.encode() in data] == []
        if path.suffix == ".json":
            assert re.findall(rb'"/|"[A-Z]:\\\\|[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+', data) == []
