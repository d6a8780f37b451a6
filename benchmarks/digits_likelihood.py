"""Likelihood of digits by models of each prediction: `python benchmarks/digits_likelihood.py` (hours on one core).

Trains the digits preset with each prediction, and a data head with the loss of a velocity, with the same network, steps
and seed: on the digits as they are, and with noise over their bins (the augmentation `dequantise:0.125`). Or it takes
the runs that lie in --runs already. Each digit is taken under its own class. Printed in bits per dimension, with a 95 %
interval over digits:

    flow       of held-out digits, by the flow of the model with the exact divergence, and of as many training digits
    elbo       of held-out digits, by the bound of an ancestral chain of 100,000 steps that ends at beta/alpha = finest,
               the best of a few for training digits

At random, 17 levels take log2(17) = 4.09 bits. --probes takes Hutchinson's estimate of the divergence instead, whose
mean over digits is as good, and --count fewer digits: `--probes 2 --count 200` takes two minutes a model.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

import pathline as pl
from pathline.data.source import Samples
from pathline.likelihood.bits import bits_of, dequantised
from pathline.training import checkpoint

MODELS = {  # prediction and weight
    **{name: (name, "unit") for name in ("velocity", "v", "noise", "data", "edm:1")},
    "score": ("score", "balanced"),  # its target is infinite at data
    "data-as-velocity": ("data", "error-as:velocity"),  # errors near data count, as they do for the flow
}
AUGMENTATIONS = {"": "none", "-dequantised": "dequantise:0.125"}
CHAIN, FINEST = 100_000, (0.003, 0.01, 0.03, 0.1, 0.2)
SEED = 0


def trained(folder: Path, prediction: str, weight: str, augmentation: str, steps: int) -> pl.Run:
    """The run in a folder, trained now unless it was."""
    if folder.exists() and checkpoint.steps_of(folder):
        run = pl.Run.open(folder)
        if run.checkpoint().step >= run.config.steps:
            return run
    config = replace(
        pl.load_config("digits"),
        prediction=prediction,
        weight=weight,
        augmentation=augmentation,
        steps=steps,
    ).resolved()
    training, held_out = config.load().split(config.held_out, config.seed)
    run = pl.Run.create(folder, config, training, has_consent=True)
    trainer = pl.Trainer(run, training, held_out)
    trainer.begin()
    for _ in trainer.steps():
        pass
    return run


def some(samples: Samples, count: int) -> tuple[Tensor, Tensor]:
    """So many digits at random, and their classes: all of them if they are no more."""
    rows = pl.Noise(SEED).permutation(len(samples))[:count]
    return samples.x[rows], samples.y["class"][rows]


def chain_bits(run: pl.Run, field: pl.Field, x: Tensor, y: Tensor, finest: float, draws: int) -> Tensor:
    """Bits per dimension by the bound, of shape `(batch,)`."""
    given, z = field.given(y), run.normalisation.into(dequantised(x, seed=SEED))
    value, _ = pl.elbo(given, z, steps=pl.information_grid(given, CHAIN, finest), draws=draws, seed=SEED)
    return bits_of(value, x.shape[1:], run.normalisation)


def shown(bits: Tensor) -> str:
    """A mean, and half its interval."""
    return f"{bits.mean():7.3f} +- {1.96 * bits.std() / math.sqrt(len(bits)):.3f}"


@torch.no_grad()
def row(name: str, run: pl.Run, count: int, ode_steps: int, divergence: pl.Divergence) -> str:
    """One line of the table."""
    begin = time.monotonic()
    held_out, training = (some(part, count) for part in reversed(run.config.load().split(run.config.held_out, SEED)))
    field = run.field()
    flow = [
        pl.bits_per_dim(field.given(y), x, run.normalisation, seed=SEED, steps=ode_steps, divergence=divergence)
        for x, y in (held_out, training)
    ]
    few = [part[:48] for part in training]
    finest = min(FINEST, key=lambda ratio: float(chain_bits(run, field, *few, ratio, 48).mean()))
    bound = chain_bits(run, field, *held_out, finest, 128)
    gap = bound - flow[0]
    cells = (name, *map(shown, (*flow, bound, gap)), f"{finest:g}", f"{time.monotonic() - begin:.0f}")
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, help="where runs are kept, or were; a temporary folder unless given")
    parser.add_argument("--steps", type=int, default=1300, help="of training")
    parser.add_argument("--count", type=int, default=10_000, help="digits, at most, of either part")
    parser.add_argument("--ode-steps", type=int, default=40, help="of the flow: two calls of the network each")
    parser.add_argument("--probes", type=int, default=0, help="of Hutchinson's divergence; 0 for the exact one")
    parser.add_argument(
        "--only", nargs="*", default=(), help="the rows to measure, velocity-dequantised say; all of them"
    )
    arguments = parser.parse_args()
    divergence = pl.Hutchinson(arguments.probes) if arguments.probes else pl.Exact()
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.runs or Path(scratch)
        print("| model | flow, held out | flow, training | elbo, held out | elbo - flow | finest | seconds |")
        print("|:--|--:|--:|--:|--:|--:|--:|", flush=True)
        for model, (prediction, weight) in MODELS.items():
            for suffix, augmentation in AUGMENTATIONS.items():
                name = model + suffix
                if not arguments.only or name in arguments.only:
                    run = trained(folder / name.replace(":", "-"), prediction, weight, augmentation, arguments.steps)
                    print(row(name, run, arguments.count, arguments.ode_steps, divergence), flush=True)


if __name__ == "__main__":
    main()
