"""kill -9 at any moment: every checkpoint that can be seen is whole, and the run ends as one in one go, to the bit."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from pathline.training import checkpoint

STEPS = 40
OF_THE_CLOCK = {"seconds", "samples_per_second", "memory_mb"}


@pytest.fixture(scope="module")
def flags(tmp_path_factory):
    """Of a run that saves after every step."""
    path = tmp_path_factory.mktemp("data") / "points.npy"
    np.save(path, np.random.default_rng(0).normal(size=(60, 2)))
    settings = "--batch-size 16 --width 8 --depth 1 --log-every 1 --evaluate-every 5 --checkpoint-every 1 --keep 2"
    return ["vectors", "--data", str(path), "--steps", str(STEPS), "--precision", "float32", *settings.split()]


def end_of(run):
    """The last checkpoint of a finished run, and its log but for what a clock or the system says."""
    folder = checkpoint.folder_of(run, STEPS)
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    log = [{key: value for key, value in line.items() if key not in OF_THE_CLOCK} for line in lines]
    return {name: (folder / name).read_bytes() for name in checkpoint.FILES}, log


def whole_steps(run):
    """The steps of all checkpoints that can be seen; each must be whole."""
    return [checkpoint.load(run, step).step for step in checkpoint.steps_of(run)]


def again(run, flags):
    """How to go on with what a kill left."""
    return ["train", "--resume", run] if (run / "config.json").exists() else ["train", *flags, "--out", run]


def test_a_run_that_is_killed_twice_ends_as_one_in_one_go(zygote, flags, tmp_path, often, figure):
    assert zygote.command("train", *flags, "--out", tmp_path / "first")["code"] == 0  # the cache of data is there now
    done = zygote.command("train", *flags, "--out", tmp_path / "whole")
    assert done["code"] == 0
    truth = end_of(tmp_path / "whole")
    assert end_of(tmp_path / "first") == truth and len(truth[1]) == STEPS + STEPS // 5
    count, chance = often(2, 200), random.Random(1)
    seconds = [done["seconds"] * (k + chance.random()) / count for k in range(count)]
    found = {"before the first checkpoint": 0, "in training": 0, "after the last": 0}
    for k in range(count):
        run, has_begun = tmp_path / str(k), False
        for delay in (seconds[k], chance.choice(seconds)):
            code = zygote.command(*again(run, flags), kill_after=delay)["code"]
            assert code in (-signal.SIGKILL, 0), zygote.errors.read_text()
            steps = whole_steps(run)
            assert steps or not has_begun, "no checkpoint is left"
            has_begun = bool(steps)
            where = 2 if code == 0 or steps[-1:] == [STEPS] else 1 if steps else 0
            found[list(found)[where]] += 1
        assert zygote.command(*again(run, flags))["code"] == 0, zygote.errors.read_text()
        assert end_of(run) == truth, f"killed after {seconds[k]} s"
        shutil.rmtree(run)
    assert found["in training"] >= count // 4
    told = ", ".join(f"{number} {name}" for name, number in found.items())
    figure("kill -9 of a run that saves after every step, and of its resumption", f"{count} runs, 2 kills each",
           f"0 corrupt, {count} of {count} equal to the bit ({told})")  # fmt: skip


@pytest.mark.slow
def test_the_real_command_is_killed(zygote, flags, tmp_path, often, figure):
    count, chance = often(3, 20), random.Random(2)
    assert zygote.command("train", *flags, "--out", tmp_path / "whole")["code"] == 0
    truth, steps = end_of(tmp_path / "whole"), []
    command = [sys.executable, "-m", "pathline", "train", *flags]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    for k in range(count):
        run, last = tmp_path / str(k), k * STEPS // count
        process = subprocess.Popen([*command, "--out", str(run)], env=environment, stdout=subprocess.DEVNULL)
        while not (checkpoint.folder_of(run, last)).exists():  # then a moment more, shorter than a step or longer
            assert process.poll() is None
            time.sleep(0.001)
        time.sleep(0.03 * chance.random())
        process.kill()
        process.wait()
        steps.append(whole_steps(run)[-1])
        assert last <= steps[-1]
        assert zygote.command(*again(run, flags))["code"] == 0, zygote.errors.read_text()
        assert end_of(run) == truth
        shutil.rmtree(run)
    figure("kill -9 of the real command", f"{count} runs", f"0 corrupt, {count} of {count} equal to the bit; the last "
           f"checkpoints of {len({*steps})} different steps, {min(steps)} to {max(steps)}")  # fmt: skip


@pytest.mark.slow
def test_a_run_on_a_disk_that_runs_full_goes_on_where_there_is_room(zygote, flags, tmp_path, often, figure):
    assert zygote.command("train", *flags, "--out", tmp_path / "whole")["code"] == 0
    truth, disk, found = end_of(tmp_path / "whole"), tmp_path / "disk", []
    disk.mkdir()
    for kilobytes in range(300, 348, often(48, 4)):
        mount = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", disk]
        if subprocess.run(mount, capture_output=True).returncode:
            pytest.skip("a small disk may not be mounted")
        try:
            full = [*flags, "--keep", "99", "--out", disk / "run"]
            assert zygote.command("train", *full)["code"] == 2
            told = zygote.errors.read_text()
            assert f"{disk}/run/" in told and "No space left on device" in told and "Traceback" not in told
            found.append(whole_steps(disk / "run")[-1])
            assert 0 < found[-1] < STEPS
            assert not list((disk / "run" / "checkpoints").glob(".*"))
            shutil.copytree(disk / "run", tmp_path / "moved")
        finally:
            subprocess.run(["umount", disk], check=True)
        assert zygote.command("train", "--resume", tmp_path / "moved")["code"] == 0, zygote.errors.read_text()
        assert end_of(tmp_path / "moved") == truth
        shutil.rmtree(tmp_path / "moved")
    steps, count = f"{min(found)} to {max(found)}", len(found)
    case = "a disk that runs full in training (tmpfs), then more room"
    figure(case, f"{count} sizes", f"stopped after steps {steps}, exit code 2; {count} of {count} equal to the bit")
