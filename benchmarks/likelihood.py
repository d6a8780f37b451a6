"""What a log-density costs and how near it comes, beside flow_matching's.

Four tables: time with a small network; error for the divergences that are found; images, with the most memory that a
process took; and Hutch++ beside Hutchinson's estimate at the same cost.

    python benchmarks/likelihood.py [--threads 2] [--rounds 7]

The peer comes with `pip install -e '.[bench]'`. Where it is not installed its rows are left out, and the table says so.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial

import torch
from overhead import BATCH, Network
from timing import in_turn, print_ratios
from torch import Tensor

import pathline as pl
from pathline.verify.parts import field, mixture

STEPS = 20
LINEAR = pl.GaussianPath(pl.LinearSchedule())


def normal(x: Tensor) -> Tensor:
    return -(x.flatten(1) ** 2).sum(1) / 2 - x[0].numel() * math.log(2 * math.pi) / 2


def flow_matching(network: Callable[..., Tensor], x: Tensor, steps: int, is_exact: bool) -> Callable[[], Tensor]:
    from flow_matching.solver import ODESolver

    return lambda: ODESolver(lambda x, t: network(x, t.expand(len(x)))).compute_likelihood(
        x_1=x, log_p0=normal, step_size=1 / steps, method="midpoint", exact_divergence=is_exact
    )[1]


def ours(model: pl.Field, x: Tensor, steps: int, divergence: pl.Divergence, solver: pl.RungeKutta) -> Tensor:
    with torch.no_grad():
        return pl.log_prob(model, x, solver=solver, steps=steps, divergence=divergence, seed=0)


def cost(rounds: int) -> None:
    for d in (2, 64):
        torch.manual_seed(0)
        network, x = Network(d), torch.randn(BATCH, d)
        run = partial(ours, pl.NetworkField(network, LINEAR), x, STEPS)
        contenders: dict[str, dict[str, Callable[[], Tensor]]] = {
            "exact": {
                "midpoint": partial(run, pl.Exact(), pl.MIDPOINT),
                "rk4": partial(run, pl.Exact(), pl.RK4),
                "gauss": partial(run, pl.Exact(), pl.GAUSS),
            },
            "Hutchinson": {
                "midpoint": partial(run, pl.Hutchinson(), pl.MIDPOINT),
                "rk4": partial(run, pl.Hutchinson(), pl.RK4),
                "gauss": partial(run, pl.Hutchinson(), pl.GAUSS),
            },
        }
        for kind, rows in contenders.items():
            try:
                peer = flow_matching(network, x, STEPS, kind == "exact")
                rows = {"flow_matching, midpoint": peer, **{f"pathline, {name}": row for name, row in rows.items()}}
                if kind == "exact":
                    torch.testing.assert_close(rows["pathline, midpoint"](), peer(), atol=1e-3, rtol=1e-4)
            except ImportError:
                print("flow_matching is not installed")
            print_ratios(f"{kind} divergence, {STEPS} steps, batch {BATCH}, d = {d}", in_turn(rows, rounds, warmup=1))


def accuracy() -> None:
    exact, x = field(), mixture().sample(256, seed=1)
    true = mixture().log_prob(x)
    print(f"\nmean and worst error in nats on a mixture in the plane, by divergences a sample\n{'':12}", end="")
    columns = (20, 40, 80, 160, 320)
    print("".join(f"{n:>22}" for n in columns))
    for solver in (pl.MIDPOINT, pl.HEUN, pl.RK4, pl.GAUSS):
        cells = []
        for n in columns:
            found = ours(exact, x, n // sum(b != 0 for b in solver.b), pl.Exact(), solver)
            cells.append(f"{(found - true).abs().mean():.1e} / {(found - true).abs().max():.1e}")
        print(f"{solver.name:12}" + "".join(f"{cell:>22}" for cell in cells))


IMAGES = {  # title: side, batch, steps, divergence, whose
    "exact, 3 x 8 x 8": (8, 16, 2, "exact"),
    "exact, 3 x 32 x 32": (32, 1, 2, "exact"),
    "Hutchinson, 3 x 32 x 32, 2 steps": (32, 8, 2, "hutchinson"),
    "Hutchinson, 3 x 32 x 32, 20 steps": (32, 8, 20, "hutchinson"),
    "Hutchinson, 3 x 32 x 32, 200 steps": (32, 8, 200, "hutchinson"),
}


def image(title: str, whose: str, threads: int) -> dict[str, float]:
    """One row, in this process: seconds, and MiB beyond those before."""
    torch.set_num_threads(threads)
    side, batch, steps, kind = IMAGES[title]
    torch.manual_seed(0)
    network = pl.UNet(3, 32, 2).eval()
    torch.nn.init.normal_(network.last[-1].weight, std=0.02)
    x = torch.randn(batch, 3, side, side)
    divergence = pl.Exact() if kind == "exact" else pl.Hutchinson()
    run = partial(ours, pl.NetworkField(network, LINEAR), x, steps, divergence, pl.MIDPOINT)
    if whose != "pathline":
        run = flow_matching(network, x, steps, kind == "exact")
    with torch.no_grad():
        network(x, torch.zeros(batch))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begin = time.perf_counter()
    run()
    seconds = time.perf_counter() - begin
    return {"seconds": seconds, "mebibytes": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024}


def images(threads: int) -> None:
    print(f"\nU-Net of width 32, midpoint{'':17}{'time':>10}{'memory':>12}")
    for title in IMAGES:
        for whose in ("pathline", "flow_matching"):
            code = f"import json, likelihood; print(json.dumps(likelihood.image({title!r}, {whose!r}, {threads})))"
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=sys.path[0])
            if "No module" in done.stderr:
                said = "not installed"
            elif done.returncode:
                said = done.stderr.strip().splitlines()[-1]
            else:
                row = json.loads(done.stdout)
                said = f"{row['seconds']:>8.2f} s{row['mebibytes']:>8.0f} MiB"
            print(f"{title:38}{whose:15}{said}")


def spectra() -> None:
    """Root mean square error of the estimated trace over 1,000 draws, each of 24 products with the Jacobian."""
    d, draws, products = 256, 1000, 24
    print(f"\nerror of a trace over {draws} draws, {products} products each, d = {d}, over Hutchinson's by signs")
    print(f"{'singular values':28}{'signs':>10}{'normal':>10}{'Hutch++ (8, 8)':>18}")
    noise = pl.Noise(0)
    turn = torch.linalg.qr(noise.normal((d, d), 0, torch.float64))[0]
    for decay in (0.5, 1.0, 2.0, 3.0):
        sizes = torch.arange(1, d + 1, dtype=torch.float64) ** -decay
        matrix = turn @ torch.diag(sizes) @ turn.T
        x = torch.zeros(draws, d, dtype=torch.float64, requires_grad=True)
        errors = []
        for estimator in (pl.Hutchinson(24), pl.Hutchinson(24, is_normal=True), pl.HutchPlusPlus(8, 8)):
            found = estimator.of(x @ matrix.T, x, estimator.vectors(x, pl.Noise(1)), is_kept=False).mean(0)
            errors.append(float((found - matrix.trace()).detach().square().mean().sqrt()))
        ratios = [error / errors[0] for error in errors]
        print(f"{f'k^-{decay:g}':28}{ratios[0]:>10.3f}{ratios[1]:>10.3f}{ratios[2]:>18.3f}")


def main(threads: int, rounds: int) -> None:
    torch.set_num_threads(threads)
    cost(rounds)
    accuracy()
    images(threads)
    spectra()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    main(**vars(parser.parse_args()))
