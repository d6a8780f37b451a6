"""What sampling costs around the network: 100 Euler steps with a network so small that all else shows.

Ratios are to a bare loop over the same network, from the same 256 points; "again" is that loop once more, so its range
is what noise alone does. `sample` also draws its start; the other rows are given one. Azula's network predicts
data, so its row has the same number of calls, but not the same end point.

    python benchmarks/overhead.py [--threads 2] [--rounds 50]

The peers come with `pip install -e '.[bench]'`. One that is not installed is left out, and the table says so.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial

import torch
from timing import in_turn, print_ratios
from torch import Tensor, nn

import pathline as pl

STEPS = 100
BATCH = 256
EULER = pl.ODESampler(pl.EULER)


class Network(nn.Module):
    """Two hidden layers; the time is one more feature of the point."""

    def __init__(self, d: int, width: int = 256) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(d + 1, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, d)
        )

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.layers(torch.cat([x, t.expand(x.shape[0])[:, None]], 1))


@torch.no_grad()
def bare(network: nn.Module, start: Tensor) -> Tensor:
    x = start
    for i in range(STEPS):
        x = x + 1 / STEPS * network(x, torch.tensor(i / STEPS))
    return x


@torch.no_grad()
def walked(field: pl.Field, start: Tensor, sampler: pl.Sampler = EULER) -> Tensor:
    for x in sampler.walk(field, start, sampler.times(field, steps=STEPS)):
        end = x
    return end


def flow_matching(network: nn.Module, start: Tensor) -> Callable[[], Tensor]:
    from flow_matching.solver import ODESolver

    return lambda: ODESolver(lambda x, t: network(x, t)).sample(x_init=start, step_size=1 / STEPS, method="euler")


def azula(network: nn.Module, start: Tensor) -> Callable[[], Tensor]:
    from azula.denoise import SimpleDenoiser
    from azula.noise import RectifiedSchedule
    from azula.sample import EulerSampler

    return lambda: EulerSampler(SimpleDenoiser(network, RectifiedSchedule()), steps=STEPS, silent=True)(start)


def main(threads: int, rounds: int) -> None:
    torch.set_num_threads(threads)
    for d in (2, 64):
        torch.manual_seed(0)
        network, start = Network(d), torch.randn(BATCH, d)
        field = pl.NetworkField(network, pl.GaussianPath(pl.LinearSchedule()))
        loop = partial(bare, network, start)
        contenders: dict[str, Callable[[], Tensor]] = {
            "bare loop": loop,
            "bare loop, again": loop,
            "pathline, sample": partial(pl.sample, field, (BATCH, d), pl.ODESampler(pl.EULER), steps=STEPS, seed=0),
            "pathline, ODESampler.walk": partial(walked, field, start),
            "pathline, default's walk": partial(walked, field, start, pl.default_sampler()),
            "pathline, walk, compiled": partial(walked, pl.CompiledField(field), start),
        }
        torch.testing.assert_close(walked(field, start), loop())
        missing = []
        for peer in (flow_matching, azula):
            try:
                contenders[peer.__name__] = peer(network, start)
            except ImportError:
                missing.append(peer.__name__)
        print_ratios(f"Euler x {STEPS}, batch {BATCH}, d = {d}, {threads} threads", in_turn(contenders, rounds))
        for name in missing:
            print(f"{name:28}not installed")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=50)
    main(**vars(parser.parse_args()))
