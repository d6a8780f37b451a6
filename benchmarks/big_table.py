"""A table of 3 GB in less than 2 GB of memory: `python benchmarks/big_table.py` (some minutes, and 7 GB of disk).

Writes a CSV of normal numbers with a class in its last column, and starts `pathline train vectors` on it twice, with at
most 2 GB of memory of its own (RLIMIT_DATA: heap, stacks and private maps; pages of files that are only read are not
limited, but counted below). Printed for each start: seconds to the first step, the peak of resident memory (VmHWM), and
the peak of the part of it that no file backs (RssAnon). To reach: 90 seconds for the first start, 1 GB for each peak.

    python benchmarks/big_table.py [--gigabytes 3] [--columns 16] [--digits 6] [--folder DIR]
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

LIMIT = 2 << 30
ROWS = 20_000  # that are written over and over, each time with other last digits


def write(path: Path, size: int, columns: int, digits: int) -> None:
    """A table of about so many bytes."""
    rng = np.random.default_rng(0)
    text = "\n".join(
        ",".join([*(f"{value:.{digits}f}" for value in row), "abc"[k % 3]])
        for k, row in enumerate(rng.normal(size=(ROWS, columns)))
    )
    block = np.frombuffer((text + "\n").encode(), np.uint8).copy()
    last = np.flatnonzero(np.isin(block, np.frombuffer(b",", np.uint8))) - 1
    with path.open("wb") as file:
        file.write((",".join(f"x{i}" for i in range(columns)) + ",kind\n").encode())
        while file.tell() < size:
            block[last] = rng.integers(ord("0"), ord("9") + 1, len(last))
            file.write(block.data)


def start(table: Path, folder: Path) -> tuple[float, int, int]:
    """Seconds to the first step, and the peaks of all resident memory and of what no file backs, in MB."""
    out = folder / "run"
    command = f"train vectors --data {table} --label kind --steps 1 --log-every 1 --overwrite --out {out}"
    begun = time.perf_counter()
    process = subprocess.Popen(
        [Path(sys.executable).parent / "pathline", *command.split()],
        env=os.environ | {"PATHLINE_CACHE": str(folder / "cache")},
        stdout=subprocess.DEVNULL,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (LIMIT, LIMIT)),
    )
    seconds, peak, anonymous = 0.0, 0, 0
    while process.poll() is None:
        metrics = out / "metrics.jsonl"
        if not seconds and metrics.exists() and metrics.stat().st_size:
            seconds = time.perf_counter() - begun
        status = Path(f"/proc/{process.pid}/status").read_text()
        kept = {line.split(":")[0]: line.split()[1] for line in status.splitlines() if line.endswith("kB")}
        peak = max(peak, int(kept.get("VmHWM", 0)) >> 10)
        anonymous = max(anonymous, int(kept.get("RssAnon", 0)) >> 10)
        time.sleep(0.05)
    if process.returncode:
        sys.exit(f"training ended with {process.returncode}")
    return seconds, peak, anonymous


def main() -> None:
    """Writes the table and prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=3)
    parser.add_argument("--columns", type=int, default=16)
    parser.add_argument("--digits", type=int, default=6)
    parser.add_argument("--folder")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        folder = Path(name)
        table = folder / "big.csv"
        begun = time.perf_counter()
        write(table, int(given.gigabytes * 1e9), given.columns, given.digits)
        print(f"{table.stat().st_size / 1e9:.2f} GB written in {time.perf_counter() - begun:.0f} s")
        print("start   first step   peak resident   of its own")
        for which in ("first", "second"):
            seconds, peak, anonymous = start(table, folder)
            print(f"{which:7} {seconds:8.1f} s {peak:12,} MB {anonymous:9,} MB")
            (folder / "run").rename(folder / which)


if __name__ == "__main__":
    main()
