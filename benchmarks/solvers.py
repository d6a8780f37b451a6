"""Accuracy per network evaluation: how far each sampler ends from the exact flow, for the same number of evaluations.

Three fields on the linear path, 512 starts each, all methods on the same ones, in one run:

    digits     a kernel density on scikit-learn's digits, 64 numbers, bandwidth 0.15: exact
    mixture    seven normals of standard deviation 0.1 around a circle in the plane, of unequal weights: exact
    trained    the network of `pathline train digits`, sample i under class i mod 10; it is trained first where there is
               no --run. The network runs in float32, as when it samples; points, times and solvers are in float64

A cell is the RMSE over all samples / the median over samples of the error of one, and the evaluations that were used:
as many as the column says, or the most below that make whole steps. A few samples that end in another mode dominate
the first; the second is the typical sample. Rows of other libraries are first as they come, then, in brackets, with
options that helped on some field: an option that is best in one column is seldom best in the next.

    python benchmarks/solvers.py [--fields digits mixture] [--samples 512] [--json FILE] [--references FILE]

The peers come with `pip install -e '.[bench]'`. One that is not installed is left out, and the table says so. The
references take a minute for the exact fields and five for the trained one, whose table takes fifteen more:
--references keeps them in a file.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from peers import Counted, Peer, installed
from scipy.integrate import DOP853
from scipy.stats import binomtest
from sklearn.datasets import load_digits
from torch import Tensor

import pathline as pl
from pathline.cli.main import main as pathline

COLUMNS = (5, 10, 20, 40)
CHOSEN, FITTED = "default_sampler()", "fit()"
FITTED_COLUMNS, TRAJECTORIES = (5, 10, 20), 128  # a solver is fitted on trajectories of another seed
FAR = 0.1  # samples with a larger error than this have gone elsewhere
SAMPLERS: dict[str, pl.Sampler] = {
    "ODESampler(EULER)": pl.ODESampler(pl.EULER),
    "ODESampler(MIDPOINT)": pl.ODESampler(pl.MIDPOINT),
    "ODESampler(HEUN)": pl.ODESampler(pl.HEUN),
    "ODESampler(RK4)": pl.ODESampler(pl.RK4),
    "DDIM(0)": pl.DDIM(0.0),
    **{f"Multistep.adams_bashforth({k})": pl.Multistep.adams_bashforth(k) for k in (2, 3, 4)},
    **{f"Multistep.adams_moulton({k})": pl.Multistep.adams_moulton(k) for k in (1, 2, 3)},
    **{f"Multistep.dpm({k})": pl.Multistep.dpm(k) for k in (2, 3)},
    **{f"Multistep.deis({k})": pl.Multistep.deis(k) for k in (2, 3)},
    **{f"Multistep.unipc({k})": pl.Multistep.unipc(k) for k in (2, 3)},
    CHOSEN: pl.default_sampler(),
}
PATH = pl.GaussianPath(pl.LinearSchedule())
Cell = tuple[float, float, int, float]  # RMSE, median, evaluations, share of samples far off
Row = dict[int, Cell]


class Seen(pl.Field):
    """What every method is given: one velocity in float64, as of a network; nothing else of the field shows."""

    def __init__(self, field: pl.Field, shape: tuple[int, ...], dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        self.path, self.prediction = PATH, pl.VELOCITY
        self.field, self.shape, self.dtype = field, shape, dtype
        self.calls = 0

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        self.calls += 1
        return self.field.velocity(x.to(self.dtype), t.to(self.dtype)).double()


def digits(options: argparse.Namespace) -> Seen:
    return Seen(pl.EmpiricalField(torch.from_numpy(load_digits().data) / 8 - 1, PATH, bandwidth=0.15), (64,))


def mixture(options: argparse.Namespace) -> Seen:
    angles = torch.tensor([0.0, 0.7, 1.7, 2.4, 3.5, 4.3, 5.5], dtype=torch.float64)
    weights = torch.tensor([1.0, 2.0, 3.0, 1.0, 4.0, 2.0, 3.0], dtype=torch.float64) / 16
    means = torch.stack((angles.cos(), angles.sin()), 1)
    return Seen(pl.MixtureField(pl.GaussianMixture(means, torch.full((7,), 0.1**2).double(), weights), PATH), (2,))


def trained(options: argparse.Namespace) -> Seen:
    if not options.run.exists() and pathline(["train", "digits", "--out", str(options.run)]):
        raise SystemExit(f"the training of {options.run} failed")
    run = pl.Run.open(options.run)
    return Seen(run.field().given(torch.arange(options.samples) % 10), run.shape, torch.float32)


FIELDS: dict[str, Callable[[argparse.Namespace], Seen]] = {"digits": digits, "mixture": mixture, "trained": trained}


def exact(seen: Seen, start: Tensor, tolerance: float) -> Tensor:
    """The end of the flow from `start`, by an adaptive method of order 8."""

    def velocity(t: float, y: Any) -> Any:
        x = torch.from_numpy(y).reshape(start.shape)
        return seen(x, torch.tensor(t, dtype=torch.float64)).flatten().numpy()

    solver = DOP853(velocity, 0.0, start.flatten().numpy(), 1.0, rtol=tolerance, atol=tolerance)
    while solver.status == "running":
        solver.step()
    if solver.status == "failed":
        raise RuntimeError(f"no reference at a tolerance of {tolerance}")
    return torch.from_numpy(solver.y).reshape(start.shape)


def reference(name: str, seen: Seen, start: Tensor, file: Path | None) -> Tensor:
    """The exact end, checked by another with ten times the tolerance; read from the file where it fits."""
    mark = seen(start, torch.tensor(0.5, dtype=torch.float64))
    kept = torch.load(file) if file and file.exists() else {}
    if name in kept and kept[name]["mark"].shape == mark.shape and torch.allclose(kept[name]["mark"], mark, atol=1e-5):
        return kept[name]["end"]
    fine = 1e-12 if seen.dtype == torch.float64 else 1e-6  # beyond which float32 has no smooth field to offer
    end, other = exact(seen, start, fine), exact(seen, start, 10 * fine)
    rms, worst = (end - other).square().mean().sqrt(), (end - other).abs().max()
    print(f"reference of {name}: from tolerance {10 * fine:g} to {fine:g} it moves by {rms:.1e} (at most {worst:.1e})")
    if file:
        torch.save(kept | {name: {"start": start, "end": end, "mark": mark}}, file)
    return end


def cell(x: Tensor, end: Tensor, calls: int) -> Cell:
    """What is shown of a method's errors."""
    squares = (x - end).square().flatten(1).mean(1)
    far = (squares.sqrt() > FAR).double().mean()
    return float(squares.mean().sqrt()), float(squares.sqrt().median()), calls, float(far)


