"""Laws of training: 13, 17, 18 and 21."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from pathline.conditions import CLASS
from pathline.fields.network import NetworkField
from pathline.metrics.transport import transport_cost
from pathline.networks.mlp import MLP
from pathline.networks.text import Text
from pathline.noise import Noise
from pathline.paths.couplings import Coupling, IndependentCoupling, OptimalTransportCoupling
from pathline.paths.path import GaussianPath
from pathline.paths.predictions import NOISE, SCORE, Prediction
from pathline.paths.schedules import LinearSchedule, Schedule
from pathline.sampling.sample import sample
from pathline.training.augment import NONE
from pathline.training.batches import Batches, Order
from pathline.training.distributed import Group
from pathline.training.ema import EMA
from pathline.training.loop import train
from pathline.training.loss import MatchingLoss
from pathline.training.times import UniformTimes
from pathline.training.weights import ErrorAsWeight
from pathline.verify.parts import each_schedule, points
from pathline.verify.table import Figure, law, once, worst_of


class _Scaled(nn.Module):
    """A network, times -1/beta: the score of one that predicts noise."""

    def __init__(self, network: nn.Module, schedule: Schedule) -> None:
        super().__init__()
        self.network, self.schedule = network, schedule

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return -self.network(x, t) / self.schedule.beta(t)[:, None]  # type: ignore[no-any-return]


class _Listening(nn.Module):
    """A network that remembers the labels it was called with."""

    null = 3
    heard: Tensor

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        self.heard = y
        return x


@law(13, each_schedule)
def score_matching_is_noise_prediction(schedule: Schedule) -> Iterator[Figure]:
    """Denoising score matching is the mean of (s + noise/beta)^2, and DDPM's loss is beta^2 times it."""
    torch.manual_seed(0)
    network, data, path = MLP(3).double(), points(500, 3), GaussianPath(schedule)
    nn.init.normal_(network.last.weight)
    times = UniformTimes(0.05, 0.9)

    def errors(net: nn.Module, head: Prediction, weight: ErrorAsWeight | None = None) -> Tensor:
        loss = MatchingLoss(NetworkField(net, path, head), times=times, weight=weight)
        with torch.no_grad():
            return loss.errors(loss.draw(data, 0))

    ddpm, dsm = errors(network, NOISE), errors(_Scaled(network, schedule), SCORE)
    point = MatchingLoss(NetworkField(network, path), times=times).draw(data, 0)
    c = schedule.at(point.t, data)
    with torch.no_grad():
        written = ((_Scaled(network, schedule)(point.x, point.t) + point.noise / c.beta) ** 2).mean(1)
    weighted = errors(_Scaled(network, schedule), SCORE, ErrorAsWeight("noise"))
    for name, a, b in (
        ("DSM", dsm, written),
        ("DDPM", ddpm, c.beta[:, 0] ** 2 * dsm),
        ("weighted DSM", weighted, ddpm),
    ):
        yield Figure(f"relative error, {name}", float(((a - b).abs() / b).max()), 1e-10)


@law(17, once)
def labels_drop_at_their_rate() -> Iterator[Figure]:
    """Labels are dropped at their rate in training, and never otherwise."""
    network = _Listening()
    loss = MatchingLoss(NetworkField(network, GaussianPath(LinearSchedule())), drop=0.2)
    count, y = 50_000, torch.zeros(50_000, dtype=torch.long)
    loss(torch.zeros(count, 1), y, 0)
    dropped = int((network.heard == network.null).sum())
    yield Figure("z of the rate", abs(dropped - 0.2 * count) / math.sqrt(count * 0.16), 4.42)
    loss.eval()(torch.zeros(count, 1), y, 0)
    yield Figure("dropped in eval mode", int((network.heard == network.null).sum()), 0)


class _Several(nn.Module):
    """The same for conditions of two kinds: a class, and captions in three parts."""

    heard: Any

    def __init__(self) -> None:
        super().__init__()
        self.null = {"class": 3, "text": Text(torch.zeros(2).long(), torch.zeros(2).bool(), torch.zeros(1))}

    def forward(self, x: Tensor, t: Tensor, y: Any) -> Tensor:
        self.heard = y
        return x


