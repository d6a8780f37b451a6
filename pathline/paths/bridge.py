"""Bridges between two sets of samples, neither of them noise.

    x_t = (1 - t) noise + t data + g_t z,   g_t = sigma sqrt(t (1 - t)),   z ~ N(0, I)

where `noise` is whatever the bridge begins at: straight lines if sigma is 0, Brownian bridges if it is more.

    velocity = data - noise + g' z,   score = -z / g

A bridge holds three unknowns, so its score does not follow from its velocity, as it does on a Gaussian path: it takes a
head of its own. Given that head, z = -g score is known, and what is left is a straight line; all coefficients are of

    g^2 = sigma^2 t (1 - t)   and   g g' = sigma^2 (1 - 2 t) / 2,   finite at both ends.

Source: Tong et al. 2024, https://arxiv.org/abs/2307.03672, section 3 ([SF]2M); Albergo & Vanden-Eijnden 2023,
https://arxiv.org/abs/2303.08797, for two-sided interpolants
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pathline.noise import Noise, fresh_seed
from pathline.paths.path import HeadMix, Heads, Path, PathPoint, ends_of, ranked
from pathline.paths.predictions import DATA, NOISE, SCORE, VELOCITY, Interval, Prediction, mix
from pathline.paths.schedules import LinearSchedule
from pathline.solvers.solver import Draw
from pathline.tensors import Time, meet, wide

KINDS = (VELOCITY, SCORE, DATA, NOISE)


@dataclass(frozen=True)
class BridgePoint(PathPoint):
    """A point of a bridge, with the normal numbers `z` of its noise."""

    x: Tensor
    t: Tensor
    data: Tensor
    noise: Tensor
    z: Tensor
    sigma: float

    def target(self, prediction: Prediction) -> Tensor:
        """What a prediction of this kind ought to be here.

        Raises:
            ValueError: If a bridge has no such kind: `v`, say, or the score where sigma is 0.
        """
        known(prediction, self.sigma)
        if prediction == DATA:
            return self.data
        if prediction == NOISE:
            return self.noise
        t = meet(self.t, self.x).to(self.x.dtype)
        root = (t * (1 - t)).sqrt()
        if prediction == SCORE:
            return -self.z / (self.sigma * root)
        straight = self.data - self.noise
        return straight + self.sigma * (1 - 2 * t) / (2 * root) * self.z if self.sigma else straight


@dataclass(frozen=True)
class BridgePath(Path):
    """The bridge between two sets of samples: straight lines if sigma is 0, Brownian bridges if it is more.

    Its kinds are velocity, data and noise (the expected ends) and, for sigma > 0, the score, which needs a head of its
    own: `NetworkField(network, BridgePath(0.5), (VELOCITY, SCORE))`.

    Raises:
        ValueError: If sigma is negative or not finite.
    """

    sigma: float = 0.0
    schedule = LinearSchedule()  # a point holds t of the data and 1 - t of the other end
    is_gaussian = False

    def __post_init__(self) -> None:
        if not 0 <= self.sigma < float("inf"):
            raise ValueError(f"sigma must be a finite number, 0 or more, got {self.sigma}")

    def point(self, noise: Tensor, data: Tensor, t: Time, draw: Draw | None = None) -> BridgePoint:
        """A point of the bridge, whose own noise is `draw(data)`; a fresh one where left out."""
        t = ends_of(noise, data, t)
        s = meet(t, data).to(data.dtype)
        x = (1 - s) * noise + s * data
        if not self.sigma:
            return BridgePoint(x, t, data, noise, torch.zeros_like(x), self.sigma)
        z = (draw or Noise(fresh_seed()))(data)
        return BridgePoint(x + self.sigma * (s * (1 - s)).sqrt() * z, t, data, noise, z, self.sigma)

    def mix(self, heads: Heads, kind: Prediction, t: Tensor) -> HeadMix:
        """From the score head the noise of the bridge, from that and another head the straight line left."""
        t = wide(t)
        for each in (kind, *heads):
            known(each, self.sigma)
        if kind in heads:
            _, one, outside = mix(kind, kind, self.schedule, t)
            return HeadMix(None, tuple(one if head == kind else None for head in heads), outside)
        head = self._straight(heads, kind)
        m, n, singular = mix(heads[head], kind, self.schedule, t)
        factors: list[Tensor | None] = [n if i == head else None for i in range(len(heads))]
        if self.sigma:
            squared, slope = self.sigma**2 * t * (1 - t), self.sigma**2 * (1 - 2 * t) / 2
            of_score = m * squared
            if heads[head] == VELOCITY:
                of_score = of_score + n * slope
            if kind == VELOCITY:
                of_score = of_score - slope
            factors[heads.index(SCORE)] = of_score
        return HeadMix(m, tuple(factors), singular)

    def interval(self, heads: Heads, kind: Prediction) -> Interval:
        """The times at which a kind can be read from the heads."""
        singular = self.mix(heads, kind, torch.tensor([0.0, 1.0])).singular
        return Interval(0.0, 1.0, not singular[0], not singular[1])

    def refusal(self, heads: Heads, kind: Prediction, t: Tensor) -> str:
        """Why a kind cannot be read from the heads at t."""
        return (
            f"t must lie in {self.interval(heads, kind)} to read {kind.name} from {_names(heads)} on {self}, "
            f"got t = {t.flatten()[0]:.10g}"
        )

    def is_bounded(self, kind: Prediction, t: Tensor) -> Tensor:
        """Everywhere, but at both ends for velocity and score where sigma > 0."""
        if not self.sigma or kind in (DATA, NOISE):
            return torch.ones_like(t, dtype=torch.bool)
        return (t > 0) & (t < 1)

    def target_variance(self, kind: Prediction, t: Tensor) -> Tensor:
        """1 for the ends, 2 + g'^2 for the velocity, 1 / g^2 for the score."""
        squared = self.sigma**2 * t * (1 - t)
        if kind == SCORE:
            return squared.reciprocal()
        if kind == VELOCITY:
            return 2 + (self.sigma**2 * (1 - 2 * t) / 2) ** 2 / squared if self.sigma else torch.full_like(t, 2.0)
        return torch.ones_like(t)

    def _straight(self, heads: Heads, kind: Prediction) -> int:
        """The head that settles the straight line, once the bridge's noise is known."""
        others = [i for i in ranked(heads) if heads[i] != SCORE]
        if kind == SCORE or not others or (self.sigma and SCORE not in heads):
            need = "a score head" if SCORE not in heads else "a head beside the score"
            raise ValueError(
                f"{kind.name} cannot be read from {_names(heads)} on {self}: it needs {need}; train a field with two, "
                "NetworkField(network, path, (VELOCITY, SCORE))"
            )
        return others[0]


def known(kind: Prediction, sigma: float) -> None:
    """Refuse a kind that a bridge does not have.

    Raises:
        ValueError: If it has none.
    """
    if kind not in KINDS:
        raise ValueError(f"a bridge has no {kind.name}: its kinds are {', '.join(k.name for k in KINDS)}")
    if kind == SCORE and not sigma:
        raise ValueError(
            "a bridge with sigma = 0 has no score: nothing is known of the density it begins at; "
            "use BridgePath(sigma) with sigma > 0 and a score head, or a GaussianPath"
        )


def _names(heads: Heads) -> str:
    return " and ".join(f"{head.name}" for head in heads) + (" heads" if len(heads) > 1 else " alone")
