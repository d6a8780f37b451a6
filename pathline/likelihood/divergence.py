"""The divergence of a function of points, exactly or estimated from a few products with its Jacobian J.

    exact           div = sum_i e_i . J^T e_i                            one product for each number of a point
    Hutchinson      div ~ v . J^T v,   E v v^T = I                       one for each probe v
    Hutch++         div ~ tr(Q^T J^T Q) + v' . J^T v',   v' = v - Q Q^T v,   Q an orthonormal basis of J^T S

A product J^T v is one backward pass, and all of a batch of vectors take theirs together. An estimate is the same linear
functional of J at every time of a solve, as its probes are drawn once for each sample; so a solve makes one independent
estimate of the integral for each probe, and their spread tells its error.

Source: Hutchinson 1990, https://doi.org/10.1080/03610919008812866; Grathwohl et al. 2019,
https://arxiv.org/abs/1810.01367 (fixed probes); Meyer et al. 2021, https://arxiv.org/abs/2010.09649 (Hutch++)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from pathline.noise import Noise
from pathline.sampling.sample import is_out_of_memory
from pathline.tensors import sum_per_sample

AT_ONCE = 1 << 18  # numbers of the vectors that go backward together: what they leave behind stays in a cache


@dataclass(frozen=True)
class Pullback:
    """J^T v as `torch.func` has it, which unlike autograd's tape can itself be transformed."""

    back: Callable[[Tensor], Tensor]


class Divergence(ABC):
    """A way to find the divergence of a function at a batch of points.

    Attributes:
        estimates: How many independent estimates it makes of each.
    """

    estimates: int

    @abstractmethod
    def vectors(self, x: Tensor, noise: Noise) -> Tensor:
        """What is drawn once for a whole solve, of shape `(vectors, *x.shape)`: those of sample i depend on it only."""

    @abstractmethod
    def of(self, value: Tensor | Pullback, x: Tensor, vectors: Tensor, is_kept: bool) -> Tensor:
        """The divergence of a function whose `value` at `x` was just computed, of shape `(estimates, batch)`.

        No value may depend on the point of another sample. `is_kept` is whether gradients of the divergence are wanted.
        Where a transform of `torch.func` is at work, `value` is the function's `Pullback`.
        """


