"""Mutated checkpoints: a ValueError or nothing, little memory, and no code is run.

Half of them have a manifest that was made right again, so that what reads tensors and plain values is tried as well.
PATHLINE_FUZZ=10000 tries so many, in place of a few.
"""

import hashlib
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

COUNT = int(os.environ.get("PATHLINE_FUZZ", "300"))
MEMORY = 256  # MiB beyond what reading good ones takes
RUNS_CODE = (
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "subprocess.",
    "exec",
    "compile",
    "import",
    "pickle.",
    "marshal.",
)
EDGES = [
    b"\0" * 8,
    b"\xff" * 8,
    b"F32",
    b"F64",
    b"I64",
    b"BOOL",
    b"[0]",
    b"[-1]",
    b"9999999999",
    b"null",
    b'""',
    b"[" * 3000,
]


def main(count: int) -> None:
    """Read mutated checkpoints; a line for each thing that must not happen, and a last one that counts."""
    import torch

    import pathline as pl
    from pathline.training import checkpoint
    from pathline.training.loop import adamw

    def training() -> tuple[object, pl.EMA, torch.optim.Optimizer]:
        loss = pl.MatchingLoss(pl.NetworkField(pl.MLP(2, 4, 1), pl.GaussianPath(pl.LinearSchedule())))
        ema, optimizer = pl.EMA(loss.field), adamw(loss, 1e-3)
        list(pl.train(loss, torch.randn(8, 2), steps=2, batch_size=4, optimizer=optimizer, ema=ema))
        return loss.field, ema, optimizer

    done: list[str] = []
    is_watching = False

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        if is_watching and event.startswith(RUNS_CODE):
            done.append(f"{event} {str(arguments)[:100]}")

    with tempfile.TemporaryDirectory() as name:
        run, parts, draw = Path(name), training(), random.Random(0)
        folder = checkpoint.save(run, 2, *parts)
        checkpoint.restore(checkpoint.load(run, 2), *parts)
        good = {path: path.read_bytes() for path in sorted(folder.iterdir())}
        sys.addaudithook(watch)
        before, refused, read = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, 0, 0
        for k in range(count):
            path = draw.choice(list(good))
            path.write_bytes(mutated(good[path], draw))
            if k % 2 and path.name != "manifest.json":
                signed(folder / "manifest.json", path)
            is_watching = True
            try:
                checkpoint.restore(checkpoint.load(run, 2), *parts)
                read += 1
                if path.read_bytes() != good[path] and not k % 2:
                    done.append(f"{k}: a change of {path.name} was not seen")
            except ValueError:
                refused += 1
            except BaseException as error:
                done.append(f"{k}, {path.name}: {error!r}"[:300])
            is_watching = False
            for changed in (path, folder / "manifest.json"):
                changed.write_bytes(good[changed])
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024
    for each in done[:20] + ([f"{grown} MiB more"] if grown > MEMORY else []):
        print(each)
    print(f"{count} checkpoints, {refused} refused, {read} read, {grown} MiB more")


def mutated(data: bytes, draw: random.Random) -> bytes:
    """The same with a few bytes, words or pieces changed."""
    found = bytearray(data)
    for _ in range(draw.choice([1, 1, 2, 8])):
        at = draw.randrange(min(len(found), draw.choice([16, 600, 1 << 30])) + 1)  # the header most often
        way = draw.randrange(5)
        if way <= 1 and found:
            found[at % len(found)] = draw.randrange(256)
        elif way == 2:
            edge = draw.choice(EDGES)
            found[at : at + len(edge)] = edge
        elif way == 3:
            del found[at : at + draw.randrange(1, 32)]
        elif draw.random() < 0.3:
            del found[at:]
    return bytes(found)


def signed(manifest: Path, path: Path) -> None:
    """Make a manifest say that a file is right as it is now."""
    values, data = json.loads(manifest.read_bytes()), path.read_bytes()
    values.pop("sha256")
    values["files"][path.name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    own = hashlib.sha256(json.dumps(values).encode()).hexdigest()
    manifest.write_text(json.dumps({**values, "sha256": own}, indent=1) + "\n")


def test_a_mutated_checkpoint_is_refused_or_harmless():
    done = subprocess.run([sys.executable, __file__, str(COUNT)], capture_output=True, text=True, timeout=3600)
    assert done.returncode == 0, done.stderr[-2000:]
    *wrong, last = done.stdout.splitlines()
    assert not wrong, wrong
    count, refused, read, _ = (int(word) for word in last.replace(",", "").split() if word.isdigit())
    assert count == COUNT and refused > COUNT / 2 and refused + read == count
    assert read  # some changes only change a number: what reads was reached


if __name__ == "__main__":
    main(int(sys.argv[1]))
