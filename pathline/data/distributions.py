"""Distributions whose density and samples are exact.

    p(x) = sum_k weight_k N(x; mean_k, covariance_k)

A covariance is kept as its eigenvalues and axes: any alpha^2 C + beta^2 I then has the same axes, which is what the
exact fields of a Gaussian path are made of.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from numbers import Integral
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from pathline.arguments import numbers, whole
from pathline.noise import Noise, fresh_seed
from pathline.tensors import exact, exactly, is_eager, unrounded

Numbers: TypeAlias = Tensor | Sequence[Any]  # a tensor, or lists of Python numbers

ASYMMETRY = 1e-5  # of correlations: what rounding to float32 leaves of a product of matrices
DATA_STREAM, COMPONENT_STREAM, MEANS_STREAM = 8, 9, 10


class Distribution(nn.Module, ABC):
    """A density on vectors, with exact samples; each of them belongs to one of its components.

    Attributes:
        dimension: The size of a vector.
        components: How many parts it is made of.
    """

    dimension: int
    components: int = 1

    @property
    def names(self) -> tuple[str, ...]:
        """What its components are called."""
        return tuple(str(k) for k in range(self.components))

    @abstractmethod
    def log_prob(self, x: Tensor) -> Tensor:
        """The log-density of `x`, of shape `(batch, dimension)`, in nats, of shape `(batch,)`."""

    @abstractmethod
    def draw(self, count: int, noise: Noise) -> tuple[Tensor, Tensor]:
        """What a noise makes: points of shape `(count, dimension)`, and the component of each, `(count,)`."""

    def sample(self, count: int, seed: int | None = None) -> Tensor:
        """Samples of shape `(count, dimension)`: sample i depends on (seed, i) only."""
        return self.sample_with_component(count, seed)[0]

    def sample_with_component(self, count: int, seed: int | None = None) -> tuple[Tensor, Tensor]:
        """Samples, and which component each is of.

        Raises:
            ValueError: If the count is not positive.
        """
        count = whole("count", count, 1)
        return self.draw(count, Noise(fresh_seed() if seed is None else seed, stream=DATA_STREAM))

    def check(self, x: Tensor) -> Tensor:
        """The same points, if they are real numbers of shape `(batch, dimension)`."""
        x = numbers("x", x)
        if x.ndim != 2 or x.shape[1] != self.dimension:
            raise ValueError(f"x must have shape (batch, {self.dimension}), got {tuple(x.shape)}")
        return x


class GaussianMixture(Distribution):
    """A mixture of normals.

    Parameters are kept in the precision in which they are given: tensors in their own, Python numbers in float64.
    Samples have the dtype of the means, the default dtype where those are Python numbers.

    Args:
        means: Of shape `(components, dimension)`.
        covariances: Of shape `(components, dimension, dimension)`, or variances of shape `(components, dimension)`
            (along the axes) or `(components,)` (the same in every direction).
        weights: Of shape `(components,)`; they are made to add up to 1. All the same if left out.

    Raises:
        ValueError: If shapes do not fit, a number is not finite, a covariance is not symmetric (to rounding) and
            positive definite, or a weight is not positive.
    """

    like: Tensor
    means: Tensor
    weights: Tensor
    variances: Tensor  # (components, dimension): eigenvalues
    axes: Tensor | None  # (components, dimension, dimension): eigenvectors as columns, None where along the axes

    def __init__(self, means: Numbers, covariances: Numbers, weights: Numbers | None = None) -> None:
        super().__init__()
        like = torch.empty(0, dtype=_dtype_of(means))
        means = _floating(means, "means")
        covariances = _floating(covariances, "covariances", means)
        if means.ndim != 2 or not means.numel():
            raise ValueError(
                f"means must have shape (components, dimension), with at least one, got {tuple(means.shape)}"
            )
        for need, values in (("means must be", means), ("covariances must be positive definite and", covariances)):
            if not values.isfinite().all():
                raise ValueError(f"{need} finite, got {float(values[~values.isfinite()][0])}")
        k, d = means.shape
        if weights is None:
            weights = torch.ones(k)
        weights = _floating(weights, "weights", means)
        if weights.shape != (k,) or not ((weights > 0) & weights.isfinite()).all():
            raise ValueError(f"weights must be {k} positive numbers, finite, one a component, got {weights.tolist()}")
        if covariances.shape not in ((k,), (k, d), (k, d, d)):
            raise ValueError(
                f"covariances must have shape ({k},), ({k}, {d}) or ({k}, {d}, {d}) to go with means of shape "
                f"({k}, {d}), got {tuple(covariances.shape)}"
            )
        axes = None
        if covariances.ndim == 3:
            variances, axes = _axes_of(covariances)
        else:
            variances = covariances.reshape(k, -1).expand(k, d)
        if not (variances > 0).all():
            raise ValueError(f"covariances must be positive definite, the least variance is {variances.min():g}")
        self.dimension, self.components = d, k
        self.register_buffer("like", like.to(means.device), persistent=False)  # samples are like it
        self.register_buffer("means", means)
        self.register_buffer("weights", weights / weights.sum())
        self.register_buffer("variances", variances.contiguous())
        self.register_buffer("axes", axes)

    @property
    def mixture(self) -> GaussianMixture:
        """Itself."""
        return self

    @property
    def scale(self) -> float:
        """The standard deviation of its numbers: the root of the mean of their variances; NaN if untold."""
        if self.means.is_meta or not is_eager(self.means, self.variances, self.weights):
            return math.nan
        weights, means, variances = (part.detach().double() for part in (self.weights, self.means, self.variances))
        apart = (means - weights @ means) ** 2
        return float((weights @ (apart + variances)).mean().sqrt())

    @classmethod
    def symmetric(cls, components: int = 8, radius: float = 5.0, std: float = 1.0) -> GaussianMixture:
        """Components evenly on a circle in the plane.

        Raises:
            ValueError: If components is no whole number from 1, or a size is not positive.
        """
        check_counts(components=components)
        check_sizes(radius=radius, std=std)
        angle = torch.arange(components) * (2 * math.pi / components)
        return cls(radius * torch.stack((angle.cos(), angle.sin()), 1), torch.full((components,), std**2))

    @classmethod
    def random(
        cls, components: int = 8, dimension: int = 2, radius: float = 5.0, std: float = 0.5, seed: int = 0
    ) -> GaussianMixture:
        """Components anywhere in a cube from -radius to radius; the same for the same seed.

        Raises:
            ValueError: If a count is no whole number from 1, or a size is not positive.
        """
        check_counts(components=components, dimension=dimension)
        check_sizes(radius=radius, std=std)
        place = Noise(seed, stream=MEANS_STREAM).uniform((components, dimension))
        return cls(radius * (2 * place - 1), torch.full((components,), std**2))

    def to_axes(self, x: Tensor) -> Tensor:
        """Vectors of shape `(batch, components, dimension)` in each component's own axes."""
        return x if self.axes is None else torch.einsum("bkd,kde->bke", x, self.axes.to(x))

    def from_axes(self, x: Tensor) -> Tensor:
        """The reverse of `to_axes`."""
        return x if self.axes is None else torch.einsum("bke,kde->bkd", x, self.axes.to(x))

    @exactly
    def log_prob(self, x: Tensor) -> Tensor:
        """The log-density of `x` in nats, of shape `(batch,)`."""
        z = self.to_axes(self.check(x)[:, None] - self.means.to(x))
        return torch.logsumexp(self.weights.to(x).log() + log_normal(z, self.variances.to(x)), -1)

    def draw(self, count: int, noise: Noise) -> tuple[Tensor, Tensor]:
        """Points, and the component of each."""
        k = choose(self.weights, count, noise)
        z = noise.normal((count, self.dimension), dtype=self.like.dtype, device=self.like.device)
        z = z * self.variances.to(z.dtype)[k].sqrt()
        if self.axes is not None:
            with unrounded(z):
                z = torch.einsum("be,bde->bd", z, self.axes.to(z.dtype)[k])
        return self.means.to(z.dtype)[k] + z, k