@dataclass(frozen=True)
class Exact(Divergence):
    """The trace itself, which costs as many products as a point has numbers.

    Args:
        at_once: Directions that are taken together; as suits a cache unless given.

    Raises:
        ValueError: If that is below 1.
    """

    at_once: int | None = None
    estimates = 1

    def __post_init__(self) -> None:
        if self.at_once is not None and self.at_once < 1:
            raise ValueError(f"at_once must be at least 1 direction, got {self.at_once}")

    def vectors(self, x: Tensor, noise: Noise) -> Tensor:
        """None."""
        return x.new_empty(0, *x.shape)

    def of(self, value: Tensor | Pullback, x: Tensor, vectors: Tensor, is_kept: bool) -> Tensor:
        """The sum of the Jacobian's diagonal."""
        size = max(x[0].numel(), 1)
        at_once = self.at_once or min(max(AT_ONCE // x.numel(), 1), size)
        total = x.new_zeros(len(x))
        for first in range(0, size, at_once):
            index = torch.arange(first, min(first + at_once, size), device=x.device)
            basis = torch.zeros(len(index), 1, size, dtype=x.dtype, device=x.device)
            basis[torch.arange(len(index)), 0, index] = 1
            rows = pulled(value, x, basis.expand(-1, len(x), -1).reshape(-1, *x.shape), is_kept).flatten(2)
            total = total + rows[torch.arange(len(index)), :, index].sum(0)
        return total[None]


@dataclass(frozen=True)
class Hutchinson(Divergence):
    """One estimate for each probe: signs (Rademacher), or normal numbers.

    Signs have the smaller variance, 2 (|J|^2 - |diag J|^2) for a symmetric J, and none at all where J is diagonal. For
    an interval by Student's t distribution take at least 16 of them, as few sums of signs are not normal.

    Raises:
        ValueError: If there is not at least one probe.
    """

    probes: int = 1
    is_normal: bool = False

    def __post_init__(self) -> None:
        if self.probes < 1:
            raise ValueError(f"probes must be at least 1, got {self.probes}")

    @property
    def estimates(self) -> int:  # type: ignore[override]
        """One a probe."""
        return self.probes

    def vectors(self, x: Tensor, noise: Noise) -> Tensor:
        """The probes v."""
        return drawn(x, self.probes, noise, self.is_normal)

    def of(self, value: Tensor | Pullback, x: Tensor, vectors: Tensor, is_kept: bool) -> Tensor:
        """One product for each probe."""
        return _products(value, x, vectors, is_kept)


@dataclass(frozen=True)
class HutchPlusPlus(Divergence):
    """The trace on the directions that matter most, and Hutchinson's estimate on the rest.

    Where the spectrum of J falls fast it errs far less than Hutchinson's at the same cost, 2 `sketch` + `probes`
    products; where it is flat, more.

    Args:
        sketch: How many directions; a point must have at least as many numbers.
        probes: Vectors v, for the rest.

    Raises:
        ValueError: If one is below 1.
    """

    sketch: int = 8
    probes: int = 8

    def __post_init__(self) -> None:
        if min(self.sketch, self.probes) < 1:
            raise ValueError(f"sketch and probes must be at least 1, got {self.sketch} and {self.probes}")

    @property
    def estimates(self) -> int:  # type: ignore[override]
        """One a probe of the rest."""
        return self.probes

    def vectors(self, x: Tensor, noise: Noise) -> Tensor:
        """S, normal so that none of it is in the span of the rest, then v."""
        if self.sketch > x[0].numel():
            raise ValueError(f"sketch must be at most the {x[0].numel()} numbers of a point, got {self.sketch}")
        return torch.cat((drawn(x, self.sketch, noise, is_normal=True), drawn(x, self.probes, noise.after(1))))

    def of(self, value: Tensor | Pullback, x: Tensor, vectors: Tensor, is_kept: bool) -> Tensor:
        """The trace within the span of Q, which is held fast: its gradient is that of an unbiased estimate as well."""
        sketch, rest = (part.flatten(2) for part in torch.split(vectors, [self.sketch, self.probes]))
        images = pulled(value, x, sketch.reshape(-1, *x.shape), False).flatten(2)
        q = torch.linalg.qr(images.permute(1, 2, 0))[0].permute(2, 0, 1)
        rest = rest - torch.einsum("kbd,kbe,jbe->jbd", q, q, rest)
        both = _products(value, x, torch.cat((q, rest)).reshape(-1, *x.shape), is_kept)
        return both[: self.sketch].sum(0) + both[self.sketch :]


def drawn(x: Tensor, number: int, noise: Noise, is_normal: bool = False) -> Tensor:
    """Vectors of unit covariance, `number` for each sample: of shape `(number, *x.shape)`."""
    shape = (len(x), number, *x.shape[1:])
    return (noise.normal if is_normal else noise.signs)(shape, dtype=x.dtype, device=x.device).transpose(0, 1)


def pulled(value: Tensor | Pullback, x: Tensor, vectors: Tensor, is_kept: bool) -> Tensor:
    """J^T v for each of several vectors v, all of shape `(vectors, *x.shape)`."""
    if isinstance(value, Pullback):
        found: Tensor = torch.func.vmap(value.back)(vectors)
        return found if is_kept else found.detach()
    if not value.requires_grad:  # it does not depend on x
        return torch.zeros_like(vectors)

    def back(v: Tensor, is_batch: bool) -> Tensor:
        (found,) = torch.autograd.grad(
            value, x, v, retain_graph=True, create_graph=is_kept, allow_unused=True, is_grads_batched=is_batch
        )
        return torch.zeros_like(v) if found is None else found

    if len(vectors) > 1:
        try:
            return back(vectors, is_batch=True)
        except RuntimeError as error:  # some operations cannot be batched: group normalisation, derived twice, for one
            if is_out_of_memory(error):
                raise
    return torch.stack([back(v, is_batch=False) for v in vectors])


def _products(value: Tensor | Pullback, x: Tensor, vectors: Tensor, is_kept: bool) -> Tensor:
    """The product v . J^T v of each of several vectors, as many at once as fit a cache: of shape `(vectors, batch)`."""
    at_once = max(AT_ONCE // max(x.numel(), 1), 1)
    found = [
        sum_per_sample((v * pulled(value, x, v, is_kept)).flatten(0, 1)).reshape(-1, len(x))
        for v in torch.split(vectors, at_once)
    ]
    return torch.cat(found)
