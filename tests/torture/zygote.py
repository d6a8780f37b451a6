"""A process that has imported everything and computed nothing: it forks one child for each line it is told.

A child begins in milliseconds, with no thread and no state of torch's. It trains as the command does, or it stops
itself (SIGSTOP), so that strace can be put to it, and then saves one checkpoint.
"""

import json
import os
import signal
import sys
import time
import traceback
from contextlib import suppress
from pathlib import Path

import torch
import torch._dynamo  # what an optimizer imports when it is made: a second that no child need spend

import pathline.cli.train
from pathline.cli.main import main
from pathline.training import checkpoint

WRONG = 3  # the exit code of a save that raised an OSError

pathline.cli.train.draw_all = lambda run, training: None


def contents(step: int) -> checkpoint.Contents:
    """What the checkpoint of a step holds: its number, many times."""
    return {name: {"w": torch.full((size,), float(step))} for name, size in zip(checkpoint.TENSORS, (3000, 3000, 60))}  # noqa: B905


def save(run: Path, step: int, keep: int) -> int:
    found = contents(step)
    signal.raise_signal(signal.SIGSTOP)
    try:
        checkpoint.write(run, step, found, {}, {})
        checkpoint.prune(run, keep, step)
    except OSError as error:
        with suppress(OSError):  # the fault may be there for good
            os.write(2, str(error).encode())
        return WRONG
    return 0


def child(told: dict) -> None:
    for number, path in ((1, os.devnull), (2, told["stderr"])):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number)
    code = 99
    try:
        code = main(told["argv"]) if "argv" in told else save(Path(told["run"]), told["step"], told["keep"])
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def answer(**values) -> None:
    print(json.dumps(values), flush=True)


if __name__ == "__main__":
    answer(ready=True)
    for line in sys.stdin:
        told = json.loads(line)
        began = time.monotonic()
        pid = os.fork()
        if pid == 0:
            child(told)
        if "run" in told:
            os.waitpid(pid, os.WUNTRACED)
            answer(pid=pid)
        elif told["kill_after"] is not None:
            time.sleep(told["kill_after"])
            os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        answer(code=os.waitstatus_to_exitcode(status), seconds=time.monotonic() - began)
