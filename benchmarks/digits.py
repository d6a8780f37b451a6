"""Quality of the digits model, for three splits of the data: `python benchmarks/digits.py` (about four minutes).

Trains the preset with three seeds, each with a held-out fifth of its own, and samples 1,000 digits from each at w = 1
and w = 3. Printed beside a Gaussian and a three-component mixture fitted to each class of the same training data: the
unbiased squared energy distance to the held-out digits (pixels / 16), the distance to the nearest training digit over
that of held-out ones, and how often an SVC fitted on the real training digits reads the class that was asked for.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from sklearn.mixture import GaussianMixture
from sklearn.svm import SVC
from torch import Tensor

import pathline as pl
from pathline.cli.main import main
from pathline.data.source import Samples

COUNT = 1000


def fitted(training: Samples, components: int) -> Tensor:
    """Samples of a Gaussian mixture fitted to each class."""
    drawn = []
    for label in range(10):
        pixels = training.x[training.y["class"] == label].flatten(1).double().numpy()
        model = GaussianMixture(components, reg_covar=1e-2, random_state=0).fit(pixels)
        drawn.append(model.sample(COUNT // 10)[0])
    return torch.from_numpy(np.concatenate(drawn)).float().reshape(COUNT, 1, 8, 8)


def row(name: str, raw: Tensor, y: Tensor, training: Samples, held_out: Samples, reader: SVC) -> None:
    """One line of the table."""
    distance = pl.energy_distance(raw / 16, held_out.x / 16)
    ratio = pl.memorisation_ratio(raw, training.x, held_out.x)
    agreement = reader.score(raw.flatten(1).clamp(0, 16).numpy(), y.numpy())
    print(f"{name:34}{distance:>12.4f}{ratio:>12.2f}{agreement:>12.1%}", flush=True)


def measure(seed: int, folder: Path) -> None:
    """Train with this seed, and print its rows."""
    begin = time.monotonic()
    assert main(["train", "digits", "--seed", str(seed), "--out", str(folder)]) == 0
    seconds = time.monotonic() - begin
    run = pl.Run.open(folder)
    training, held_out = run.config.load().split(run.config.held_out, run.config.seed)
    reader = SVC(gamma=0.001, C=10).fit(training.x.flatten(1).numpy(), training.y["class"].numpy())
    right = reader.score(held_out.x.flatten(1).numpy(), held_out.y["class"].numpy())
    print(f"\nseed {seed}: trained and drawn in {seconds:.0f} s; the SVC reads {right:.1%} of held-out digits")
    print(f"{'':34}{'energy d.^2':>12}{'nearest':>12}{'agreement':>12}")
    y = torch.arange(COUNT) % 10
    for w in (1.0, 3.0):
        made = pl.sample(pl.guided(run.field(), y, w), (COUNT, *run.shape), steps=30, seed=100)
        row(f"pathline, w = {w:g}, 60 evaluations", run.normalisation.back(made), y, training, held_out, reader)
    for components in (1, 3):
        labels = torch.arange(10).repeat_interleave(COUNT // 10)
        row(
            f"Gaussian mixture, {components} per class",
            fitted(training, components),
            labels,
            training,
            held_out,
            reader,
        )


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as where:
        for number in range(3):
            measure(number, Path(where) / str(number))