class Normal(Distribution):
    """A normal density.

    Args:
        mean: Of shape `(dimension,)`.
        covariance: Of shape `(dimension, dimension)`, or variances of shape `(dimension,)` or `()`.
    """

    def __init__(self, mean: Numbers, covariance: Numbers | float = 1.0) -> None:
        super().__init__()
        dtype = _dtype_of(mean)
        mean = exact(mean, "mean")
        if mean.ndim != 1:
            raise ValueError(f"mean must have shape (dimension,), got {tuple(mean.shape)}")
        self.mixture = GaussianMixture(mean[None], exact(covariance, "covariance")[None])
        self.mixture.like = self.mixture.like.to(dtype)
        self.dimension = self.mixture.dimension

    def log_prob(self, x: Tensor) -> Tensor:
        """The log-density of `x` in nats, of shape `(batch,)`."""
        return self.mixture.log_prob(x)

    def draw(self, count: int, noise: Noise) -> tuple[Tensor, Tensor]:
        """Points, all of one component."""
        return self.mixture.draw(count, noise)


def _dtype_of(means: Any) -> torch.dtype:
    """The dtype of samples: that of the means, the default one where they are Python numbers or integers."""
    dtype = exact(means, "means").dtype if hasattr(means, "dtype") else torch.get_default_dtype()
    return dtype if dtype.is_floating_point else torch.get_default_dtype()