@law(17, once)
def kinds_drop_at_rates_of_their_own() -> Iterator[Figure]:
    """Of several kinds each is dropped at its rate, beside all at once, independently, and whole."""
    network, count = _Several(), 50_000
    loss = MatchingLoss(
        NetworkField(network, GaussianPath(LinearSchedule())), drop={"all": 0.1, "class": 0.3, "text": 0.2}
    )
    text = Text(torch.ones(count, 2).long(), torch.ones(count, 2, dtype=torch.bool), torch.ones(count, 1))
    loss(torch.zeros(count, 1), {"class": torch.zeros(count, dtype=torch.long), "text": text}, 0)
    of_class, heard = network.heard["class"] == 3, network.heard["text"]
    of_text = ~heard.mask.any(1)
    both = 0.1 + 0.9 * 0.3 * 0.2
    for name, gone, share in (
        ("class", of_class, 1 - 0.9 * 0.7),
        ("text", of_text, 1 - 0.9 * 0.8),
        ("both", of_class & of_text, both),
    ):
        z = abs(int(gone.sum()) - share * count) / math.sqrt(count * share * (1 - share))
        yield Figure(f"z of the rate, {name}", z, 4.9)
    torn = (heard.tokens.any(1) == of_text) | (heard.mask.all(1) == of_text) | (heard.pooled[:, 0].bool() == of_text)
    yield Figure("captions dropped in part", int(torn.sum()), 0)


@law(17, once)
def transport_uses_each_point_once() -> Iterator[Figure]:
    """Transport is the cheapest permutation of a batch, and labels stay with their data."""
    data, noise, y = points(60, 3, seed=91) + 2, points(60, 3, seed=92), torch.arange(60) % 3
    unused, dearer, crossed = 0, 0.0, 0
    for coupling in (OptimalTransportCoupling(), OptimalTransportCoupling(False)):
        moved = coupling(noise, data, y)
        order = torch.cdist(moved, noise).argmin(1)
        unused += 60 - len(set(order.tolist())) + int((noise[order] != moved).sum())
        dearer = worst_of(dearer, float(transport_cost(moved, data) - transport_cost(noise, data)))
        if coupling.is_within_classes:
            crossed = int((y[order] != y).sum())
    yield Figure("points used twice or never", unused, 0)
    yield Figure("cost above that of no coupling", max(dearer, 0.0), 0)
    yield Figure("noise that changed its class", crossed, 0)
    few = [points(6, 2, seed=93), points(6, 2, seed=94)]
    least = min(float(transport_cost(few[0][list(p)], few[1])) for p in itertools.permutations(range(6)))
    found = float(transport_cost(OptimalTransportCoupling()(*few), few[1]))
    yield Figure("cost above the least of 720", abs(found - least), 1e-12)
    line = [points(40, 1, seed=95), points(40, 1, seed=96)]  # in one dimension the cheapest way keeps the order
    sorted_way = line[0].sort(0).values[line[1].argsort(0).argsort(0)[:, 0]]
    wrong = int((OptimalTransportCoupling()(*line) != sorted_way).sum())
    yield Figure("points on a line out of order", wrong, 0)


@law(17, once)
def transport_within_classes_leaves_noise_unbiased() -> Iterator[Figure]:
    """The noise that a class begins at is all of it if transport keeps to classes; across them it is a part."""
    batches, size = 100, 64
    within, across = [], []
    for k in range(batches):
        noise, y = Noise(k, stream=97).normal((size, 1), dtype=torch.float64), torch.arange(size) % 2
        data = 4.0 * y[:, None] - 2 + 0.1 * Noise(k, stream=98).normal((size, 1), dtype=torch.float64)
        within.append(OptimalTransportCoupling()(noise, data, y)[y == 1])
        across.append(OptimalTransportCoupling(False)(noise, data, y)[y == 1])
    kept, biased = torch.cat(within), torch.cat(across)
    count = len(kept)
    yield Figure("z of the mean", abs(float(kept.mean())) * count**0.5, 4.6)
    yield Figure("z of the variance", abs(float((kept**2).mean()) - 1) * (count / 2) ** 0.5, 4.6)
    yield Figure("mean noise of a class, were classes crossed", float(biased.mean()), 1.0, 0.7)  # sqrt(2/pi) = 0.80


