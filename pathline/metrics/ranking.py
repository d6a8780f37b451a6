"""How well a number tells two sets apart: the area under the curve of hits against false alarms.

    area = P(lower < higher) + P(lower = higher) / 2

over pairs of one from each set. It is 1/2 where the number tells nothing, and 1 where every pair is in order.

Source: Hanley & McNeil 1982, https://doi.org/10.1148/radiology.143.1.7063747; Newcombe 2006,
https://doi.org/10.1002/sim.2324, method 5 (the interval)
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq
from scipy.stats import norm, rankdata

NEXT = 1e-12  # to an estimate of 0 or 1, where it has no spread: an end of the interval is the other root


class Interval(NamedTuple):
    """An estimate, and the ends of its confidence interval."""

    value: float
    low: float
    high: float


def area_under_curve(lower: ArrayLike, higher: ArrayLike, confidence: float = 0.95) -> Interval:
    """How often one of `higher` is above one of `lower`, both of shape `(n,)`, with an interval of that confidence.

    The interval keeps its coverage near 0 and 1, where one of plus and minus a standard error has no width.

    Raises:
        ValueError: If a set is empty, holds NaN, or is no row of numbers.
    """
    sets = [np.asarray(values, dtype=float) for values in (lower, higher)]
    for name, values in zip(("lower", "higher"), sets, strict=True):
        if values.ndim != 1 or not len(values) or np.isnan(values).any():
            raise ValueError(f"{name} must be numbers of shape (n,), at least one and none NaN, got {values.shape}")
    m, n = map(len, sets)
    above = rankdata(np.concatenate(sets))[m:].sum() - n * (n + 1) / 2
    area = float(above / (m * n))
    z, mean_size = norm.ppf((1 + confidence) / 2), (m + n) / 2 - 1

    def beyond(theta: float) -> float:
        """How far the estimate is from theta, less z standard deviations of it there."""
        spread = 1 + mean_size * ((1 - theta) / (2 - theta) + theta / (1 + theta))
        return float(abs(theta - area) - z * np.sqrt(theta * (1 - theta) * spread / (m * n)))

    low = brentq(beyond, 0, min(area, 1 - NEXT)) if area > 0 else 0.0
    high = brentq(beyond, max(area, NEXT), 1) if area < 1 else 1.0
    return Interval(area, float(low), float(high))
