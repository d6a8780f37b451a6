"""Several processes by torchrun, through the real command: as one, on any number, killed, asked to stop, refused."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from pathline.cli.main import main
from pathline.runs import Run
from pathline.training import checkpoint

LONG = "--steps 600 --batch-size 16 --width 8 --depth 1 --checkpoint-every 50".split()
LOSSES = ("loss", "held_out_loss", "gradient_norm")
ROUNDED = 1e-4  # a twentieth of a step: AdamW divides by gradients that are almost 0 while the last layer is
SECONDS = 900  # in which anything here ends that does not hang, on a busy machine too


class Result(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def said(self) -> list[str]:
        """The lines that pathline wrote to stderr; torchrun has a report of its own."""
        begins = ("pathline train", "interrupted", "[rank")
        return [line for line in self.err.splitlines() if line.startswith(begins)]


@contextlib.contextmanager
def started(*arguments, launch=("--standalone", "--nproc-per-node", "2"), cwd=None):
    """Torchrun with two processes of `pathline train`; it is gone in the end, with all that it started."""
    command = [sys.executable, "-m", "torch.distributed.run", *launch, "-m", "pathline", "train", *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, cwd=cwd, env=environment) as process:
        try:
            yield process
        finally:
            left = workers(process)
            for number in (process.pid, *left.values()):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(number, signal.SIGKILL)


def workers(launcher) -> dict[int, int]:
    """The processes that a launcher started, by rank."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError):
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            about = dict(entry.split("=", 1) for entry in (folder / "environ").read_text().split("\0") if "=" in entry)
            if parent == launcher.pid and "RANK" in about:
                found[int(about["RANK"])] = int(folder.name)
    return found


def end_of(process) -> Result:
    out, err = process.communicate(timeout=SECONDS)
    return Result(process.returncode, out, err)


def torchrun(*arguments, **keywords) -> Result:
    with started(*arguments, **keywords) as process:
        return end_of(process)


def done(*arguments, **keywords) -> Result:
    """Torchrun, which must succeed, and whose first process alone must tell."""
    result = torchrun(*arguments, **keywords)
    assert result.code == 0, result.err
    assert result.err == ""
    return result


def cut(run, to, step) -> Path:
    """A copy of a run as it was when it was killed after this step's checkpoint."""
    shutil.copytree(run, to)
    (to / "README.md").unlink()
    for later in checkpoint.steps_of(to):
        if later > step:
            shutil.rmtree(checkpoint.folder_of(to, later))
    return to


def held(run):
    """All that the newest checkpoint of a run holds, but random states: each process has its own."""
    found = checkpoint.newest(run)
    parts = {"model": found.model, "ema": found.ema, "optimizer": found.optimizer}
    return {
        f"{part} {name}": x for part, held in parts.items() for name, x in held.items() if not name.startswith("rng.")
    }


def far(a, b):
    """How far two runs are apart: the largest difference of a weight or an average, whose size is about one."""
    a, b = held(a), held(b)
    assert a.keys() == b.keys() and all(a[name].shape == b[name].shape for name in a)
    return max(float((a[name] - b[name]).abs().max()) for name in a if not name.startswith("optimizer"))


def same(a, b):
    a, b = held(a), held(b)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def wait_for(condition, process):
    """Poll until something is so, while a process lives."""
    end = time.monotonic() + SECONDS
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)


# ---- as one, on any number

LEAVES = """
import sys, torch
from pathlib import Path
from pathline.training.distributed import joined
with joined() as group:
    group.spread(torch.nn.Linear(2, 1))(torch.ones(3, 2)).sum().backward()
print(*(task.joinpath("comm").read_text().strip() for task in Path("/proc/self/task").iterdir()))
"""


def test_who_leaves_a_group_takes_its_threads_along(tmp_path):  # one that is late aborts Python as it ends
    script = tmp_path / "leaves.py"
    script.write_text(LEAVES)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    told = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=SECONDS, check=True)
    assert len(told.stdout.splitlines()) == 2 and "gloo" not in told.stdout


