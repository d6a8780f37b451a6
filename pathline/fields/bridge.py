"""The exact field of a bridge between two Gaussian mixtures that know nothing of each other.

Between component j of the source and k of the data, (x_t, x_1 - x_0 + g' z) is jointly normal, with

    E x = (1 - t) m_j + t m_k,         S = (1 - t)^2 C_j + t^2 C_k + g^2 I
    E velocity = m_k - m_j,            cov(velocity, x) = t C_k - (1 - t) C_j + g g' I

so that the marginal velocity and score are averages over the pairs (j, k), given x.

Source: Tong et al. 2024, https://arxiv.org/abs/2307.03672, section 3
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from pathline.data.distributions import GaussianMixture, Normal
from pathline.fields.field import Field, on_path
from pathline.paths.bridge import BridgePath, known
from pathline.paths.predictions import DATA, NOISE, SCORE, VELOCITY, Interval, Prediction
from pathline.tensors import Time, exactly, time_of


class MixtureBridgeField(Field):
    """The exact marginal field of a bridge from one mixture to another, paired at random.

    Points may have any shape that flattens to the mixtures' dimension; every kind is exact at both ends too.

    Raises:
        ValueError: If the mixtures differ in dimension, or the path is no bridge.
    """

    path: BridgePath

    def __init__(
        self,
        source: GaussianMixture | Normal,
        target: GaussianMixture | Normal,
        path: BridgePath,
        prediction: Prediction | tuple[Prediction, ...] | None = None,
    ) -> None:
        super().__init__()
        if source.dimension != target.dimension:
            raise ValueError(f"both ends must have one dimension, got {source.dimension} and {target.dimension}")
        if not isinstance(path, BridgePath):
            raise ValueError(f"path must be a BridgePath, got {path}; MixtureField is for paths from noise")
        self.source, self.target = source.mixture, target.mixture
        self.path = path
        self.prediction = prediction or ((VELOCITY, SCORE) if path.sigma else VELOCITY)

    def forward(self, x: Tensor, t: Tensor) -> Any:
        """The exact value of each head."""
        return self.read_as(x, t, self.prediction)

    def interval(self, kind: Prediction) -> Interval:
        """Everywhere."""
        known(kind, 1.0)
        return Interval(0.0, 1.0)

    @exactly
    def read(self, x: Tensor, t: Time, *kinds: Prediction) -> Any:
        """One or several kinds, exactly; the score too where sigma is 0, as both ends are known.

        Raises:
            ValueError: If t is outside [0, 1], or a bridge has no such kind.
        """
        t = on_path(time_of(x, t)).to(x.dtype)
        joint, pull = self._joint(x, t)
        r = joint.softmax(-1)[..., None]
        s = t.reshape(-1, 1, 1, 1)
        (m_j, c_j), (m_k, c_k) = self._ends(x)
        slope = self.path.sigma**2 * (1 - 2 * s) / 2 * torch.eye(c_j.shape[-1], dtype=x.dtype, device=x.device)
        mean = {VELOCITY: m_k - m_j, DATA: m_k, NOISE: m_j, SCORE: torch.zeros_like(m_j)}
        covariance = {VELOCITY: s * c_k - (1 - s) * c_j + slope, DATA: s * c_k, NOISE: (1 - s) * c_j}
        found = []
        for kind in kinds:
            known(kind, 1.0)
            change = (
                -pull if kind == SCORE else torch.einsum("bkde,bke->bkd", covariance[kind].expand(-1, *c_j.shape), pull)
            )
            found.append((r * (mean[kind] + change)).sum(1).reshape(x.shape))
        return tuple(found) if len(kinds) > 1 else found[0]

    @exactly
    def log_prob(self, x: Tensor, t: Time) -> Tensor:
        """The log-density of p_t at `x`, in nats, of shape `(batch,)`."""
        return torch.logsumexp(self._joint(x, on_path(time_of(x, t)).to(x.dtype))[0], -1)

    def _ends(self, x: Tensor) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Means (pairs, d) and covariances (pairs, d, d) of the ends of every pair of components."""
        j, k = len(self.source.weights), len(self.target.weights)
        first, second = (torch.arange(j).repeat_interleave(k), torch.arange(k).repeat(j))
        a, b = ((m.means.to(x), _covariances(m).to(x)) for m in (self.source, self.target))
        return (a[0][first], a[1][first]), (b[0][second], b[1][second])

    def _joint(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Log w_j w_k N(x; mean, S) of shape (batch, pairs), and S^-1 (x - mean) of shape (batch, pairs, d)."""
        flat = x.flatten(1)
        if flat.shape[1] != self.source.dimension:
            raise ValueError(
                f"x must flatten to vectors of {self.source.dimension}, as the mixtures do, got shape {tuple(x.shape)}"
            )
        s = t.reshape(-1, 1, 1)
        (m_j, c_j), (m_k, c_k) = self._ends(x)
        squared = (self.path.sigma**2 * s * (1 - s))[..., None] * torch.eye(
            flat.shape[1], dtype=x.dtype, device=x.device
        )
        covariance = (1 - s[..., None]) ** 2 * c_j + s[..., None] ** 2 * c_k + squared
        root = torch.linalg.cholesky(covariance).expand(len(flat), *c_j.shape)
        z = (flat[:, None] - (1 - s) * m_j - s * m_k)[..., None]
        half = torch.linalg.solve_triangular(root, z, upper=False)
        pull = torch.linalg.solve_triangular(root.mT, half, upper=True)[..., 0]
        log_det = 2 * root.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        weight = (self.source.weights[:, None] * self.target.weights).flatten().to(x).log()
        return weight - (half[..., 0] ** 2).sum(-1) / 2 - log_det / 2 - flat.shape[1] * math.log(2 * math.pi) / 2, pull


def _covariances(mixture: GaussianMixture) -> Tensor:
    """Of each component, of shape (components, d, d)."""
    spread = torch.diag_embed(mixture.variances)
    return spread if mixture.axes is None else mixture.axes @ spread @ mixture.axes.mT
