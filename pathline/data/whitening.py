"""Whitening of a table: an invertible map to numbers that are nearly standard normal, with its log-determinant.

    r = (x - mean(y)) / std                         what a linear regression on y leaves, a column at a time
    s = sinh(tail asinh((r - place) / width) - skew)     each column bent to a normal; tail = 1, skew = 0 is a line
    z = (s - centre) U / sqrt(e),   U diag(e) U^T = (1 - a) covariance of s + a I

It is exact both ways and defined on all numbers, so log p(x) = log p(z) + log|det dz/dx|. Columns are bent by maximum
likelihood under a prior as strong as `PRIOR` rows that it is a line. The share a is the one of highest likelihood on
rows left out: that settles how far directions in which a small table hardly varies are to be believed. Columns that
never change are left out of z, and come back as they were.

Source: Jones & Pewsey 2009, https://doi.org/10.1093/biomet/asp053 (sinh-arcsinh); Ledoit & Wolf 2004,
https://doi.org/10.1016/S0047-259X(03)00096-4 (shrinking towards I)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from pathline.noise import Noise

Array: TypeAlias = NDArray[np.float64]

PRIOR = 30.0  # rows: between 10 and 100, small tables fare alike
BOUNDS = ((-5.0, 5.0), (-3.0, 3.0), (-3.0, 3.0), (-1.5, 1.5))  # of place, log width, skew and log tail
SHARES = np.geomspace(1e-5, 0.5, 16)
FOLDS, FOLD_STREAM = 5, 16
ENOUGH = 10_000  # rows that four numbers of a column are found from


@dataclass(frozen=True)
class Bend:
    """A column's map s = sinh(tail asinh((r - place) / width) - skew); each number of shape `(columns,)`."""

    place: Array
    width: Array
    skew: Array
    tail: Array

    def into(self, r: Array) -> tuple[Array, Array]:
        """The bent columns, and log ds/dr of each entry."""
        w = (r - self.place) / self.width
        u = self.tail * np.arcsinh(w) - self.skew
        with np.errstate(over="ignore"):  # beyond 1e300: the density is 0 there
            return np.sinh(u), _log_cosh(u) + np.log(self.tail / self.width) - np.log(np.hypot(1, w))

    def back(self, s: Array) -> Array:
        """The columns as they were."""
        return self.place + self.width * np.sinh((np.arcsinh(s) + self.skew) / self.tail)

    @classmethod
    def fit(cls, r: Array) -> Bend:
        """The map that makes each column likeliest as a standard normal."""
        place, log_width, skew, log_tail = np.stack([_bend(column) for column in r.T], 1)
        return cls(place, np.exp(log_width), skew, np.exp(log_tail))