def test_two_processes_train_as_one_and_one_goes_on_for_them(moons, tiny, tmp_path, capsys):
    run = tmp_path / "run"
    told = done("moons", *tiny, "--out", run).out
    assert [told.count(words) for words in ("samples to train on", "6 of 6 steps", "try next")] == [1, 1, 1]
    assert checkpoint.newest(run).state["processes"] == 2
    assert far(run, moons) < 1e-6
    for a, b in zip(Run.open(run).metrics(), Run.open(moons).metrics(), strict=True):
        assert a["step"] == b["step"]
        assert [a[name] for name in LOSSES if name in a] == pytest.approx([b[name] for name in LOSSES if name in b])
    again = cut(run, tmp_path / "again", 3)
    capsys.readouterr()
    assert main(["train", "--resume", str(again)]) == 0
    assert "processes was 2 and is 1 now" in capsys.readouterr().out.replace("\n", " ")
    assert far(again, moons) < 1e-6


@pytest.mark.slow
def test_two_processes_go_on_for_one_and_for_two(digits, tiny, tmp_path):
    one = cut(digits, tmp_path / "one", 3)
    assert "processes was 1 and is 2 now: training goes on, but no longer bit for bit" in done("--resume", one).out
    assert far(one, digits) < ROUNDED
    whole = tmp_path / "whole"
    done("digits", *tiny, "--out", whole)
    two = cut(whole, tmp_path / "two", 3)
    assert "bit for bit" not in done("--resume", two).out
    assert same(two, whole)


@pytest.mark.slow
def test_shared_weights_train_as_whole_ones_and_either_goes_on_for_the_other(digits, tiny, tmp_path, capsys):
    run = tmp_path / "run"
    told = done("digits", *tiny, "--shard", "--preview-every", 3, "--out", run).out
    assert [told.count(words) for words in ("samples to train on", "6 of 6 steps", "try next")] == [1, 1, 1]
    assert far(run, digits) < ROUNDED and checkpoint.newest(run).state["shard"] is True
    assert sorted(path.name for path in run.glob("samples/preview-*")) == [
        "preview-00000003.png",
        "preview-00000006.png",
    ]

    shared = cut(run, tmp_path / "shared", 3)
    assert "bit for bit" not in done("--resume", shared).out
    assert same(shared, run)
    whole = cut(run, tmp_path / "whole", 3)
    assert "shard was True and is False now" in done("--resume", whole, "--no-shard").out
    assert far(whole, digits) < ROUNDED
    one = cut(run, tmp_path / "one", 3)
    capsys.readouterr()
    assert main(["train", "--resume", str(one)]) == 0
    assert "processes was 2 and is 1 now" in capsys.readouterr().out.replace("\n", " ")
    assert far(one, digits) < ROUNDED
    back = cut(one, tmp_path / "back", 3)
    done("--resume", back, "--shard")
    assert far(back, digits) < ROUNDED


@pytest.mark.slow
@pytest.mark.parametrize("flags", ["--accumulate 2 --depth 2", "--accumulate 2 --depth 2 --shard"])
def test_half_precision_in_pieces_is_shared_out_without_a_warning(tiny, tmp_path, flags):
    run = tmp_path / "run"
    done("digits", *tiny, *flags.split(), "--precision", "bfloat16", "--out", run)
    alone = tmp_path / "alone"
    assert main(["train", "digits", *tiny, *flags.split()[:4], "--precision", "bfloat16", "--out", str(alone)]) == 0
    assert (
        far(run, alone) < 0.02
    )  # bfloat16 has 8 bits: steps of AdamW, 2e-3 each, differ in sign where gradients are 0


@pytest.mark.slow
@pytest.mark.parametrize("flags", ["", "--shard"])
def test_one_process_by_torchrun_is_one_process(moons, tiny, tmp_path, flags):
    run = tmp_path / "run"
    done("moons", *tiny, *flags.split(), "--out", run, launch=("--standalone", "--nproc-per-node", "1"))
    assert far(run, moons) < 1e-6


@pytest.mark.slow
def test_global_transport_on_two_processes_is_that_of_one(tiny, tmp_path):
    flags = [*tiny, "--coupling", "optimal-transport:is_global=true"]
    for size, name in ((2, "two"), (1, "one")):
        done("moons", *flags, "--out", tmp_path / name, launch=("--standalone", "--nproc-per-node", str(size)))
    assert far(tmp_path / "two", tmp_path / "one") < 1e-6


@pytest.mark.slow
def test_two_launchers_that_share_a_folder_are_one_job(moons, tiny, tmp_path):
    port = free_port()
    launch = ["--nnodes", "2", "--nproc-per-node", "1", "--master-addr", "127.0.0.1", "--master-port", str(port)]
    arguments = ["moons", *tiny, "--out", tmp_path / "run"]
    with (
        started(*arguments, launch=[*launch, "--node-rank", "0"]) as first,
        started(*arguments, launch=[*launch, "--node-rank", "1"]) as second,
    ):
        ends = [end_of(first), end_of(second)]
    assert [end.code for end in ends] == [0, 0], ends
    assert "try next" in ends[0].out and ends[1].out == ""
    assert far(tmp_path / "run", moons) < 1e-6


