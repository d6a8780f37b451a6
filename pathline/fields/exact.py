"""Exact fields: the marginal of a Gaussian path towards a distribution that is known.

Marginalisation averages the conditional fields over what the data may have been,

    u_t(x) = E[u_t(x | data) | x_t = x],   score_t(x) = E[score_t(x | data) | x_t = x]

For a mixture, p_t = sum_k w_k N(alpha mean_k, S_k) with S_k = alpha^2 C_k + beta^2 I, so with r_k(x) the posterior
weight of component k

    score = -sum_k r_k S_k^-1 (x - alpha mean_k),   data = sum_k r_k (mean_k + alpha C_k S_k^-1 (x - alpha mean_k))
    noise = -beta score,   velocity = alpha' data - (beta^2)'/2 score

None of which is singular anywhere, the ends included.

Source: Holderrieth & Erives 2025, https://arxiv.org/abs/2506.02070, theorems 10 and 13
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pathline.arguments import described
from pathline.data.distributions import GaussianMixture, Normal, log_normal
from pathline.fields.field import Field, gaussian, on_path
from pathline.paths.path import GaussianPath, Path
from pathline.paths.predictions import SCORE, VELOCITY, Interval, Prediction
from pathline.tensors import Time, exactly, meet, time_of


class MixtureField(Field):
    """The exact marginal field of a path towards a Gaussian mixture, or a normal.

    Points may have any shape that flattens to the mixture's dimension. Its methods give each kind exactly, at both
    ends too; `prediction` is the head that samplers see, as they would see a network's.
    """

    def __init__(
        self,
        distribution: GaussianMixture | Normal,
        path: GaussianPath,
        prediction: Prediction | tuple[Prediction, ...] = VELOCITY,
    ) -> None:
        super().__init__()
        gaussian(path)
        if not hasattr(distribution, "mixture"):
            raise ValueError(
                f"distribution must be a GaussianMixture or a Normal, got {described(distribution)}; EmpiricalField "
                "is for samples"
            )
        self.mixture = distribution.mixture
        self.path = path.measured(self.mixture.scale)
        self.prediction = prediction

    def forward(self, x: Tensor, t: Tensor) -> Any:
        """The exact value of each head."""
        return self.read_as(x, t, self.prediction)

    def interval(self, kind: Prediction) -> Interval:
        """Everywhere."""
        return Interval(0.0, 1.0)

    @exactly
    def read(self, x: Tensor, t: Time, *kinds: Prediction) -> Any:
        """One or several kinds, exactly.

        Raises:
            ValueError: If t is outside [0, 1].
        """
        t = on_path(time_of(x, t))
        found = kinds_of(self.path, x, t, *self._score_and_data(x, t), kinds)
        return found if len(kinds) > 1 else found[0]

    @exactly
    def log_prob(self, x: Tensor, t: Time) -> Tensor:
        """The log-density of p_t at `x`, in nats, of shape `(batch,)`."""
        return torch.logsumexp(self._joint(x, on_path(time_of(x, t)))[0], -1)

    @exactly
    def posterior_variance(self, x: Tensor, t: Time) -> Tensor:
        """The variance of the data given x_t = x, summed over its numbers, of shape `(batch,)`.

        sum_k r_k (|mean_k(x) - data(x)|^2 + tr V_k),   V_k = C_k - alpha^2 C_k S_k^-1 C_k
        """
        joint, z, s, alpha = self._joint(x, on_path(time_of(x, t)))
        r, variances = joint.softmax(-1), self.mixture.variances.to(x)
        means = self.mixture.means.to(x) + self.mixture.from_axes(alpha * variances * z / s)
        mean = (r[..., None] * means).sum(1, keepdim=True)
        left = (variances - (alpha * variances) ** 2 / s).sum(-1)
        return (r * (((means - mean) ** 2).sum(-1) + left)).sum(1)

    def _joint(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Log w_k N(x; alpha mean_k, S_k) of shape (batch, k), then z = x - alpha mean_k, S_k and alpha in its axes."""
        flat = x.flatten(1)
        mixture = self.mixture
        if flat.shape[1] != mixture.dimension:
            raise ValueError(
                f"x must flatten to vectors of {mixture.dimension}, the mixture's dimension, got shape {tuple(x.shape)}"
            )
        alpha, beta = (scale.reshape(-1, 1, 1) for scale in (self.path.schedule.alpha(t), self.path.schedule.beta(t)))
        means, variances = mixture.means.to(x), mixture.variances.to(x)
        s = alpha**2 * variances + beta**2
        z = mixture.to_axes(flat[:, None] - alpha * means)
        return mixture.weights.to(x).log() + log_normal(z, s), z, s, alpha

    def _score_and_data(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        joint, z, s, alpha = self._joint(x, t)
        r = joint.softmax(-1)[..., None]
        mixture = self.mixture
        pull = z / s
        score = -(r * mixture.from_axes(pull)).sum(1)
        spread = mixture.from_axes(alpha * mixture.variances.to(x) * pull)
        data = (r * (mixture.means.to(x) + spread)).sum(1)
        return score.reshape(x.shape), data.reshape(x.shape)


def kinds_of(
    path: Path, x: Tensor, t: Tensor, score: Tensor, data: Tensor, kinds: tuple[Prediction, ...]
) -> tuple[Tensor, ...]:
    """Any kinds from the exact score and expected data at `x`; the rows of two of them may be infinite at an end."""
    c = path.schedule.at(t, x)
    half = meet(path.schedule.variance_slope(t) / 2, x).to(x.dtype)
    known = {SCORE: score, VELOCITY: c.alpha_dot * data - half * score}
    return tuple(known[kind] if kind in known else kind.target(c, data, -c.beta * score) for kind in kinds)