def fitted(name: str, options: argparse.Namespace, seen: Seen, start: Tensor, end: Tensor) -> Row:
    """The row of solvers fitted on trajectories of another seed."""
    training = FIELDS[name](argparse.Namespace(**vars(options) | {"samples": TRAJECTORIES}))
    generator = torch.Generator().manual_seed(options.seed + 1000)
    noise = torch.randn(TRAJECTORIES, *seen.shape, generator=generator, dtype=torch.float64)
    ends, _ = pl.converged(training, noise)
    row: Row = {}
    for n in FITTED_COLUMNS:
        began = time.perf_counter()
        for step in pl.fit(training, noise, ends, n):
            sampler = step.sampler
        print(f"{f'fitted to {n} evaluations in {time.perf_counter() - began:.0f} s':48}", flush=True)
        seen.calls = 0
        *_, x = sampler.walk(seen, start, sampler.times(seen, evaluations=n))
        row[n] = cell(x, end, seen.calls)
    return row


def rows(seen: Seen, start: Tensor, end: Tensor, peers: list[Peer]) -> Iterator[tuple[str, Row]]:
    """The name of each method, and its row."""
    for name, sampler in SAMPLERS.items():
        row: Row = {}
        for n in COLUMNS:
            try:
                times = sampler.times(seen, evaluations=n)
            except ValueError:  # too few for one step
                continue
            seen.calls = 0
            for x in sampler.walk(seen, start, times):
                last = x
            row[n] = cell(last, end, seen.calls)
        yield name, row
    for peer in peers:
        row = {}
        for n in COLUMNS:
            steps = peer.steps(n)
            if steps is not None:
                velocity = Counted(seen)
                x = peer.run(velocity, start, steps)
                row[n] = cell(x, end, velocity.calls)
        yield peer.name, row


def best(table: dict[str, Row], names: list[str], n: int, kind: int) -> tuple[float, str]:
    """The smallest error of a column among some methods, and whose it is."""
    return min(
        (table[name][n][kind], name) for name in names if n in table[name] and math.isfinite(table[name][n][kind])
    )


