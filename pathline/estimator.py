"""Flow matching with scikit-learn's face: the density of a table, and samples of it, with conditions or without.

    x --Whitening--> z,   dz = u_t(z | y) dt from N(0, I) at t = 0,   log p(x | y) = log p_1(z | y) + log|det dz/dx|

A network that says nothing is, as an `EDMPrediction(1)`, the exact field of N(0, I). So training begins at a normal of
full covariance, bent column by column, and stops where rows left out are best described: a small table costs nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp
from sklearn.base import BaseEstimator, DensityMixin
from sklearn.utils import check_array, check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor, nn

from pathline.conditions import column_of
from pathline.data.codec import drawn
from pathline.data.whitening import Array, Whitening
from pathline.fields.field import Field
from pathline.fields.network import NetworkField
from pathline.fields.preconditioned import Preconditioned
from pathline.likelihood.log_prob import log_prob
from pathline.networks.embedding import TimeEmbedding
from pathline.networks.mlp import MLP
from pathline.noise import Noise
from pathline.paths.path import GaussianPath
from pathline.paths.predictions import EDMPrediction
from pathline.paths.schedules import CosineSchedule
from pathline.sampling.sample import sample
from pathline.training.ema import EMA
from pathline.training.loop import adamw, train, warmup_cosine
from pathline.training.loss import MatchingLoss
from pathline.training.times import LogitNormalTimes

CHECKS = 25  # steps between two looks at the rows left out
POINTS = 4096  # of paths to them, the same at each look
DECAY = 0.99  # of the averaged weights
HIGHEST = 1.0  # periods of the time embedding for a change of e^4 in beta / alpha: a table has no finer scales
LAST = 0.5  # of c_noise: beyond a ratio of e^2 it runs off to infinity within a step of the solver
AT_ONCE = 1024  # rows whose density is found together
HELD_STREAM = 18


class FlowMatcher(DensityMixin, BaseEstimator):  # type: ignore[misc]
    """The density of a table by flow matching, with or without conditions.

    Densities are in nats and in the units of X. The type of `y` says what a condition is: floats of shape `(n,)` or
    `(n, k)` are numbers, all else (whole numbers, strings, booleans, objects, categories of pandas) of shape `(n,)` or
    `(n, 1)` are classes; a count is a number once it is a float, `y.astype(float)`. A model that was fitted with
    conditions also knows the density without: that of classes is their mixture by the shares they had,
    sum_k share_k p(x | k), and that of numbers is learned beside the others, from rows whose numbers are withheld.

    A column that never changes is sampled as it is, and its density is left out: that of a row is the density of the
    other columns, and 0 if the row has another number there. A density needs columns that do not repeat the same few
    values: spread whole numbers (X + rng.uniform(-0.5, 0.5, X.shape)) where there are few different ones.

    Args:
        width: Of the network.
        depth: Its blocks.
        max_steps: Steps of training at most; with 0 the model is the normal that training begins at.
        batch_size: Rows of a step; a 32nd of all unless given, but from 128 to 1024.
        learning_rate: At its height.
        weight_decay: How strongly weights are drawn to 0, and the model to that normal: the optimizer's decay is this
            times the columns over the rows, as many rows for each column say more than any prior.
        members: Networks whose mean is the field, each with other rows left out.
        validation_fraction: The share of rows left out to tell when to stop.
        patience: Steps without a better loss of those rows after which training stops.
        solver_steps: Of the flow, for a density and for a sample.
        random_state: A seed, a `RandomState`, or None for another model each time. With a seed, so is everything: a
            refit gives the same model, and sample i is the same in any number of samples.

    Attributes:
        n_features_in_: Columns of X.
        feature_names_in_: Their names, if X had names.
        classes_: The classes, where y had classes.
        class_prior_: Their shares.
        field_: The flow, of whitened rows.
        whitening_: Between X and those.
        n_steps_: The step at which each member was best.

    Raises:
        ValueError: By `fit`, if a parameter or the data does not fit.
    """

    def __init__(
        self,
        *,
        width: int = 64,
        depth: int = 2,
        max_steps: int = 4000,
        batch_size: int | None = None,
        learning_rate: float = 2e-3,
        weight_decay: float = 30.0,
        members: int = 1,
        validation_fraction: float = 0.1,
        patience: int = 500,
        solver_steps: int = 16,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.width = width
        self.depth = depth
        self.max_steps = max_steps
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.members = members
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.solver_steps = solver_steps
        self.random_state = random_state

    def fit(self, X: ArrayLike, y: ArrayLike | None = None) -> Self:
        """Learn the density of the rows of X, given their conditions if there are any.

        Raises:
            ValueError: If a parameter is out of range, X is not a table of finite numbers with at least two rows, no
                column of it varies, or y does not fit.
        """
        self._check_parameters()
        x: Array = validate_data(self, X, dtype=np.float64, ensure_min_samples=2)
        seed = _seed(self.random_state)
        for name in ("classes_", "class_prior_"):  # of an earlier fit
            self.__dict__.pop(name, None)
        self._condition = None if y is None else _condition_of(y, len(x))
        if isinstance(self._condition, _Classes):
            self.classes_, self.class_prior_ = self._condition.names, self._condition.shares
        codes = None if self._condition is None or y is None else self._condition.codes(y, len(x))
        rows = np.arange(len(x))
        self.whitening_ = Whitening.fit(x, self._features(codes, len(x)), seed)
        z, _ = self.whitening_.into(x, self._features(codes, len(x)))
        if isinstance(self._condition, _Numbers) and codes is not None:  # all rows again, with numbers withheld
            withheld = np.full_like(codes, np.nan)
            self._whitening_of_all = Whitening.fit(x, self._features(withheld, len(x)), seed)
            again, _ = self._whitening_of_all.into(x, self._features(withheld, len(x)))
            z, codes, rows = np.concatenate((z, again)), np.concatenate((codes, withheld)), np.tile(rows, 2)
        points = torch.as_tensor(z, dtype=torch.get_default_dtype())
        labels = None if codes is None else _tensor(codes, points.dtype)
        self._train(points, labels, torch.from_numpy(rows), seed)
        return self

    def score_samples(self, X: ArrayLike, y: ArrayLike | None = None) -> Array:
        """The log-density of each row, log p(x | y) or log p(x), in nats and the units of X; of shape `(n,)`.

        Raises:
            NotFittedError: Before `fit`.
            ValueError: If X or y does not fit what the model was fitted to.
        """
        check_is_fitted(self)
        x: Array = validate_data(self, X, dtype=np.float64, reset=False)
        if y is not None:
            return self._log_prob(x, self._codes(y, len(x)))
        if isinstance(self._condition, _Classes):
            each = [self._log_prob(x, np.full(len(x), k)) for k in range(len(self.classes_))]
            return np.asarray(logsumexp(each, axis=0, b=self.class_prior_[:, None]))
        return self._log_prob(x, self._no_condition(len(x)))

    def score(self, X: ArrayLike, y: ArrayLike | None = None) -> float:
        """The mean log-density of the rows, as of `GaussianMixture`; that of `KernelDensity` is the sum."""
        return float(self.score_samples(X, y).mean())

    def sample(
        self,
        n_samples: int = 1,
        y: ArrayLike | None = None,
        *,
        random_state: int | np.random.RandomState | None = None,
    ) -> Array | tuple[Array, NDArray[Any]]:
        """New rows in the units of X, of shape `(n_samples, n_features_in_)`; sample i depends on (seed, i) only.

        A model that was fitted to classes draws them by their shares where `y` is left out, and then returns the rows
        and their classes, `(X, y)`, as `GaussianMixture.sample` does. In all other cases it returns the rows alone.

        Args:
            n_samples: How many.
            y: A condition for all, or one for each; where left out, rows are drawn as in the whole table.
            random_state: The seed, that of the model unless given.

        Raises:
            NotFittedError: Before `fit`.
            ValueError: If there is to be no sample, or y does not fit.
        """
        check_is_fitted(self)
        if n_samples < 1:
            raise ValueError(f"n_samples must be at least 1, got {n_samples}")
        seed = _seed(self.random_state if random_state is None else random_state)
        codes = self._no_condition(n_samples, seed) if y is None else self._codes(y, n_samples)
        shape = (int(n_samples), len(self.whitening_.std))  # columns that vary
        z = sample(self._given(codes), shape, steps=self.solver_steps, seed=seed).numpy()
        x = self._whitening(codes).back(z, self._features(codes, n_samples))
        return (x, self.classes_[codes]) if y is None and isinstance(self._condition, _Classes) else x

    def _check_parameters(self) -> None:
        """Refuse what nothing else would."""
        for name, least in (("max_steps", 0), ("members", 1), ("patience", 1), ("solver_steps", 1)):
            if not getattr(self, name) >= least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if self.batch_size is not None and self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, or None to go by the rows, got {self.batch_size}")
        if not 0 < self.validation_fraction < 1:
            raise ValueError(
                f"validation_fraction must be a share of rows between 0 and 1, got {self.validation_fraction}"
            )
        for name in ("learning_rate", "weight_decay"):
            if not 0 <= getattr(self, name) < np.inf:
                raise ValueError(f"{name} must be a finite number, 0 or more, got {getattr(self, name)}")

    def _train(self, z: Tensor, codes: Tensor | None, rows: Tensor, seed: int) -> None:
        """Set the field to the mean of networks that were each stopped where rows left out were best described."""
        order = Noise(seed, stream=HELD_STREAM).permutation(int(rows.max()) + 1)
        count = max(1, min(round(self.validation_fraction * len(order)), len(order) - 1))
        networks, self.n_steps_ = [], []
        for member in range(self.members):
            is_held = torch.zeros(len(order), dtype=torch.bool)
            is_held[order.roll(-member * count)[:count].long()] = True
            held = is_held[rows]
            network = self._network(z.shape[1], seed + member)
            field = _field([network])
            step = self._train_one(field, z, codes, held, seed + member) if self.max_steps else 0
            networks.append(network)
            self.n_steps_.append(step)
        self.field_ = _field(networks).double().eval().requires_grad_(False)

    def _train_one(self, field: NetworkField, z: Tensor, codes: Tensor | None, held: Tensor, seed: int) -> int:
        """Train until rows held out are no better described, and put the best weights in; returns their step."""
        loss = MatchingLoss(field, times=LogitNormalTimes(), seed=seed)
        own, y = z[~held], None if codes is None else codes[~held]
        out = held.nonzero()[:, 0]
        out = out[torch.arange(max(POINTS, len(out))) % len(out)][: 4 * POINTS]
        point = loss.draw(z[out], 1 << 40)
        labels = None if codes is None else codes[out]
        ema = EMA(field, DECAY)

        @torch.no_grad()
        def held_out() -> float:
            with ema.applied():
                return float(loss.errors(point, labels).mean())

        best, best_step = held_out(), 0
        weights = {name: value.clone() for name, value in ema.weights.items()}
        steps = train(
            loss,
            own,
            y,
            steps=self.max_steps,
            batch_size=min(self.batch_size or min(max(len(own) // 32, 128), 1024), len(own)),
            optimizer=adamw(loss, self.learning_rate, self.weight_decay * z.shape[1] / len(own)),
            lr_schedule=warmup_cosine(0.02),
            ema=ema,
        )
        for step in steps:
            if step.step % CHECKS and step.step < self.max_steps:
                continue
            if (now := held_out()) < best:
                best, best_step = now, step.step
                weights = {name: value.clone() for name, value in ema.weights.items()}
            elif step.step - best_step >= self.patience:
                break
        field.load_state_dict(weights)
        return best_step

    def _network(self, columns: int, seed: int) -> MLP:
        """A new network, which says nothing yet: the same for the same seed."""
        sizes: dict[str, Any] = {} if self._condition is None else dict(self._condition.sizes)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = MLP(columns, self.width, self.depth, **sizes)
            network.condition.time = TimeEmbedding(self.width, waves=8, highest=HIGHEST)
        nn.init.zeros_(network.last.bias)
        return network

    def _given(self, codes: NDArray[Any] | None) -> Field:
        """The field under conditions."""
        return self.field_ if codes is None else self.field_.given(_tensor(codes, torch.float64))

    def _log_prob(self, x: Array, codes: NDArray[Any] | None) -> Array:
        """The log-density of rows, under conditions."""
        z, log_det = self._whitening(codes).into(x, self._features(codes, len(x)))
        is_seen = np.asarray(np.isfinite(z).all(axis=1))  # elsewhere numbers overflow, and the density is 0
        field, points = self._given(codes), torch.from_numpy(np.where(is_seen[:, None], z, 0.0))
        with torch.no_grad():
            found = [
                log_prob(field.take(part), points[part], steps=self.solver_steps, seed=0)
                for part in (slice(first, first + AT_ONCE) for first in range(0, len(x), AT_ONCE))
            ]
        return np.where(is_seen, torch.cat(found).numpy() + log_det, -np.inf)

    def _codes(self, y: ArrayLike, n: int) -> NDArray[Any]:
        """Conditions as the network sees them, one for each of n rows."""
        if self._condition is None:
            raise ValueError("y must be left out: this model was fitted without; fit(X, y) makes one that takes it")
        return self._condition.codes(y, n)

    def _no_condition(self, n: int, seed: int = 0) -> NDArray[Any] | None:
        """What stands for no condition: classes drawn by their shares, or numbers withheld."""
        if self._condition is None:
            return None
        if isinstance(self._condition, _Numbers):
            return np.full((n, len(self._condition.mean)), np.nan)
        return drawn(self.class_prior_, n, seed)

    def _is_withheld(self, codes: NDArray[Any] | None) -> bool:
        return codes is not None and bool(np.isnan(codes).any())

    def _whitening(self, codes: NDArray[Any] | None) -> Whitening:
        return self._whitening_of_all if self._is_withheld(codes) else self.whitening_

    def _features(self, codes: NDArray[Any] | None, n: int) -> Array:
        """What the regression of the whitening is on."""
        if codes is None or self._is_withheld(codes):
            return np.empty((n, 0))
        return np.eye(len(self.class_prior_))[codes] if isinstance(self._condition, _Classes) else codes


@dataclass(frozen=True)
class _Classes:
    """Conditions that are classes; their codes are indices."""

    names: NDArray[Any]
    shares: Array

    @property
    def sizes(self) -> dict[str, int]:
        """What the network is told."""
        return {"classes": len(self.names)}

    def codes(self, y: ArrayLike, n: int) -> NDArray[Any]:
        """The index of each of n conditions.

        Raises:
            ValueError: If one is no class that was fitted, or there are neither one nor n.
        """
        index = {name: k for k, name in enumerate(self.names.tolist())}
        asked = column_of(y).reshape(-1).tolist()
        unknown = [name for name in asked if name not in index]
        if unknown:
            some = ", ".join(map(repr, [*index][:8])) + (", ..." if len(index) > 8 else "")
            raise ValueError(f"y must hold classes of those fitted, {some}, got {unknown[0]!r}")
        return _one_each(np.array([index[name] for name in asked], dtype=np.int64), n)


@dataclass(frozen=True)
class _Numbers:
    """Conditions that are numbers; their codes are of mean 0 and standard deviation 1, or NaN where withheld."""

    mean: Array
    std: Array

    @property
    def sizes(self) -> dict[str, int]:
        """What the network is told."""
        return {"numbers": len(self.mean)}

    def codes(self, y: ArrayLike, n: int) -> NDArray[Any]:
        """The normalised numbers of each of n conditions.

        Raises:
            ValueError: If they are not finite numbers, not as many as were fitted, or of neither one condition nor n.
        """
        given = column_of(y)
        is_one = given.ndim == 0 or (given.ndim == 1 and len(self.mean) > 1)
        rows = given.reshape(1, -1) if is_one else given.reshape(len(given), -1)
        rows = check_array(rows, dtype=np.float64, input_name="y")
        if rows.shape[1] != len(self.mean):
            raise ValueError(
                f"y must have the numbers that were fitted, {len(self.mean)} in a row, got shape {given.shape}"
            )
        return _one_each((rows - self.mean) / self.std, n)


class _Mean(nn.Module):
    """The mean of networks, as a network; towards either end it sees the time stand still."""

    def __init__(self, networks: list[MLP]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self.classes, self.numbers, self.null = networks[0].classes, networks[0].numbers, networks[0].null

    def forward(self, x: Tensor, t: Tensor, *y: Tensor) -> Tensor:
        """The mean of what they say."""
        t = t.clamp(-LAST, LAST)
        return torch.stack([network(x, t, *y) for network in self.networks]).mean(0)


def _field(networks: list[MLP]) -> NetworkField:
    """Networks as a field of whitened rows, on the path that keeps their variance at 1: untrained, it stands still."""
    path = GaussianPath(CosineSchedule())
    return NetworkField(Preconditioned(_Mean(networks), path.schedule, 1.0), path, EDMPrediction(1.0))


def _condition_of(y: ArrayLike, n: int) -> _Classes | _Numbers:
    """What conditions are, by their type.

    Raises:
        ValueError: If they are not one for each row, not finite, or of no type that can be.
    """
    given, is_category = _column(y)
    found = check_array(given, ensure_2d=False, dtype=None, input_name="y")
    if len(found) != n:
        raise ValueError(f"y must have one condition for each of {n} rows, got {len(found)}")
    if found.dtype.kind == "f" and not is_category:
        rows = found.reshape(len(found), -1).astype(np.float64)
        std = rows.std(0)
        return _Numbers(rows.mean(0), np.where(std > 0, std, 1.0))
    if found.dtype.kind == "c" or found.size != len(found):
        raise ValueError(
            f"y must be classes of shape (n,), or floats of that or (n, k), got {found.dtype} of shape {found.shape}"
        )
    try:
        names, counts = np.unique(found.reshape(-1), return_counts=True)
    except TypeError as error:
        raise ValueError("y must hold classes that can be put in order, as those of one type can") from error
    return _Classes(names, counts / counts.sum())


def _column(y: Any) -> tuple[NDArray[Any], bool]:
    """Conditions as an array, and whether a table declares them to be categories, whatever their type."""
    if getattr(y, "ndim", 1) == 2 and y.shape[1] == 1 and hasattr(y, "iloc"):
        y = y.iloc[:, 0]
    return column_of(y), str(getattr(y, "dtype", "")) == "category"


def _one_each(codes: NDArray[Any], n: int) -> NDArray[Any]:
    """One condition spread over n rows, or one for each of them."""
    if len(codes) not in (1, n):
        raise ValueError(f"y must be one condition or one for each of {n} rows, got {len(codes)}")
    return np.repeat(codes, n, 0) if len(codes) < n else codes


def _tensor(codes: NDArray[Any], dtype: torch.dtype) -> Tensor:
    """Conditions as a network takes them: indices as they are, numbers in its own type."""
    found = torch.from_numpy(codes)
    return found.to(dtype) if found.is_floating_point() else found


def _seed(random_state: int | np.random.RandomState | None) -> int:
    """A seed of the noise: one from a random state, as scikit-learn has it."""
    return int(check_random_state(random_state).randint(2**31 - 1))
