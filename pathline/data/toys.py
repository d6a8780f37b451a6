"""Toys in the plane."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from pathline.data.source import Normalisation, Samples, Source


@dataclass(frozen=True)
class MoonsSource(Source):
    """Two interleaved half circles, a class each, blurred by normal noise."""

    count: int = 4000
    noise: float = 0.05
    seed: int = 0

    def load(self) -> Samples:
        """`count` points, the same for the same seed."""
        from sklearn.datasets import make_moons

        x, y = make_moons(self.count, noise=self.noise, random_state=self.seed)
        points = torch.from_numpy(x).float()
        return Samples(
            x=points,
            y=torch.from_numpy(y).long(),
            classes=("upper", "lower"),
            normalisation=Normalisation(float(points.mean()), float(points.std())),
            title=f"{self.count:,} points on two moons, noise {self.noise}",
            licence="generated; no rights",
            source="scikit-learn's make_moons",
        )