def summary(tables: dict[str, dict[str, Row]], peers: list[str]) -> dict[str, Any]:
    """The best peers, and what pathline's default makes of them."""
    found: dict[str, Any] = {}
    for title, names in (("as they come", [p for p in peers if "[" not in p]), ("with options", peers)):
        if not names:
            continue
        print(f"\nBest of the other libraries, {title}, and {CHOSEN} over it")
        ratios: dict[str, list[float]] = {"RMSE": [], "median": []}
        for field, table in tables.items():
            for kind, label in enumerate(ratios):
                for n in COLUMNS:
                    value, name = best(table, names, n, kind)
                    text = ""
                    if n in table[CHOSEN]:
                        ratios[label].append(table[CHOSEN][n][kind] / value)
                        text = f"{ratios[label][-1]:.3f}"
                    print(f"{field:10}{label:8}{n:4}{value:>11.2e}{text:>9}   {name}")
                    found.setdefault(title, {}).setdefault(field, {}).setdefault(label, {})[n] = [value, name]
        for label, values in ratios.items():
            mean = math.exp(sum(map(math.log, values)) / len(values))
            print(f"{label:8} geometric mean of the ratios {mean:.3f}, worst {max(values):.3f}")
        print(f"\nMedian of fitted solvers over the best of the other libraries, {title}")
        for field, table in tables.items():
            ratios_of = (f"{n}: {table[FITTED][n][1] / best(table, names, n, 1)[0]:.3f}" for n in FITTED_COLUMNS)
            print(f"{field:10}" + ", ".join(ratios_of))
    return found


def print_far(tables: dict[str, dict[str, Row]], samples: int) -> None:
    """The share of samples that are far off, with its interval."""
    print(f"\nSamples with an error above {FAR}: share, and its 95 % interval (Wilson)")
    for field, table in tables.items():
        for name in (CHOSEN, FITTED):
            for n, (_, _, _, far) in table[name].items():
                low, high = binomtest(round(far * samples), samples).proportion_ci(method="wilson")
                print(f"{field:10}{name:20}{n:4}{far:>8.3f}   {low:.3f} to {high:.3f}")


def draw(tables: dict[str, dict[str, Row]], peers: list[str], file: Path) -> None:
    """The median error by evaluations: the default and fitted solvers over all other libraries, as they come."""
    axes = pl.plots.panels(len(tables), 1, width=3.2, height=3.0)
    for ax, (field, table) in zip(axes, tables.items(), strict=True):
        for name in (name for name in peers if "[" not in name):
            ax.plot(*zip(*((n, row[1]) for n, row in table[name].items()), strict=True), color="0.75", lw=1)
        lowest = [(n, best(table, [name for name in peers if "[" not in name], n, 1)[0]) for n in COLUMNS]
        ax.plot(*zip(*lowest, strict=True), "o--", color="0.35", lw=1, ms=4, label="best other in each column")
        for name, colour, label in ((CHOSEN, "C0", "pathline, default"), (FITTED, "C3", "pathline, fitted")):
            ax.plot(
                *zip(*((n, row[1]) for n, row in table[name].items()), strict=True), "o-", color=colour, label=label
            )
        ax.set(xscale="log", yscale="log", xticks=COLUMNS, xticklabels=COLUMNS, ylim=(None, 1.0))
        ax.minorticks_off()
        pl.plots.label(ax, field, "calls of the network", "median error" if ax is axes[0] else "")
    axes[0].legend(frameon=False, fontsize=8, loc="lower left")
    pl.plots.save(axes[0], file, dpi=130)


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fields", nargs="+", choices=FIELDS, default=list(FIELDS))
    parser.add_argument("--samples", type=int, default=512)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--run", type=Path, default=Path("runs/digits"))
    parser.add_argument("--references", type=Path, help="a file to keep the exact ends in")
    parser.add_argument("--json", type=Path, help="a file for all cells")
    parser.add_argument("--picture", type=Path, help="a .png of the median errors")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    tables: dict[str, dict[str, Row]] = {}
    peers, missing = installed()
    for field in options.fields:
        seen = FIELDS[field](options)
        generator = torch.Generator().manual_seed(options.seed)
        start = torch.randn(options.samples, *seen.shape, generator=generator, dtype=torch.float64)
        end = reference(field, seen, start, options.references)
        print(f"\n{field}, {options.samples} samples: RMSE / median (evaluations)")
        print(f"{'':48}" + "".join(f"{n:>28}" for n in COLUMNS))
        tables[field] = {}
        own = [(FITTED, fitted(field, options, seen, start, end))]
        for name, row in itertools.chain(own, rows(seen, start, end, peers)):
            tables[field][name] = row
            cells = (f"{row[n][0]:.2e} / {row[n][1]:.2e} ({row[n][2]})" if n in row else "-" for n in COLUMNS)
            print(f"{name:48}" + "".join(f"{cell:>28}" for cell in cells), flush=True)
    for name in missing:
        print(f"{name:48}not installed")
    found = summary(tables, [peer.name for peer in peers])
    print_far(tables, options.samples)
    if options.picture and peers:
        draw(tables, [peer.name for peer in peers], options.picture)
    if options.json:
        options.json.write_text(json.dumps({"cells": tables, "best": found}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
