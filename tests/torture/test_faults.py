"""A save that is killed, or whose disk fails or is full, at each of its calls: what is there is all old or all new."""

import errno
import re
import resource
import shutil
import signal
import subprocess
import warnings
from collections import Counter
from pathlib import Path

import pytest
import torch

from pathline.training import checkpoint

WRONG = 3
CALLS = ("mkdir", "openat", "write", "fsync", "rename", "unlinkat", "rmdir")
FAULTS = {"KILL": "signal=KILL", "ENOSPC": "error=ENOSPC", "EIO": "error=EIO"}
SIZES = (3000, 3000, 60)


def contents(step):
    """What the checkpoint of a step holds: its number, many times."""
    return {n: {"w": torch.full((size,), float(step))} for n, size in zip(checkpoint.TENSORS, SIZES, strict=True)}


def saved(run, *steps):
    for step in steps:
        checkpoint.write(run, step, contents(step), {}, {})


def holds(run):
    """The steps whose checkpoints are whole and hold what was written; the others that can be seen are damaged."""
    found = []
    for step in checkpoint.steps_of(run):
        try:
            whole = checkpoint.load(run, step)
        except ValueError:
            continue
        assert all((part["w"] == step).all() for part in (whole.model, whole.ema, whole.optimizer))
        found.append(step)
    return found


def under_strace(zygote, run, inject, log=Path("/dev/null")):
    """The exit code of a child that saves step 3 and keeps 2, with a fault put in; strace is there for nothing else."""
    zygote.tell(run=str(run), step=3, keep=2)
    pid = zygote.answer()["pid"]
    flags = ["-e", f"trace={','.join(CALLS)}", *(["-e", f"inject={inject}"] if inject else [])]
    strace = subprocess.Popen(["strace", *flags, "-o", str(log), "-p", str(pid)], stderr=subprocess.PIPE, text=True)
    line = strace.stderr.readline()
    subprocess.run(["kill", "-CONT", str(pid)], check=True)
    code = zygote.answer()["code"]
    strace.communicate()
    assert "attached" in line, line
    return code


def begun(run, is_damaged):
    """A run with checkpoints of steps 1 and 2, and perhaps one of step 3 that is damaged."""
    saved(run, 1, 2)
    if is_damaged:
        saved(run, 3)
        (checkpoint.folder_of(run, 3) / "ema.safetensors").write_bytes(b"")


def calls_of(zygote, folder, is_damaged):
    """How often a save of step 3, with the removal of what is more than 2 then, makes each call."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not there")
    begun(folder / "run", is_damaged)
    try:
        assert under_strace(zygote, folder / "run", "", folder / "log") == 0
    except AssertionError as error:
        if "Operation not permitted" in str(error):
            pytest.skip("strace may not be put to a process")
        raise
    assert holds(folder / "run") == [2, 3]
    found = Counter(re.findall(r"^(\w+)\(", (folder / "log").read_text(), re.MULTILINE))
    assert found["write"] >= 5 and found["fsync"] >= 7 and found["rename"] >= 2 and found["unlinkat"] >= 5
    return found


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("is_damaged", [False, True], ids=["a new step", "a damaged step again"])
def test_a_fault_at_any_call_of_a_save_leaves_all_old_or_all_new(zygote, tmp_path, often, figure, fault, is_damaged):
    calls = calls_of(zygote, tmp_path, is_damaged)
    cases = [(call, k, more) for call in CALLS for k in range(1, calls[call] + 1) for more in ("", "+")]
    if fault == "KILL":
        cases = [case for case in cases if not case[2]]
    cases = cases[:: often(len(cases) // (2 if is_damaged else 4), 1)]
    seen = Counter()
    for number, (call, k, more) in enumerate(cases):
        run = tmp_path / str(number)
        begun(run, is_damaged)
        code = under_strace(zygote, run, f"{call}:{FAULTS[fault]}:when={k}{more}")
        case = f"{fault} at {call} {k}{more}"
        steps, told = holds(run), zygote.errors.read_text()
        assert code == -signal.SIGKILL if fault == "KILL" else code in (0, WRONG), (case, code)
        assert steps in ([1, 2], [1, 2, 3], [2, 3]), (case, steps)
        assert (set(checkpoint.steps_of(run)) - {*steps}) <= ({3} if is_damaged else set()), case
        if code == WRONG and steps == [1, 2] and call != "unlinkat":
            left = [path.name for path in (run / "checkpoints").glob(".*")]
            assert left == [] or more, (case, left)  # a disk that goes on failing may keep what is hidden
            if not (more and call == "write"):
                assert re.search(r"cannot write the checkpoint .*; it needs 0\.0 MB, [\d,.]+ MB are free", told), case
        seen["new" if 3 in steps else "old"] += 1
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert checkpoint.newest(run).step == steps[-1]
        saved(run, 4)  # on a disk that is well again, what was left is in nobody's way
        checkpoint.prune(run, 2, 4)
        assert holds(run)[-1] == 4 and not list((run / "checkpoints").glob(".*")), case
        shutil.rmtree(run)
    what = "a damaged step saved again" if is_damaged else "a new step and the removal of an old one"
    count = f"{len(cases)} ({', '.join(f'{calls[c]} {c}' for c in CALLS)})"
    figure(f"{fault} at every call of a save: {what}", count, f"0 torn; {seen['old']} all old, {seen['new']} all new")


def needs_room(run, step):
    """A save for which there is no room: what is said."""
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    with pytest.raises(OSError) as error:
        saved(run, step)
    assert error.value.errno in (errno.ENOSPC, errno.EFBIG)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["step-00000001"]
    return str(error.value)


def test_a_limit_on_files_leaves_the_old_checkpoint_and_says_so(tmp_path, often, figure):
    saved(tmp_path, 1)
    largest = max(path.stat().st_size for path in (tmp_path / "checkpoints").rglob("*.safetensors"))
    limits = range(0, largest, often(largest // 6, 8))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    for limit in limits:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
        try:
            said = needs_room(tmp_path, 2)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert str(tmp_path / "checkpoints" / "step-00000002") in said and "make room there" in said
    saved(tmp_path, 2)
    assert holds(tmp_path) == [1, 2]
    figure("a limit on the size of files (RLIMIT_FSIZE)", f"{len(limits)} limits", "the old one whole, nothing left")


def test_a_full_disk_leaves_the_old_checkpoint_and_says_so(tmp_path, often, figure):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", disk], capture_output=True)
    if mount.returncode:
        pytest.skip("a small disk may not be mounted")
    try:
        run, filler, page = disk / "run", disk / "filler", resource.getpagesize()
        saved(run, 1)
        free = shutil.disk_usage(disk).free
        saved(run, 2)
        need = free - shutil.disk_usage(disk).free
        shutil.rmtree(checkpoint.folder_of(run, 2))
        assert need > 6 * page
        rooms = range(0, need, page * often(4, 1))
        for room in rooms:
            filler.write_bytes(b"x" * (free - room))
            said = needs_room(run, 2)
            filler.unlink()
            assert str(run / "checkpoints" / "step-00000002") in said and "make room there" in said
            assert f"it needs {sum(4 * size for size in SIZES) / 1e6:,.1f} MB" in said and "MB are free" in said
        filler.write_bytes(b"x" * (free - need))
        saved(run, 2)
        assert holds(run) == [1, 2]
    finally:
        subprocess.run(["umount", disk], check=True)
    figure("a full disk (tmpfs)", f"{len(rooms)} amounts of room, page by page", "the old one whole, nothing left")