@pytest.mark.slow
def test_machines_that_share_no_folder_are_told_so(tiny, tmp_path):
    port = free_port()
    launch = ["--nnodes", "2", "--nproc-per-node", "1", "--master-addr", "127.0.0.1", "--master-port", str(port)]
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder in folders:
        folder.mkdir()
    arguments = ["moons", *tiny, "--out", "run"]
    with (
        started(*arguments, launch=[*launch, "--node-rank", "0"], cwd=folders[0]) as first,
        started(*arguments, launch=[*launch, "--node-rank", "1"], cwd=folders[1]) as second,
    ):
        ends = [end_of(first), end_of(second)]
    assert all(end.code for end in ends)
    assert len(ends[0].said + ends[1].said) == 1
    assert "name a folder that all machines share" in ends[1].err


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


# ---- killed, and asked to stop


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of two processes that nothing happened to."""
    run = tmp_path_factory.mktemp("whole") / "run"
    done("moons", *LONG, "--out", run)
    return run


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_job_ends_when_a_process_is_killed_and_goes_on_bit_for_bit(whole, tmp_path, rank):
    run = tmp_path / "run"
    with started("moons", *LONG, "--out", run) as process:
        wait_for(lambda: checkpoint.steps_of(run)[-1:] > [0], process)
        os.kill(workers(process)[rank], signal.SIGKILL)
        result = end_of(process)
        assert result.code != 0
        assert not workers(process)
    assert 0 < checkpoint.newest(run).step < 600
    assert len(result.said) == 1 and "another of the processes that train is gone" in result.said[0]
    done("--resume", run)
    assert same(run, whole)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_job_that_is_asked_to_stop_leaves_a_checkpoint_and_goes_on_bit_for_bit(whole, tmp_path, number):
    run = tmp_path / "run"
    with started("moons", *LONG, "--out", run) as process:
        wait_for(lambda: checkpoint.steps_of(run)[-1:] > [0], process)
        process.send_signal(number)
        result = end_of(process)
    step = checkpoint.newest(run).step
    assert result.code != 0 and 0 < step < 600
    assert result.said == [f"interrupted at step {step}; go on with: pathline train --resume {run}"]
    done("--resume", run)
    assert same(run, whole)


@pytest.mark.slow
def test_a_process_that_alone_is_asked_to_stop_stops_all(tmp_path):
    run = tmp_path / "run"
    with started("moons", *LONG, "--out", run) as process:
        wait_for(lambda: checkpoint.steps_of(run)[-1:] > [0], process)
        os.kill(workers(process)[1], signal.SIGTERM)
        result = end_of(process)
    step = checkpoint.newest(run).step
    assert result.code != 0 and 0 < step < 600
    assert result.said == [f"interrupted at step {step}; go on with: pathline train --resume {run}"]


# ---- refused


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("moons --bogus 3", ("unknown flag --bogus",)),
        ("mons", ("unknown preset 'mons'; did you mean 'moons'?",)),
        ("moons --steps 0", ("--steps must be at least 1, got 0",)),
        ("moons --out {moons}", ("exists already", "--overwrite")),
        ("moons --batch-size 1", ("batch_size must give each of 2 processes a sample", "got 1")),
        ("--resume {moons}/nothing", ("is no run folder",)),
        ("--resume {moons} --width 9", ("cannot change --width",)),
        ("vectors --data nothing.csv", ("there is no file nothing.csv",)),
    ],
)
def test_what_is_wrong_is_said_once_and_the_job_ends(moons, tmp_path, arguments, words):
    result = torchrun(*arguments.format(moons=moons).split(), cwd=tmp_path)
    assert result.code != 0 and result.out == ""
    assert all(word in result.err for word in words), result.err
    assert sum(words[0] in line for line in result.err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []  # nor is a run begun


def test_weights_cannot_be_shared_out_by_one_process(moons, capsys, tmp_path):
    for arguments in (["moons", "--out", str(tmp_path / "run")], ["--resume", str(moons)]):
        assert main(["train", *arguments, "--shard"]) == 2
        assert "start several with torchrun --nproc-per-node 2 -m pathline train" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
