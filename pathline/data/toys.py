"""Toys in the plane, whose densities are known exactly.

Squares are uniform, `p = 1 / area`. The other shapes are blurred by normal noise of variance s^2, so that with a curve
c_k(v), v uniform from 0 to 1, for each of K components

    p(x) = 1/K sum_k integral_0^1 N(x; c_k(v), s^2 I) dv

For a circle the integral is a Bessel function; for other curves it is taken by Gauss-Legendre quadrature, to rounding.
A pinwheel is a mixture of normals, twisted by an angle that depends on the radius alone, which keeps areas.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pathline.data.distributions import Distribution, GaussianMixture, check_counts, check_sizes, choose
from pathline.data.normalisation import Normalisation
from pathline.data.source import Samples, Source
from pathline.noise import Noise
from pathline.specs import build

PLACE_STREAM = 11
BLOCK = 1 << 18  # terms of a quadrature held at once: they stay in a core's cache
PANEL, NODES = 3.0, 16  # a panel in units of the blur, and its nodes: exact to 1e-11 ten blurs away


class Checkerboard(Distribution):
    """Uniform on every other square of a board around the origin; a component is a square.

    Args:
        squares: Along each side of the board.
        side: The length of the board.

    Raises:
        ValueError: If squares is no whole number from 1, or the length is not positive.
    """

    low: Tensor  # (components, 2): the corners
    high: Tensor

    dimension = 2

    def __init__(self, squares: int = 4, side: float = 4.0) -> None:
        super().__init__()
        check_sizes(side=side)
        check_counts(squares=squares)
        place = torch.tensor([(i, j) for i in range(squares) for j in range(squares) if (i + j) % 2 == 0])
        self.components = len(place)
        edges = torch.linspace(-side / 2, side / 2, squares + 1)
        self.register_buffer("low", edges[place])
        self.register_buffer("high", edges[place + 1])

    def log_prob(self, x: Tensor) -> Tensor:
        """Minus the logarithm of the squares' area on them, minus infinity beside them."""
        x = self.check(x)
        is_inside = ((x[:, None] >= self.low) & (x[:, None] <= self.high)).all(-1).any(-1)
        area = (self.high.double() - self.low.double()).prod(-1).sum().item()
        flat = 0 * x.sum(-1)  # keeps autograd: the slope is 0
        return torch.where(is_inside, -math.log(area), -math.inf).to(x.dtype) + flat

    def draw(self, count: int, noise: Noise) -> tuple[Tensor, Tensor]:
        """Points, and the square of each."""
        k = choose(_even(self.low), count, noise)
        place = noise.uniform((count, 2), dtype=torch.float64, device=self.low.device)
        x = self.low[k] + place * (self.high[k] - self.low[k]).double()
        return x.to(self.low.dtype), k  # rounding is monotone: no point leaves its square


class Rings(Distribution):
    """Circles around the origin, blurred by normal noise; a component is a circle, each as likely as the others.

        p(x) = 1/K sum_k exp(-|x|^2 / 2s^2 - R_k^2 / 2s^2) I_0(|x| R_k / s^2) / (2 pi s^2)

    Args:
        radii: Of the circles; one number is one circle.
        std: Of the noise, s.

    Raises:
        ValueError: If a radius or std is not positive.
    """

    radii: Tensor
    std: Tensor

    dimension = 2

    def __init__(self, radii: Sequence[float] | float = (1.0, 2.0, 3.0), std: float = 0.1) -> None:
        super().__init__()
        found = torch.tensor(
            [radii] if isinstance(radii, int | float) else list(radii), dtype=torch.get_default_dtype()
        )
        if not (found.ndim == 1 and len(found) and (found > 0).all() and found.isfinite().all()):
            raise ValueError(f"radii must be one or more positive numbers, got {radii}")
        self.components = len(found)
        self.register_buffer("radii", found)
        self.register_buffer("std", _blur(std))

    def log_prob(self, x: Tensor) -> Tensor:
        """The log-density of `x` in nats, of shape `(batch,)`."""
        r = self.check(x).norm(dim=1, keepdim=True)
        radii, variance = self.radii.to(x.dtype), self.std.to(x.dtype) ** 2
        bessel = torch.special.i0e(r * radii / variance).log()  # I_0 less its exponential growth
        return torch.logsumexp(bessel - (r - radii) ** 2 / (2 * variance), -1) - torch.log(
            2 * math.pi * variance * self.components
        )

    def draw(self, count: int, noise: Noise) -> tuple[Tensor, Tensor]:
        """Points, and the circle of each."""
        k = choose(_even(self.radii), count, noise)
        circle = self.radii[k][:, None] * _direction(2 * math.pi * _place(count, noise, self.std))
        return circle.to(self.std.dtype) + self.std * noise.like(circle.to(self.std.dtype)), k


