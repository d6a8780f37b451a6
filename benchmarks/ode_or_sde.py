"""ODE or SDE? Quality of a trained digits model by the sigma of its sampler and the evaluations it is given.

All sigmas have the same marginals where the field is exact and the steps are fine. A trained field is not exact, and
noise added on the way corrects some of its errors; coarse steps are less exact for an SDE. Each row has 1,000 digits,
sample i of class i mod 10 under w = 1, from the same starts:

    energy       unbiased squared energy distance to the held-out digits (pixels / 16), with its 95 % interval by the
                 jackknife over ten groups of samples; the held-out digits are the same for all
    agreement    how often an SVC fitted on the real training digits reads the class that was asked for, with Wilson's
                 95 % interval

The second table asks how few evaluations do as well as 100 steps of Heun's method: the figures of the default sampler
and of solvers fitted to the model, and whether they lie within the intervals of those. As starts are shared, the
difference is known better than either figure; its interval, by the same jackknife, is in the last column.

    python benchmarks/ode_or_sde.py [--run runs/digits] [--samples 1000] [--threads 2]

The model is trained first where there is no --run.
"""

from __future__ import annotations

import argparse
import math
import warnings
from dataclasses import dataclass
from pathlib import Path

import torch
from scipy.stats import binomtest
from sklearn.svm import SVC
from torch import Tensor

import pathline as pl
from pathline.cli.main import main as pathline
from pathline.data.source import Samples

EVALUATIONS = (10, 20, 50, 100)
FEW, FITTED, TRAJECTORIES = (5, 8, 10, 15, 20), (5, 8, 10), 128
SIGMAS: dict[str, pl.Sampler] = {
    "ODE, Heun": pl.ODESampler(pl.HEUN),
    "ODE, default": pl.default_sampler(),
    "sigma = 0.5": pl.SDESampler(0.5),
    "sigma = 1": pl.SDESampler(1.0),
    "sigma = 1.5 beta": pl.SDESampler(pl.BetaSigma(1.5)),
    "sigma memoryless": pl.SDESampler(pl.MemorylessSigma()),
    "exponential, 1": pl.ExponentialSDE(1.0),
    "exponential, 1.5 beta": pl.ExponentialSDE(pl.BetaSigma(1.5)),
    "exponential, memoryless": pl.ExponentialSDE(pl.MemorylessSigma()),
}
GROUPS = 10
WIDTH = 2.26  # of a 95 % interval, in standard errors: Student's t with 9 degrees of freedom


@dataclass(frozen=True)
class Quality:
    """What samples are worth. `without` has the energy distance once more without each group of them."""

    energy: float
    without: Tensor
    right: int
    count: int

    @property
    def agreement(self) -> float:
        return self.right / self.count

    @property
    def interval_of_agreement(self) -> tuple[float, float]:
        found = binomtest(self.right, self.count).proportion_ci(method="wilson")
        return found.low, found.high


def half_width(without: Tensor) -> float:
    """Of the 95 % interval of a figure, by its values without each group."""
    return WIDTH * math.sqrt((GROUPS - 1) / GROUPS * float((without - without.mean()).square().sum()))


@dataclass(frozen=True)
class Judge:
    """The held-out digits, and a reader of digits."""

    held_out: Tensor
    reader: SVC

    @classmethod
    def of(cls, training: Samples, held_out: Samples) -> Judge:
        return cls(held_out.x, SVC(gamma=0.001, C=10).fit(training.x.flatten(1).numpy(), training.y["class"].numpy()))

    def __call__(self, x: Tensor, y: Tensor) -> Quality:
        """Of digits in pixels of 0 to 16, and the classes that were asked for."""
        group = torch.arange(len(x)) * GROUPS // len(x)
        parts = [pl.energy_distance(x[group != k] / 16, self.held_out / 16) for k in range(GROUPS)]
        right = int((self.reader.predict(x.flatten(1).clamp(0, 16).numpy()) == y.numpy()).sum())
        return Quality(float(pl.energy_distance(x / 16, self.held_out / 16)), torch.stack(parts), right, len(x))


def line(name: str, evaluations: int | str, quality: Quality, rest: str = "") -> None:
    low, high = quality.interval_of_agreement
    print(
        f"{name:24}{evaluations:>12}{quality.energy:>12.4f} +- {half_width(quality.without):.4f}"
        f"{quality.agreement:>12.1%} ({low:.1%} to {high:.1%}){rest}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=Path("runs/digits"))
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=100)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if not options.run.exists() and pathline(["train", "digits", "--out", str(options.run)]):
        raise SystemExit(f"the training of {options.run} failed")
    run = pl.Run.open(options.run)
    training, held_out = run.config.load().split(run.config.held_out, run.config.seed)
    judge = Judge.of(training, held_out)
    y = torch.arange(options.samples) % len(run.classes)
    field = run.field().given(y)

    def quality(sampler: pl.Sampler, evaluations: int) -> tuple[Quality, str]:
        """Of new samples, and a mark where the sampler warned that its steps are long for its sigma."""
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            shape = (options.samples, *run.shape)
            made = pl.sample(field, shape, sampler, seed=options.seed, evaluations=evaluations)
        return judge(run.normalisation.back(made), y), "  *" if heard else ""

    title = f"{'':24}{'evaluations':>12}{'energy d.^2':>22}{'agreement':>14}"
    print(f"{options.samples} samples beside {len(held_out.x)} held-out digits\n\n{title}")
    real = pl.Noise(options.seed).permutation(len(training.x))[: options.samples]
    line("training digits", "", judge(training.x[real], training.y["class"][real]))
    for name, sampler in SIGMAS.items():
        for n in EVALUATIONS:
            line(name, n, *quality(sampler, n))
    print("* the sampler warned that its steps are long for this sigma")
    base, _ = quality(pl.ODESampler(pl.HEUN), 200)
    low, high = base.interval_of_agreement
    print(f"\n{title}   within Heun's; energy beyond it")
    line("Heun, 100 steps", 200, base)
    some = torch.arange(TRAJECTORIES) % len(run.classes)
    noise = pl.Noise(options.seed + 1).normal((TRAJECTORIES, *run.shape))
    ends, _ = pl.converged(run.field().given(some), noise)
    samplers: list[tuple[str, int, pl.Sampler]] = [("default_sampler()", n, pl.default_sampler()) for n in FEW]
    for n in FITTED:
        *_, last = pl.fit(run.field().given(some), noise, ends, n)
        samplers.append(("fitted", n, last.sampler))
    for name, n, sampler in samplers:
        value, _ = quality(sampler, n)
        is_near = abs(value.energy - base.energy) <= half_width(base.without)
        both = f"{'yes' if is_near else 'no'}, {'yes' if low <= value.agreement <= high else 'no'}"
        beyond = f"{value.energy - base.energy:+.4f} +- {half_width(value.without - base.without):.4f}"
        line(name, n, value, f"   {both:9} {beyond}")


if __name__ == "__main__":
    main()
