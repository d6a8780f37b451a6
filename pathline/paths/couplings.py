"""Couplings: which noise goes with which data in a training batch.

Optimal transport pairs them so that the sum of squared distances is least. Since

    sum |noise_i - data_pi(i)|^2 = const - 2 sum noise_i . data_pi(i)

one matrix of inner products settles it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from pathline.conditions import CLASS


class Coupling(ABC):
    """A joint distribution of noise and data, given a batch of each; data and its labels keep their order."""

    is_global = False  # whether it must see the batches of all processes

    @abstractmethod
    def __call__(self, noise: Tensor, data: Tensor, y: Any = None) -> Tensor:
        """The noise, in the order of the data that it goes with.

        Args:
            noise: Of shape `(batch, *shape)`: the end at t = 0.
            data: Of the same shape.
            y: The conditions of the data, one each, if it has any: by their kind, or labels alone.
        """


@dataclass(frozen=True)
class IndependentCoupling(Coupling):
    """Noise and data know nothing of each other: p(noise, data) = p(noise) p(data)."""

    def __call__(self, noise: Tensor, data: Tensor, y: Any = None) -> Tensor:
        """The noise as it is."""
        return noise


@dataclass(frozen=True)
class OptimalTransportCoupling(Coupling):
    """The pairing of a batch that moves points the least: a permutation, so each point is used once.

    Where there are labels, noise is dealt to the classes first and moved within each (`is_within_classes`). Transport
    across classes gives each class the noise that is nearest to it, while sampling begins at all of it: the samples of
    a conditional model are then biased. Without labels the two are the same.

    Args:
        is_within_classes: Whether labels are minded.
        is_global: Where several processes train, whether the whole batch is paired, by each of them for itself, and not
            only the stretch that is its own: a better pairing, at the price of a larger assignment.

    Raises:
        ValueError: If labels are to be minded that are no classes.

    Source: Tong et al. 2023, https://arxiv.org/abs/2302.00482, and Pooladian et al. 2023,
    https://arxiv.org/abs/2304.14772; Cheng & Schwing 2025, https://arxiv.org/abs/2503.10636, for classes
    """

    is_within_classes: bool = True
    is_global: bool = False

    def __call__(self, noise: Tensor, data: Tensor, y: Any = None) -> Tensor:
        """The noise that the cheapest pairing gives to each data point."""
        if y is None or not self.is_within_classes:
            return noise[_cheapest(noise, data)]
        y = y[CLASS] if isinstance(y, Mapping) and set(y) == {CLASS} else y
        if not isinstance(y, Tensor) or y.shape != data.shape[:1] or y.is_floating_point():
            raise ValueError(
                f"y must be a class index for each of {len(data)} points, got {getattr(y, 'dtype', type(y).__name__)} "
                f"of shape {tuple(getattr(y, 'shape', ()))}; is_within_classes=False transports across conditions, "
                "which biases a conditional model"
            )
        order = torch.arange(len(data), device=noise.device)
        for label in torch.unique(y):
            mine = (y == label).nonzero()[:, 0].to(noise.device)
            order[mine] = mine[_cheapest(noise[mine], data[mine])]
        return noise[order]


def _cheapest(noise: Tensor, data: Tensor) -> Tensor:
    """For each data point the noise that it gets, as an index."""
    if noise.shape != data.shape:
        raise ValueError(f"noise must have the shape of data, {tuple(data.shape)}, got {tuple(noise.shape)}")
    x, z = (points.detach().flatten(1).double() for points in (data, noise))
    gain = (x - x.mean(0)) @ (z - z.mean(0)).T  # what is the same for all would only cost digits
    if not gain.isfinite().all():
        raise ValueError("noise and data must be finite to be paired, and some of them are NaN or infinite")
    rows, columns = linear_sum_assignment(gain.cpu().numpy(), maximize=True)
    assert (rows == range(len(data))).all()
    return torch.from_numpy(columns).to(noise.device)
