"""Thousands of damaged files: each is read, or refused by a ValueError; none runs code, hangs, or takes much memory.

PATHLINE_FUZZ=10000 python -m pytest tests/units/test_fuzz_files.py      the whole of it; 200 files unless given
"""

import io
import json
import os
import pickle
import random
import resource
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

COUNT = int(os.environ.get("PATHLINE_FUZZ", "200"))
EXTRA = 256  # MB
SLOW = 5  # seconds of this process, whatever else the machine does
EVENTS = (
    "exec", "compile", "import", "pickle.", "marshal.", "os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn",
    "subprocess.", "socket.", "ctypes.", "shutil.make_archive", "urllib.",
)  # fmt: skip
NUMBERS = ("0", "1", "-1", "3", "255", "65536", "2147483648", "18446744073709551615", "9" * 30, "1e999")
DTYPES = ("<f8", ">f4", "|O", "<U9", "<U999999999", "|S0", "<f16", "|V8", "<M8[s]", "<c16", "|b1", "i8,f4", "<e", "x")
CELLS = (
    "", "nan", "-inf", "1e999", '"', '""', "'", "\0", "\r", "\n", "\t", ";", ",", "é", "1_0", "0x1p3", "=1+1", "--",
    " ", "9" * 400, "a" * 5000, '"\n' * 50, ",\n" * 99, "\ufeff", "\x1a", "\u2028",
)  # fmt: skip


class Payload:
    """What runs a command when it is unpickled."""

    def __reduce__(self):
        return os.system, ("echo ran > ran",)


def samples() -> dict[str, list[bytes]]:
    """Whole files of each kind."""
    import numpy as np

    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 3))
    xs = (
        x,
        np.asfortranarray(x),
        x.astype(">f4"),
        rng.integers(0, 255, (9, 1, 4, 4), np.uint8),
        np.arange(40) % 2 == 0,
    )

    def npy(array: object) -> bytes:
        file = io.BytesIO()
        np.save(file, array, allow_pickle=True)
        return file.getvalue()

    def npz(save: Callable[..., None], **arrays: object) -> bytes:
        file = io.BytesIO()
        save(file, **arrays)
        return file.getvalue()

    words = np.array(["a", "bé", "c", "a"] * 10)
    ys = (np.arange(40) % 3, words, np.char.encode(words, "utf-8"), x[:, 0], x[:, :2], np.arange(40) % 2 == 0)
    several = np.zeros(40, [("class", "i8"), ("numbers", "f4", (2,)), ("text", "U3")])
    several["class"], several["text"] = np.arange(40) % 3, words
    ys += (several,)
    objects = np.array([Payload()] * 40, object)
    rows = [f"{a!r},{b!r},{'abc'[k % 3]}" for k, (a, b) in enumerate(x[:, :2].tolist())]
    tables = ["\n".join(rows), "x,y,kind\n" + "\r\n".join(rows), "\ufeffa\tb\tc\n" + "\n".join(rows).replace(",", "\t")]
    tables += ['"a";"b"\n' + "\n".join(f'"{k}"; {k * k} ' for k in range(50)), "1\n2\n3\n", "a,b\n" + "1,2\n" * 3000]
    tables += ["a,b,kind\n" + "1, 2,c\n-3,4.5,d\n" * 20, "1,2,é\n" * 9, "\n".join(f"{k},{-k}" for k in range(99))]
    return {
        ".npy": [npy(array) for array in (*xs, objects, x[:0])] + [b"\x93NUMPY\x01\x00" + pickle.dumps(Payload())],
        ".npz": [npz(save, x=x, y=y) for y in ys for save in (np.savez, np.savez_compressed)]
        + [npz(np.savez, x=xs[1]), npz(np.savez_compressed, x=x, y=objects), npz(np.savez, x=objects)],
        ".csv": [table.encode() for table in tables],
    }


