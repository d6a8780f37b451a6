"""Handwritten digits of 8 x 8 pixels with 17 levels of grey, which scikit-learn ships."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from pathline.data.normalisation import Normalisation
from pathline.data.source import Samples, Source


@dataclass(frozen=True)
class DigitsSource(Source):
    """1,797 digits as images of shape (1, 8, 8), values 0 to 16, in ten classes."""

    def load(self) -> Samples:
        """All of them."""
        from sklearn.datasets import load_digits

        digits = load_digits()
        return Samples(
            x=torch.from_numpy(digits.images).float()[:, None],
            y=torch.from_numpy(digits.target).long(),
            classes=tuple("0123456789"),
            normalisation=Normalisation(8.0, 8.0),
            is_ink=True,
            title="scikit-learn's digits: 1,797 handwritten digits, 8 x 8 pixels, values 0 to 16",
            licence="CC BY 4.0",
            source="E. Alpaydin and C. Kaynak 1998, Optical Recognition of Handwritten Digits, UCI Machine Learning "
            "Repository, https://doi.org/10.24432/C50P49 (its test set, as shipped with scikit-learn)",
        )
