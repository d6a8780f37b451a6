"""A bit that flips, or a file cut short, anywhere in a checkpoint: it is found, and the one before is used."""

import random
import warnings

import pytest
import torch

import pathline as pl
from pathline.training import checkpoint
from pathline.training.loop import adamw


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Checkpoints of two steps of a real training."""
    folder = tmp_path_factory.mktemp("run")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        field = pl.NetworkField(pl.MLP(2, 4, 1), pl.GaussianPath(pl.LinearSchedule()))
        loss, ema = pl.MatchingLoss(field), pl.EMA(field)
        optimizer = adamw(loss, 1e-3)
        for done in pl.train(loss, torch.eye(2), steps=2, batch_size=2, optimizer=optimizer, ema=ema):
            checkpoint.save(folder, done.step, field, ema, optimizer)
    return folder


def is_found(run):
    """Whether the checkpoint of step 2 is refused, and step 1 is used instead."""
    with pytest.raises(ValueError, match=r"step-00000002.* damaged"):
        checkpoint.load(run, 2)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert checkpoint.newest(run).step == 1
    assert len(told) == 1 and "an earlier checkpoint is used instead" in str(told[0].message)
    return True


def test_every_flipped_bit_is_found(run, often, figure):
    paths = sorted(checkpoint.folder_of(run, 2).iterdir())
    data = {path: path.read_bytes() for path in paths}
    bits = [(path, bit) for path in paths for bit in range(8 * len(data[path]))]
    count = often(60, 1000)
    for path, bit in random.Random(3).sample(bits, count):
        flipped = bytearray(data[path])
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        assert is_found(run), (path, bit)
        path.write_bytes(data[path])
    assert checkpoint.newest(run).step == 2
    figure("a bit flipped in a checkpoint", f"{count} of {len(bits):,} bits", f"{count} found, the one before used")


def test_every_truncation_is_found(run, often, figure):
    count = 0
    for path in sorted(checkpoint.folder_of(run, 2).iterdir()):
        data = path.read_bytes()
        for length in range(0, len(data), often(len(data) // 8, 1)):
            path.write_bytes(data[:length])
            assert is_found(run), (path, length)
            count += 1
        path.write_bytes(data)
    assert checkpoint.newest(run).step == 2
    figure("a file of a checkpoint cut short, at every length", f"{count:,}", f"{count:,} found, the one before used")