def _floating(values: Any, name: str, like: Tensor | None = None) -> Tensor:
    """Parameters as floating-point numbers, at least as precise as `like`, and on its device."""
    given = exact(values, name)
    given = given if given.is_floating_point() else given.to(torch.float64)
    return given if like is None else given.to(like.device, torch.promote_types(given.dtype, like.dtype))


def _axes_of(covariances: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues, ascending, and eigenvectors of covariances, each of shape `(components, dimension, dimension)`.

    Raises:
        ValueError: If one is not symmetric to rounding, or not positive definite by more than that. Both are told in
            units of its standard deviations, so that tiny variances are looked at as closely as large ones.
    """
    variance = covariances.diagonal(dim1=1, dim2=2)
    if not (variance > 0).all():
        raise ValueError(f"covariances must be positive definite, got a variance of {float(variance.min()):g}")
    std = variance.sqrt()
    correlation = covariances / (std[:, :, None] * std[:, None])
    gap = (correlation - correlation.mT).abs().amax((1, 2))
    if not (gap <= ASYMMETRY).all():
        worst = int(gap.argmax())
        raise ValueError(
            f"covariances must be symmetric, and that of component {worst} is not: correlations differ by up to "
            f"{float(gap[worst]):.2g}; pass (c + c.mT) / 2 if that is meant"
        )
    least = torch.linalg.eigvalsh((correlation + correlation.mT) / 2).amin(1)
    if not (least > covariances.shape[1] * torch.finfo(covariances.dtype).eps).all():
        raise ValueError(
            f"covariances must be positive definite, and that of component {int(least.argmin())} is not: the least "
            f"eigenvalue of its correlations is {float(least.min()):.2g}; add some variance to its diagonal"
        )
    found: tuple[Tensor, Tensor] = torch.linalg.eigh((covariances + covariances.mT) / 2)
    return found


def choose(weights: Tensor, count: int, noise: Noise) -> Tensor:
    """Components by chance, k with the chance `weights[k]`, of shape `(count,)`."""
    place = noise.of(COMPONENT_STREAM).uniform((count, 1), dtype=torch.float64, device=weights.device)[:, 0]
    return torch.searchsorted(weights.double().cumsum(0), place).clamp(max=len(weights) - 1)


def log_normal(z: Tensor, variance: Tensor) -> Tensor:
    """The log-density of N(0, diag(variance)) at `z`, summed over the last dimension."""
    return -0.5 * (z**2 / variance + variance.log() + math.log(2 * math.pi)).sum(-1)


def check_sizes(**sizes: float) -> None:
    """A ValueError names the first of them that is not a positive number."""
    for name, size in sizes.items():
        if not 0 < size < math.inf:
            raise ValueError(f"{name} must be a positive number, got {size}")


def check_counts(**counts: int) -> None:
    """A ValueError names the first of them that is no whole number from 1."""
    for name, count in counts.items():
        if isinstance(count, bool) or not isinstance(count, Integral) or count < 1:
            raise ValueError(f"{name} must be a whole number from 1, got {count}")
