"""Runs that the programs' tests look at, trained once for all of them."""

import hashlib
from pathlib import Path

import pytest
import torch

import pathline as pl
from pathline.cli.main import main
from pathline.training import checkpoint
from pathline.training.loop import adamw

SMALL = "--steps 6 --batch-size 16 --width 8 --depth 1 --checkpoint-every 3".split()
FLOWERS = "petal,kind,price $\n" + "".join(f"{i % 7}.5,{'rose' if i % 3 else 'aster'},{1e6 + i}\n" for i in range(60))


@pytest.fixture(scope="session")
def tiny() -> list[str]:
    """The flags of a run that takes a moment."""
    return SMALL


def trained(tmp_path_factory, name: str, *flags: str) -> Path:
    run = tmp_path_factory.mktemp("runs") / name
    assert main(["train", *flags, *SMALL, "--out", str(run)]) == 0
    return run


@pytest.fixture(scope="session")
def digits(tmp_path_factory) -> Path:
    """A run on pictures in ten classes."""
    return trained(tmp_path_factory, "run", "digits")


@pytest.fixture(scope="session")
def moons(tmp_path_factory) -> Path:
    """A run on points in two classes."""
    return trained(tmp_path_factory, "moons", "moons")


@pytest.fixture(scope="session")
def flowers(tmp_path_factory) -> Path:
    """A run on a table in two classes."""
    path = tmp_path_factory.mktemp("data") / "flowers.csv"
    path.write_text(FLOWERS)
    return trained(tmp_path_factory, "flowers", "vectors", "--data", str(path), "--label", "kind")


@pytest.fixture(scope="session")
def bridge(tmp_path_factory) -> Path:
    """A run of a Brownian bridge between two toys, with a score head."""
    flags = "--bridge 0.5 --prediction velocity,score --weight balanced --coupling optimal-transport"
    return trained(tmp_path_factory, "bridge", "circles-to-checkerboard", *flags.split())


@pytest.fixture(scope="session")
def unclassed():
    """What makes a run of a model without classes, by the library."""

    def make(folder: Path, dimension: int = 2) -> Path:
        config = pl.Config(data="moons", network="mlp", width=8, depth=1)
        samples = pl.Samples(torch.zeros(1, dimension), None, (), pl.Normalisation(3.0, 2.0), "points", "none", "here")
        run = pl.Run.create(folder, config, samples)
        field = config.field(samples.shape, 0)
        checkpoint.save(folder, 0, field, pl.EMA(field), adamw(config.loss(field), 1e-3))
        assert run.field().null is None
        return folder

    return make


@pytest.fixture(scope="session")
def bare(tmp_path_factory, unclassed) -> Path:
    """A run without classes."""
    return unclassed(tmp_path_factory.mktemp("runs") / "bare")


@pytest.fixture(scope="session")
def contents():
    """What reads every path below a folder, with the hash of what a file holds."""

    def read(folder: Path) -> dict[str, str]:
        return {
            str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
            for path in sorted(folder.rglob("*"))
        }

    return read
