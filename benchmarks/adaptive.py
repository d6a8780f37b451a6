"""What an error costs: adaptive samplers against torchdiffeq's dopri5 at equal tolerance, sample by sample.

The truth is SciPy's DOP853 at 1e-12, run for each sample alone. torchdiffeq controls the error of a whole batch, so its
evaluations are those of the batch; its second row is each sample run alone, which is what pathline does in one batch.

    python benchmarks/adaptive.py [--samples 256] [--field mixture] [--field digits]

mixture: eight normals of standard deviation 0.1 on a circle of radius 2; digits: scikit-learn's digits, 64 numbers,
with a normal of 0.15 around each. All in float64. The truth takes minutes.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable

import torch
from scipy.integrate import solve_ivp
from sklearn.datasets import load_digits
from torch import Tensor

import pathline as pl

try:
    from torchdiffeq import odeint
except ImportError:
    odeint = None

ENDS = torch.tensor([0.0, 1.0], dtype=torch.float64)
TOLERANCES = (1e-3, 1e-5, 1e-7)
ALONE = 64  # samples that torchdiffeq runs alone


def mixture() -> pl.MixtureField:
    angle = torch.arange(8, dtype=torch.float64) * math.pi / 4
    means = 2 * torch.stack((angle.cos(), angle.sin()), 1)
    modes = pl.GaussianMixture(means, torch.full((8,), 0.01, dtype=torch.float64), torch.ones(8) / 8)
    return pl.MixtureField(modes, pl.GaussianPath(pl.LinearSchedule()))


def digits() -> pl.EmpiricalField:
    data = torch.tensor(load_digits().data, dtype=torch.float64) / 8 - 1
    return pl.EmpiricalField(data, pl.GaussianPath(pl.LinearSchedule()), bandwidth=0.15)


FIELDS: dict[str, tuple[Callable[[], pl.Field], int]] = {"mixture": (mixture, 2), "digits": (digits, 64)}


def truth(field: pl.Field, x: Tensor) -> Tensor:
    def end(row: Tensor) -> Tensor:
        def slope(t: float, state: object) -> object:
            return field.velocity(torch.as_tensor(state)[None], t)[0].numpy()

        return torch.from_numpy(solve_ivp(slope, (0, 1), row.numpy(), method="DOP853", rtol=1e-12, atol=1e-12).y[:, -1])

    return torch.stack([end(row) for row in x])


def by_torchdiffeq(field: pl.Field, x: Tensor, tolerance: float) -> tuple[Tensor, int]:
    """The end of a batch, and the calls of the velocity. It must not step past t = 1, where the field ends."""
    calls = 0

    def velocity(t: Tensor, x: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return field.velocity(x, t)

    options = {"step_t": ENDS[1:]}
    return odeint(velocity, x, ENDS, rtol=tolerance, atol=tolerance, method="dopri5", options=options)[-1], calls


def row(name: str, error: Tensor, evaluations: Tensor, most: Tensor | float | None = None) -> None:
    ratio = "" if most is None else f"{float(evaluations.mean() / most):11.2f}"
    print(
        f"  {name:28}{float(error.median()):10.1e}{float(error.mean()):10.1e}{float(error.max()):10.1e}"
        f"{float(evaluations.mean()):10.1f}{float(evaluations.max()):8.0f}{ratio}"
    )


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--samples", type=int, default=256)
    parser.add_argument("--field", choices=FIELDS, action="append")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if odeint is None:
        print("torchdiffeq: not installed")
    for name in options.field or FIELDS:
        make, dimension = FIELDS[name]
        field, x = make(), pl.Noise(0).normal((options.samples, dimension), dtype=torch.float64)
        true = truth(field, x)

        def error_of(end: Tensor, true: Tensor = true) -> Tensor:
            return ((end - true[: len(end)]) ** 2).mean(1).sqrt()

        for tolerance in TOLERANCES:
            print(f"\n{name}, {options.samples} samples, tolerance {tolerance:g}: error of a sample, its evaluations")
            print(f"  {'':28}{'median':>10}{'mean':>10}{'largest':>10}{'mean':>10}{'most':>8}{'of theirs':>11}")
            base = None
            if odeint is not None:
                end, calls = by_torchdiffeq(field, x, tolerance)
                base = float(calls)
                row("torchdiffeq, the batch", error_of(end), torch.tensor([base]))
                alone = [by_torchdiffeq(field, x[i : i + 1], tolerance) for i in range(min(ALONE, len(x)))]
                ends, counts = torch.cat([end for end, _ in alone]), torch.tensor([float(calls) for _, calls in alone])
                row(f"torchdiffeq, {len(alone)} alone", error_of(ends), counts, base)
            for solver in (pl.Dopri5(tolerance, tolerance), pl.Tsit5(tolerance, tolerance)):
                sampler = pl.AdaptiveSampler(solver)
                found = sampler.solve(field, x, ENDS)
                row(f"pathline, {type(solver).__name__}", error_of(found.x), found.counts.evaluations.double(), base)
                apart = [
                    float((sampler.solve(field, x[i : i + 1], ENDS).x[0] - found.x[i]).abs().max()) for i in range(16)
                ]
                print(f"  {'':28}a sample alone less the same in the batch, at most {max(apart):.1e}")


if __name__ == "__main__":
    main()
