"""Averaged weights: what is sampled is not the last step of training but a mean of many."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from pathline.training.distributed import local


class EMA:
    """An exponential moving average of a module's parameters, its decay warmed up: min(decay, (1 + n) / (10 + n)).

    Raises:
        ValueError: If the decay is not from 0 to below 1.
    """

    def __init__(self, module: nn.Module, decay: float = 0.999) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"decay must be from 0 (no average) to below 1, got {decay}")
        self.decay = decay
        self.updates = 0
        self.source = dict(module.named_parameters())
        self.weights = {name: value.detach().clone() for name, value in self.source.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the parameters as they are now."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        torch._foreach_lerp_(_mine(self.weights), _mine(self.source), 1 - decay)
        self.updates += 1

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The module with the average in place of its parameters, which come back to the bit afterwards."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        """Exchange the numbers, not the tensors: what holds on to a parameter's memory sees the average too."""
        for mine, value in zip(_mine(self.weights), _mine(self.source), strict=True):
            kept = value.clone()
            value.copy_(mine)
            mine.copy_(kept)


def _mine(tensors: Mapping[str, Tensor]) -> list[Tensor]:
    return [local(value) for value in tensors.values()]