@law(18, once)
def sampling_leaves_the_model_as_it_was() -> Iterator[Figure]:
    """Sampling uses averaged weights in eval mode; train mode and raw weights come back bit for bit."""
    field = _conditional()
    blocks: Any = field.network.blocks
    blocks.append(_Dropout())
    loss, ema = MatchingLoss(field), EMA(field, 0.9)
    data, y = points(256).float(), torch.arange(256) % 3
    for _ in train(loss, data, y, steps=20, batch_size=64, ema=ema):
        pass
    raw = {name: value.clone() for name, value in field.state_dict().items()}
    average = {name: value.clone() for name, value in ema.weights.items()}
    bound = field.given(1)
    field.train()
    blocks[0].eval()  # modes are mixed, and each must come back
    before = [part.training for part in field.modules()]
    with ema.applied():
        used = sum(int((value != average[name]).sum()) for name, value in field.named_parameters())
        x = sample(bound, (8, 2), steps=5, seed=1)
    yield Figure("weights that were not the average", used, 0)
    changed = sum(int((value != raw[name]).sum()) for name, value in field.state_dict().items())
    yield Figure("weights that changed", changed, 0)
    changed = sum(int((value != average[name]).sum()) for name, value in ema.weights.items())
    yield Figure("averages that changed", changed, 0)
    yield Figure("modes that changed", sum(a != b.training for a, b in zip(before, field.modules(), strict=True)), 0)
    field.load_state_dict(raw | average)
    field.eval()
    yield Figure("samples that differ", int((sample(bound, (8, 2), steps=5, seed=1) != x).sum()), 0)
    moved = sum(int((value != raw[name]).sum()) for name, value in average.items())
    yield Figure("averages equal to raw weights", float(moved == 0), 0)


def _couplings() -> Iterator[tuple[str, tuple[Coupling]]]:
    yield "independent", (IndependentCoupling(),)
    yield "global transport", (OptimalTransportCoupling(is_global=True),)


@law(21, _couplings)
def processes_train_as_one(coupling: Coupling) -> Iterator[Figure]:
    """Processes never share noise or times: together they see what one would, and have its gradient on average."""
    field = _conditional()
    loss = MatchingLoss(NetworkField(field.network.double(), field.path), coupling, drop=0.2)
    seen, gradient = _looked_at(loss, 1)
    for size in (2, 3):
        found, mean = _looked_at(loss, size)
        for name, a, b in zip(("data", "noise", "times", "labels"), found, seen, strict=True):
            unlike = int((a != b).sum()) if a.shape == b.shape else len(a)
            yield Figure(f"{name} that one process of {size} would not see", unlike, 0)
        for name, drawn in zip(("noise", "times"), found[1:3], strict=True):
            yield Figure(f"{name} that came twice, {size}", drawn.numel() - len(set(drawn.flatten().tolist())), 0)
        error = float((mean - gradient).abs().max() / gradient.abs().max())
        yield Figure(f"relative error of the gradient, {size}", error, 1e-6)


def _looked_at(loss: MatchingLoss, size: int, steps: int = 3, batch_size: int = 7) -> tuple[list[Tensor], Tensor]:
    """What processes see in some steps, in the order of the samples, and the mean of their gradients."""
    data, y, found = points(40, 2, seed=99), {CLASS: torch.arange(40) % 3}, []
    total = torch.zeros((), dtype=torch.float64)
    for step, rank in itertools.product(range(steps), range(size)):
        batches = Batches(loss, data, y, batch_size, 2, NONE, Group(rank, size), is_channels_last=False)
        for piece in batches.make(step, batches.rows(Order(len(data), loss.noise), step)):
            found.append((piece.point.data, piece.point.noise, piece.point.t, piece.y[CLASS]))
            total = total + loss(piece.point, piece.y) * piece.share / size
    gradient = torch.autograd.grad(total, list(loss.parameters()))
    return [torch.cat(values) for values in zip(*found, strict=True)], torch.cat([g.flatten() for g in gradient])


class _Dropout(nn.Module):
    """A block that differs between train and eval mode."""

    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.5)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        return self.drop(x)  # type: ignore[no-any-return]


def _conditional() -> NetworkField:
    torch.manual_seed(0)
    return NetworkField(MLP(2, width=32, depth=1, classes=3), GaussianPath(LinearSchedule()))