class _Curves(Distribution):
    """Curves in the plane, blurred by normal noise; a component is a curve, each as likely as the others."""

    std: Tensor

    dimension = 2

    def __init__(self, components: int, std: float) -> None:
        super().__init__()
        self.components = components
        self.register_buffer("std", _blur(std))

    @abstractmethod
    def curve(self, v: Tensor) -> Tensor:
        """The point of each curve at `v` from 0 to 1, of shape `(len(v), components, 2)`; smooth in v."""

    def log_prob(self, x: Tensor) -> Tensor:
        """The log-density of `x` in nats, of shape `(batch,)`."""
        v, weights = self.nodes()
        c = self.curve(v).flatten(0, 1).to(x)
        each = (weights / self.components).log().repeat_interleave(self.components).to(x)
        variance = self.std.to(x.dtype) ** 2

        def integral(x: Tensor) -> Tensor:
            square = (x[:, :1] - c[:, 0]) ** 2 + (x[:, 1:] - c[:, 1]) ** 2
            return torch.logsumexp(each - square / (2 * variance), -1)

        blocks = torch.split(self.check(x), max(1, BLOCK // len(c)))
        return torch.cat([integral(block) for block in blocks]) - torch.log(2 * math.pi * variance)

    def nodes(self, refinement: int = 1) -> tuple[Tensor, Tensor]:
        """Where along the curves the quadrature looks, and with what weights, in float64."""
        length = float(self.curve(torch.linspace(0, 1, 1001).double()).diff(dim=0).norm(dim=-1).sum(0).max())
        panels = refinement * math.ceil(length / (PANEL * float(self.std)))
        node, weight = (torch.from_numpy(part) for part in np.polynomial.legendre.leggauss(NODES))
        v = (torch.arange(panels)[:, None] + (node + 1) / 2) / panels
        return v.flatten(), (weight / (2 * panels)).repeat(panels)

    def draw(self, count: int, noise: Noise) -> tuple[Tensor, Tensor]:
        """Points, and the curve of each."""
        k = choose(_even(self.std.expand(self.components)), count, noise)
        sharp = self.curve(_place(count, noise, self.std))[torch.arange(count), k].to(self.std)
        return sharp + self.std * noise.like(sharp), k


class Moons(_Curves):
    """Two interleaved half circles of radius 1, blurred by normal noise.

    Args:
        std: Of the noise.

    Raises:
        ValueError: If std is not positive.
    """

    def __init__(self, std: float = 0.05) -> None:
        super().__init__(2, std)

    @property
    def names(self) -> tuple[str, ...]:
        """The one that opens downwards is the upper one."""
        return ("upper", "lower")

    def curve(self, v: Tensor) -> Tensor:
        """The upper half circle around the origin, the lower one around (1, 1/2)."""
        upper = _direction(math.pi * v)
        return torch.stack((upper, torch.tensor([1.0, 0.5]).to(v) - upper), 1)


class Spiral(_Curves):
    """Arms that wind out evenly around the origin, blurred by normal noise.

    An arm's radius grows with its angle, and its points are spread over the area that it sweeps, which is very nearly
    evenly along it.

    Args:
        arms: How many.
        turns: Of each arm.
        radius: Where an arm ends; it begins at a tenth of that.
        std: Of the noise.

    Raises:
        ValueError: If arms is no whole number from 1, or a size is not positive.
    """

    def __init__(self, arms: int = 2, turns: float = 1.5, radius: float = 3.0, std: float = 0.1) -> None:
        super().__init__(arms, std)
        check_counts(arms=arms)
        check_sizes(turns=turns, radius=radius)
        self.turns, self.radius = turns, radius

    def curve(self, v: Tensor) -> Tensor:
        """The arms, each turned by an even share of a circle."""
        inner = 0.1
        r = (inner**2 + (1 - inner**2) * v).sqrt()
        start = 2 * math.pi * torch.arange(self.components).to(v) / self.components
        return self.radius * r[:, None, None] * _direction(2 * math.pi * self.turns * r[:, None] + start)


class Pinwheel(Distribution):
    """Normals on a circle, long along the radius, and twisted; a component is an arm.

        x = rotation(twist |z|) z,   z from a mixture of normals, whose density p(x) = p(z) is kept: areas do not change

    Args:
        arms: How many.
        twist: The angle by which a point at radius 1 is turned.
        radius: Of the means.
        along: The standard deviation along the radius.
        across: The standard deviation across it.

    Raises:
        ValueError: If arms is no whole number from 1, or a size is not positive.
    """

    dimension = 2

    def __init__(
        self, arms: int = 5, twist: float = 1.0, radius: float = 2.0, along: float = 0.6, across: float = 0.15
    ) -> None:
        super().__init__()
        check_counts(arms=arms)
        check_sizes(radius=radius, along=along, across=across)
        if not math.isfinite(twist):
            raise ValueError(f"twist must be a finite angle, got {twist}")
        self.components, self.twist = arms, twist
        out = _direction(2 * math.pi * torch.arange(arms).double() / arms)
        axes = torch.stack((out, torch.stack((-out[:, 1], out[:, 0]), -1)), -1)
        covariances = axes @ torch.diag(torch.tensor([along, across]).double() ** 2) @ axes.mT
        real = torch.get_default_dtype()
        self.straight = GaussianMixture((radius * out).to(real), ((covariances + covariances.mT) / 2).to(real))

    def log_prob(self, x: Tensor) -> Tensor:
        """The log-density of `x` in nats, of shape `(batch,)`."""
        return self.straight.log_prob(self.twisted(self.check(x), -1))

    def draw(self, count: int, noise: Noise) -> tuple[Tensor, Tensor]:
        """Points, and the arm of each."""
        z, k = self.straight.draw(count, noise)
        return self.twisted(z, 1), k

    def twisted(self, x: Tensor, way: int) -> Tensor:
        """Points of shape `(batch, 2)` turned by `way * twist * |x|`: forth for 1, back for -1."""
        cos, sin = _direction(way * self.twist * x.norm(dim=1)).unbind(-1)
        return torch.stack((cos * x[:, 0] - sin * x[:, 1], sin * x[:, 0] + cos * x[:, 1]), -1)


@dataclass(frozen=True)
class ToySource(Source):
    """Points of a distribution that has a name, its components as classes: "moons", "rings:2".

    Attributes:
        name: Of the distribution, with its arguments.
        count: How many points.
        seed: Point i depends on the seed and i only.
    """

    name: str
    count: int = 20_000
    seed: int = 0

    def load(self) -> Samples:
        """The points, in units in which both coordinates together have mean 0 and standard deviation 1."""
        toy = build(Distribution, self.name)
        x, component = toy.sample_with_component(self.count, self.seed)
        has_classes = toy.components > 1
        return Samples(
            x=x,
            y=component if has_classes else None,
            classes=toy.names if has_classes else (),
            normalisation=Normalisation(float(x.mean()), float(x.std())),  # one for all keeps circles round
            title=f"{self.count:,} points of the toy {self.name}, seed {self.seed}",
            licence="generated; no rights",
            source="pathline's own distributions, whose densities are known",
        )


def _blur(std: float) -> Tensor:
    check_sizes(std=std)
    return torch.tensor(float(std))


def _even(like: Tensor) -> Tensor:
    """The same chance for each component."""
    return torch.full((len(like),), 1 / len(like), dtype=torch.float64, device=like.device)


def _place(count: int, noise: Noise, like: Tensor) -> Tensor:
    """Uniform numbers from 0 to 1, of shape `(count,)`, in float64."""
    return noise.of(PLACE_STREAM).uniform((count, 1), dtype=torch.float64, device=like.device)[:, 0]


def _direction(angle: Tensor) -> Tensor:
    return torch.stack((angle.cos(), angle.sin()), -1)
