"""How much an error counts, by time and kind.

Reading a prediction as another kind multiplies its error by the error ratio of the pair, so a loss in the units of
another kind is a weight:

    E |error of q|^2 = E ratio_t^2 |error of p|^2
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from pathline.paths.path import Path
from pathline.paths.predictions import Prediction
from pathline.specs import build


class Weight(ABC):
    """A factor on the squared error of a head."""

    @abstractmethod
    def at(self, t: Tensor, path: Path, head: Prediction) -> Tensor:
        """The factor at times of shape `(batch,)`."""


@dataclass(frozen=True)
class UnitWeight(Weight):
    """Every error counts as it is."""

    def at(self, t: Tensor, path: Path, head: Prediction) -> Tensor:
        """1."""
        return torch.ones_like(t)


@dataclass(frozen=True)
class BalancedWeight(Weight):
    """Every target counts at unit size, however large it grows: what makes an infinite target trainable.

    One over the target's mean square, were data and noise independent and of unit variance: beta^2 for a score.
    """

    def at(self, t: Tensor, path: Path, head: Prediction) -> Tensor:
        """1 / E target^2, and 0 where that is infinite."""
        return path.target_variance(head, t).reciprocal().to(t.dtype)


@dataclass(frozen=True)
class ErrorAsWeight(Weight):
    """Errors count as they would after being read as another kind, their weight capped at `most`.

    A score head under `ErrorAsWeight(NOISE)` has DDPM's loss: beta^2 times that of denoising score matching. A data
    head under `ErrorAsWeight(VELOCITY)` has the flow matching loss, whose weight grows without bound towards data;
    hence the cap.
    """

    kind: Prediction | str = "velocity"
    most: float = 1e4

    def __post_init__(self) -> None:
        self.target  # noqa: B018 - a wrong name is refused now

    @property
    def target(self) -> Prediction:
        """The kind as an object."""
        return self.kind if isinstance(self.kind, Prediction) else build(Prediction, self.kind)

    def at(self, t: Tensor, path: Path, head: Prediction) -> Tensor:
        """ratio^2, at most `most`."""
        (ratio,) = path.mix((head,), self.target, t).n
        assert ratio is not None  # it is that of the only head
        return (ratio**2).nan_to_num(nan=self.most).clamp(max=self.most).to(t.dtype).to(t.device)