def mutated(data: bytes, rng: random.Random, kind: str) -> bytes:
    """A file with a few things wrong in it."""
    if kind == ".npz" and rng.random() < 0.5:  # inside, so that the checksums are right
        file, whole = io.BytesIO(), zipfile.ZipFile(io.BytesIO(data))
        warnings.simplefilter("ignore")  # of two members of one name
        with zipfile.ZipFile(file, "w", rng.choice([0, 0, 8, 8, 8, 12, 14])) as archive:
            for name in whole.namelist():
                inside = whole.read(name)
                archive.writestr(rng.choice([name] * 9 + ["z.npy", "x", "../x.npy"]), mutated(inside, rng, ".npy"))
        data = file.getvalue()
        if rng.random() < 0.7:
            return data
    found = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 1, 2, 9])):
        place = min(rng.choice([rng.randrange(200), *(rng.randrange(len(found) + 1) for _ in "abc")]), len(found))
        span = rng.choice([1, 1, 2, 4, 8, 50])
        how = rng.randrange(8 if kind == ".npy" else 7)
        if how == 0 and place < len(found):
            found[place] ^= 1 << rng.randrange(8)
        elif how == 1:
            found[place : place + span] = rng.randbytes(span)
        elif how == 2:
            found[place:place] = rng.randbytes(span)
        elif how == 3:
            del found[place : place + span]
        elif how == 4:
            found[place:] = found[place:][: rng.randrange(len(found) + 1)]
        elif how == 5:
            found[place:place] = found[place : place + 40] * rng.choice([1, 3, 100])
        elif how == 6:
            piece = (
                rng.choice(CELLS).encode() if kind == ".csv" else rng.choice([b"\0", b"\xff"]) * rng.choice([2, 4, 8])
            )
            found[place : place + rng.choice([0, len(piece)])] = piece
        else:  # what a .npy says of itself
            shape = ", ".join(rng.choice(NUMBERS[:8]) for _ in range(rng.randrange(4)))
            order = rng.choice(["True", "False", "1", "(" * 300, "-" * 4000 + "1"])
            text = f"{{'descr': '{rng.choice(DTYPES)}', 'fortran_order': {order}, 'shape': ({shape},), }}"
            version, length = rng.choice([(1, 2), (2, 4), (3, 4)])
            count = rng.choice([len(text)] * 5 + [0, 60_000])
            found[:128] = b"\x93NUMPY" + bytes([version, 0]) + count.to_bytes(length, "little") + text.encode()
    return bytes(found)


def fuzz(count: int, seed: int) -> dict[str, object]:
    """Reads so many damaged files, in a process of its own."""
    import torch

    import pathline as pl

    wholes, ran = samples(), []
    hooked = False

    def hook(event: str, given: tuple[object, ...]) -> None:
        if hooked and event.startswith(EVENTS) and not (event == "compile" and given[1] == "<unknown>"):
            ran.append(f"{event} {given!r}"[:300])  # NumPy reads a literal by a syntax tree, whose file has no name

    def read(path: Path, label: str, numbers: str) -> None:
        loaded = pl.FileSource(str(path), label, numbers).load()
        assert torch.isfinite(loaded.x[:]).all()

    def tell(path: Path, *options: str) -> str:
        try:
            read(path, *options)
        except ValueError:
            return "refused"
        return "read"

    rng, told = random.Random(seed), {"read": 0, "refused": 0}
    folder = Path.cwd()
    for suffix, files in wholes.items():  # so that all that is imported is imported
        for k, data in enumerate(files):
            path = folder / f"whole{k}{suffix}"
            path.write_bytes(data)
            tell(path, "", "")
    sys.addaudithook(hook)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for k in range(count):
        suffix = rng.choice([*wholes])
        data = mutated(rng.choice(wholes[suffix]), rng, suffix)
        path = folder / f"my{suffix}"
        path.write_bytes(data)
        options = (
            rng.choice([("", ""), ("3", ""), ("kind", ""), ("", "1"), ("", "a")]) if suffix == ".csv" else ("", "")
        )
        start = time.process_time()
        hooked = True
        try:
            told[tell(path, *options)] += 1
        except BaseException:
            hooked = False
            return {"k": k, "file": repr(data[:2000]), "error": traceback.format_exc()}
        hooked = False
        if ran or time.process_time() - start > SLOW:
            return {"k": k, "file": repr(data[:2000]), "ran": ran, "seconds": time.process_time() - start}
    extra = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10
    return told | {"extra": extra, "left": [path.name for path in folder.glob("ran*")]}


def test_damaged_files_are_read_or_refused_and_no_more(tmp_path):
    command = [sys.executable, Path(__file__).resolve(), str(COUNT), "0"]
    environment = os.environ | {"PATHLINE_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    found = json.loads(done.stdout) if done.returncode == 0 else {"error": done.stderr}
    assert "error" not in found and "ran" not in found, found
    assert found["read"] + found["refused"] == COUNT and min(found["read"], found["refused"]) > COUNT / 50
    assert found["extra"] <= EXTRA and not found["left"], found
    assert [path for path in (tmp_path / "cache").iterdir() if path.name.startswith(".")] == []


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as place:
        os.chdir(place)
        print(json.dumps(fuzz(int(sys.argv[1]), int(sys.argv[2]))))
        os.chdir("..")
