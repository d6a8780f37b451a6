"""Flow matching beside maximum likelihood: the same network, the same data, the same time of one core.

    python benchmarks/cnf.py [--seconds 40] [--batch 256]

Each loss trains an MLP on a velocity for so many seconds of one core (of the process, so that what else a machine does
counts little), its learning rate falling to 0 by then. The held-out negative log-likelihood is found in fine steps, in
nats per point, and what the data itself has is known. Then the three gradients: time, memory that waits for the way
back, its largest amount at any time, and the distance to the direct gradient.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Iterator
from typing import ClassVar

import torch
from torch import Tensor

import pathline as pl

SHARES = (0.1, 0.3, 1.0)
DATA = {
    "mixture": pl.GaussianMixture.symmetric(components=5, radius=2.0, std=0.35),
    "moons": pl.Moons(std=0.1),
    "checkerboard": pl.Checkerboard(),
}
LOSSES = {"flow matching": (pl.MatchingLoss, 3e-3, 1), "CNF": (lambda field: likelihood(field), 1e-2, 32)}


def network(width: int = 64) -> pl.NetworkField:
    torch.manual_seed(0)
    return pl.NetworkField(pl.MLP(2, width, 2), pl.GaussianPath(pl.LinearSchedule()))


def likelihood(field: pl.Field, steps: int = 8, gradient: pl.Gradient | None = None) -> pl.MaximumLikelihood:
    return pl.MaximumLikelihood(field, steps=steps, divergence=pl.Exact(), gradient=gradient)


def seconds_of(loss: pl.Loss, data: Tensor, batch: int, steps: int) -> float:
    """Of a step, after one that does not count."""
    found = []
    for _ in pl.train(loss, data, steps=steps + 1, batch_size=batch):
        found.append(time.process_time())
    return (found[-1] - found[0]) / steps


def trained(name: str, data: Tensor, seconds: float, batch: int) -> Iterator[tuple[float, int, pl.Loss, float]]:
    """The seconds, steps, loss and its mean over the last steps, at some shares of the training."""
    make, rate, _ = LOSSES[name]
    each = seconds_of(make(network()), data, batch, 100 if name == "flow matching" else 4)
    loss, steps = make(network()), max(int(seconds / each), 10)
    marks = [int(share * steps) for share in SHARES]
    options = {"steps": steps, "batch_size": batch, "learning_rate": rate, "lr_schedule": pl.warmup_cosine()}
    used, recent, begin = 0.0, [], time.process_time()
    for step in pl.train(loss, data, **options):
        recent = [*recent[-49:], step.loss]
        if step.step in marks:
            used += time.process_time() - begin
            yield used, step.step, loss, float(torch.stack(recent).mean())
            begin = time.process_time()


class Held:
    """A tensor that waits for the way back: what all of them hold now, and held at most."""

    stores: ClassVar[Counter[int]] = Counter()
    sizes: ClassVar[dict[int, int]] = {}
    most = 0

    def __init__(self, x: Tensor) -> None:
        self.x, self.store = x, x.untyped_storage().data_ptr()
        Held.stores[self.store] += 1
        Held.sizes[self.store] = x.untyped_storage().nbytes()
        Held.most = max(Held.most, Held.now())

    def __del__(self) -> None:
        Held.stores[self.store] -= 1
        if not Held.stores[self.store]:
            del Held.stores[self.store], Held.sizes[self.store]

    @staticmethod
    def now() -> int:
        return sum(Held.sizes.values())


def memory(gradient: pl.Gradient, steps: int, data: Tensor) -> tuple[float, float]:
    """MB that wait for the way back after a solve, and at most at any time, weights left out."""
    loss = likelihood(network(), steps, gradient)
    own = {p.untyped_storage().data_ptr() for p in loss.parameters()}
    Held.most = 0

    def pack(x: Tensor) -> Tensor | Held:
        return x if x.untyped_storage().data_ptr() in own else Held(x)

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda kept: kept.x if isinstance(kept, Held) else kept):
        value = loss(data, index=0)
        waits = Held.now()
        value.backward()
    return waits / 1e6, Held.most / 1e6


def compare(gradients: list[pl.Gradient], data: Tensor) -> None:
    model = network().double()
    torch.nn.init.normal_(model.network.last.weight, std=0.1)
    found = {}
    for gradient in gradients:
        found[gradient] = torch.autograd.grad(
            likelihood(model, 20, gradient)(data[:64].double(), index=0), list(model.parameters())
        )
    direct = torch.cat([g.flatten() for g in found[gradients[0]]])
    print(
        f"\n{'gradient':18}{'ms a step':>11}{'error':>11}   MB that wait after 8, 32 steps    MB at most in 8, 32 steps"
    )
    for gradient in gradients:
        error = float((torch.cat([g.flatten() for g in found[gradient]]) - direct).norm() / direct.norm())
        each = 1e3 * min(seconds_of(likelihood(network(), 8, gradient), data, 256, 3) for _ in range(3))
        sizes = [memory(gradient, steps, data[:256]) for steps in (8, 32)]
        waits, most = ("".join(f"{size[k]:>9.3f}" for size in sizes) for k in (0, 1))
        print(f"{type(gradient).__name__:18}{each:>11.0f}{error:>11.1e}{waits:>28}{most:>29}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=40)
    parser.add_argument("--batch", type=int, default=256)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name, distribution in DATA.items():
        data, held = distribution.sample(50_000, seed=0), distribution.sample(2000, seed=1)
        print(f"\n{name}: the data itself has {-float(distribution.log_prob(held).mean()):.3f} nats per point")
        print(f"{'':16}{'seconds':>9}{'steps':>8}{'ms a step':>11}{'calls':>9}{'loss':>9}{'held-out NLL':>14}")
        for kind, (_, _, calls) in LOSSES.items():
            for used, steps, loss, mean in trained(kind, data, options.seconds, options.batch):
                with torch.no_grad():
                    nats = -float(pl.log_prob(loss.field, held, steps=40).mean())
                row = f"{used:>9.1f}{steps:>8}{1e3 * used / steps:>11.1f}{calls * steps:>9}{mean:>9.3f}{nats:>14.3f}"
                print(f"{kind:16}{row}", flush=True)
    compare([pl.Backpropagation(), pl.Recomputation(), pl.Adjoint()], DATA["mixture"].sample(2000, seed=0))


if __name__ == "__main__":
    main()