@dataclass(frozen=True)
class Whitening:
    """The map of a table, given a row of features of y for each row of x; features of no columns stand for no y.

    Attributes:
        mean: Of x where the features are 0.
        slope: How the mean moves with them, of shape `(features, columns)`.
        std: Of what is left, in the units of x.
        bend: Of each column.
        centre: Of the bent columns.
        axes: U.
        scales: The square roots of e.
        constants: Of each column of x its number where it never changes, else NaN.
    """

    mean: Array
    slope: Array
    std: Array
    bend: Bend
    centre: Array
    axes: Array
    scales: Array
    constants: Array

    @classmethod
    def fit(cls, x: Array, features: Array, seed: int = 0) -> Whitening:
        """Learn it from rows; the seed is that of the rows left out.

        The regression is one of ridge 1: a class mean is that of its rows and of one more at the mean of all.

        Raises:
            ValueError: If no column varies, one varies by no more than rounding, or its squares are beyond float64.
        """
        constants = np.where((x == x[0]).all(0), x[0], np.nan)
        varies = np.isnan(constants)
        if not varies.any():
            raise ValueError(f"X must vary in a column, got {len(x)} times the same row; a constant has no density")
        numbers, x = np.flatnonzero(varies), x[:, varies]
        with np.errstate(over="ignore", invalid="ignore"):
            size = np.abs(x).max(0)
            is_good = np.isfinite(size**2 * len(x)) & (np.ptp(x, 0) > 1e-12 * size)
        if not is_good.all():
            k = int(is_good.argmin())
            low, high = x[:, k].min(), x[:, k].max()
            raise ValueError(
                f"X must vary by more than rounding, in numbers whose squares float64 holds, got {low:g} to {high:g} "
                f"in column {numbers[k]}; round it, so that it is a constant, and rescale what is too large"
            )
        mean, offset = x.mean(0), features.mean(0)
        of_mean, left = features - offset, x - mean
        slope = np.linalg.solve(of_mean.T @ of_mean + np.eye(features.shape[1]), of_mean.T @ left)
        left = left - of_mean @ slope
        std = np.maximum(left.std(0), 1e-6 * x.std(0))  # a column that y settles
        r = left / std
        bend = Bend.fit(r)
        s, _ = bend.into(r)
        centre = s.mean(0)
        e, axes = np.linalg.eigh(_shrunk(s - centre, _share(s, Noise(seed, stream=FOLD_STREAM))))
        return cls(mean - offset @ slope, slope, std, bend, centre, axes, np.sqrt(e), constants)

    def into(self, x: Array, features: Array) -> tuple[Array, Array]:
        """The whitened rows, and log|det dz/dx| of each.

        The density is that of the columns that vary; of a row with another number where it should be a constant, it
        is 0, and log|det| minus infinity.
        """
        varies = np.isnan(self.constants)
        is_other = (x[:, ~varies] != self.constants[~varies]).any(1)
        x = x[:, varies]
        s, log_slope = self.bend.into((x - self.mean - features @ self.slope) / self.std)
        with np.errstate(invalid="ignore"):
            z = (s - self.centre) @ self.axes / self.scales
        log_det = log_slope.sum(1) - np.log(self.std).sum() - np.log(self.scales).sum()
        return z, np.where(is_other, -np.inf, log_det)

    def back(self, z: Array, features: Array) -> Array:
        """The rows in the units of the data."""
        r = self.bend.back((z * self.scales) @ self.axes.T + self.centre)
        x = np.tile(self.constants, (len(z), 1))
        x[:, np.isnan(self.constants)] = self.mean + features @ self.slope + self.std * r
        return x


def _log_cosh(u: Array) -> Array:
    found: Array = np.logaddexp(u, -u) - np.log(2)
    return found


def _bend(r: Array) -> Array:
    """Place, log width, skew and log tail of the likeliest bend of a column."""
    r = r[:: -(-len(r) // ENOUGH)]
    prior = PRIOR / len(r)

    def loss(p: Array) -> tuple[float, Array]:
        place, log_width, skew, log_tail = p
        width, tail = np.exp(log_width), np.exp(log_tail)
        w = (r - place) / width
        a, square = np.arcsinh(w), 1 + w * w
        u = tail * a - skew
        s = np.sinh(u)
        value = s * s / 2 - _log_cosh(u) + np.log(square) / 2 + log_width - log_tail
        by_u = s * np.cosh(u) - np.tanh(u)
        by_w = by_u * tail / np.sqrt(square) + w / square
        slope = np.array([-by_w.mean() / width, 1 - (by_w * w).mean(), -by_u.mean(), (by_u * tail * a).mean() - 1])
        return float(value.mean() + prior * (skew**2 + log_tail**2) / 2), slope + prior * np.array(
            [0, 0, skew, log_tail]
        )

    found: Array = minimize(loss, np.zeros(4), jac=True, method="L-BFGS-B", bounds=BOUNDS).x
    return found


def _shrunk(s: Array, share: float) -> Array:
    """The covariance of centred rows, part of it replaced by the unit matrix."""
    covariance: Array = (1 - share) * s.T @ s / len(s) + share * np.eye(s.shape[1])
    return covariance


def _share(s: Array, noise: Noise) -> float:
    """The share of the unit matrix under which rows left out are likeliest as a normal."""
    fold = noise.permutation(len(s)).numpy() % min(FOLDS, len(s))
    total = np.zeros(len(SHARES))
    for k in range(fold.max() + 1):
        rest, out = s[fold != k], s[fold == k]
        e, axes = np.linalg.eigh(_shrunk(rest - rest.mean(0), 0.0))
        squares = ((out - rest.mean(0)) @ axes) ** 2
        of_shares = np.outer(1 - SHARES, e.clip(min=0)) + SHARES[:, None]
        total += (squares @ (1 / of_shares).T + np.log(of_shares).sum(1)).sum(0)
    return float(SHARES[total.argmin()])
