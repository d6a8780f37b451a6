"""Law 20: a training that was stopped goes on as if nothing had happened, to the bit, in the middle of an epoch too."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import torch
from torch import nn

from pathline.fields.network import NetworkField
from pathline.networks.mlp import MLP
from pathline.noise import Noise
from pathline.paths.path import GaussianPath
from pathline.paths.schedules import LinearSchedule
from pathline.training import checkpoint
from pathline.training.batches import Order
from pathline.training.ema import EMA
from pathline.training.loop import adamw, train, warmup_cosine
from pathline.training.loss import MatchingLoss
from pathline.verify.parts import points
from pathline.verify.table import Figure, law, once

STEPS, BATCH = 12, 16


class _Dropping(nn.Module):
    """A network that draws random numbers of torch's own while it is trained."""

    null = 3

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.dropout = MLP(2, 8, 1, classes=3), nn.Dropout(0.2)

    def forward(self, x: torch.Tensor, t: torch.Tensor, y: torch.Tensor | None = None) -> torch.Tensor:
        return self.inner(self.dropout(x), t, y)  # type: ignore[no-any-return]


class _Training:
    """A small training on forty points: an epoch is two steps and a half."""

    def __init__(self, seed: int) -> None:
        torch.manual_seed(seed)
        self.loss = MatchingLoss(NetworkField(_Dropping(), GaussianPath(LinearSchedule())), drop=0.2)
        self.ema, self.optimizer, self.step = EMA(self.loss.field, 0.9), adamw(self.loss, 1e-2), 0

    def go_on(self, count: int) -> None:
        x, y = points(40, 2, seed=71).float(), torch.arange(40) % 3
        settings = {"optimizer": self.optimizer, "ema": self.ema, "lr_schedule": warmup_cosine(), "start": self.step}
        steps = train(self.loss, x, y, steps=STEPS, batch_size=BATCH, **settings)  # type: ignore[arg-type]
        self.step += len(list(islice(steps, count)))

    def numbers(self) -> dict[str, torch.Tensor]:
        found = checkpoint.contents(self.loss.field, self.ema, self.optimizer)
        count = {"updates of the average": torch.tensor(self.ema.updates)}
        return {f"{part} {name}": value for part, values in found.items() for name, value in values.items()} | count


@law(20, lambda: [(f"after {k}", (k,)) for k in (2, 5, 7)], seconds=0.5)
def a_training_goes_on_to_the_bit(stop: int) -> Iterator[Figure]:
    """Weights, averages, moments and random states are those of a training that never stopped."""
    with torch.random.fork_rng(devices=[]), tempfile.TemporaryDirectory() as folder:
        whole, begun, again = _Training(0), _Training(0), _Training(1)
        torch.manual_seed(2)
        whole.go_on(STEPS)
        torch.manual_seed(2)
        begun.go_on(stop)
        checkpoint.save(Path(folder), stop, begun.loss.field, begun.ema, begun.optimizer)
        torch.manual_seed(3)  # another process would not know the state either
        checkpoint.restore(checkpoint.load(Path(folder), stop), again.loss.field, again.ema, again.optimizer)
        again.step = stop
        again.go_on(STEPS - stop)
        truth, found = whole.numbers(), again.numbers()
    wrong = sum(name not in found or not torch.equal(found[name], value) for name, value in truth.items())
    yield Figure("tensors that differ", wrong + len(found.keys() - truth.keys()), 0)


@law(20, once)
def an_epoch_holds_each_sample_once() -> Iterator[Figure]:
    """Batches run on over the end of an epoch; each epoch has every sample, in an order of its own."""
    order = Order(40, Noise(3))
    rows = torch.cat([order.rows(step * BATCH, BATCH) for step in range(5)]).view(2, 40)
    yield Figure("samples seen twice or never", int((rows.sort(1).values != torch.arange(40)).sum()), 0)
    yield Figure("epochs in the same order", int(torch.equal(rows[0], rows[1])), 0)
    again = Order(40, Noise(3)).rows(3 * BATCH, BATCH)
    yield Figure(
        "samples of a stretch that differ when it is asked for alone", int((again != rows.flatten()[48:64]).sum()), 0
    )
