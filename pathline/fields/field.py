"""A field is what gets solved: velocity, score, data and noise at a point and a time, read from one prediction.

    q = m_t x + sum_heads n_t prediction(x, t)

with m and n from the rows of the kinds (`paths.predictions`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor, nn

from pathline.arguments import instance
from pathline.paths.path import Path
from pathline.paths.predictions import DATA, NOISE, SCORE, VELOCITY, Interval, Prediction, blend
from pathline.tensors import Time, is_eager, time_of


class Field(nn.Module, ABC):
    """Subclass it, set `path` and `prediction`, and write `forward(x, t)`, the value of that prediction.

    A field with several heads has a tuple of predictions, and its `forward` returns a tuple. Each kind is then read
    from its own head, or else as the path says: from the velocity head on a Gaussian path (`paths.path`). The order of
    the heads does not matter.
    """

    path: Path
    prediction: Prediction | tuple[Prediction, ...]

    @abstractmethod
    def forward(self, x: Tensor, t: Tensor) -> Any:
        """The prediction at points of shape `(batch, *shape)` and a time of shape `()` or `(batch,)`."""

    @property
    def heads(self) -> tuple[Prediction, ...]:
        """The kinds that `forward` returns."""
        return self.prediction if isinstance(self.prediction, tuple) else (self.prediction,)

    def values(self, x: Tensor, t: Tensor) -> tuple[Tensor, ...]:
        """The value of each head, from one call of `forward`.

        Raises:
            ValueError: If there is not one for each, of the shape of `x`.
        """
        value = self(x, t)
        values: tuple[Tensor, ...] = tuple(value) if isinstance(self.prediction, tuple) else (value,)
        if len(values) != len(self.heads) or any(value.shape != x.shape for value in values):
            raise ValueError(
                f"forward must return {len(self.heads)} of the shape of x, {tuple(x.shape)}, "
                f"got {', '.join(str(tuple(value.shape)) for value in values)}"
            )
        return values

    def interval(self, kind: Prediction) -> Interval:
        """The times at which a kind can be read."""
        return self.path.interval(self.heads, kind)

    def read(self, x: Tensor, t: Time, *kinds: Prediction) -> Any:
        """One or several kinds, from one call of `forward`: a tensor, or a tuple of them.

        Raises:
            ValueError: If t is outside the interval in which a kind can be read, or does not meet `x`.
        """
        t = time_of(x, t)
        maps = [self.path.mix(self.heads, kind, t) for kind in kinds]
        for kind, (_, _, singular) in zip(kinds, maps, strict=True):
            if is_eager(x, t) and singular.any():
                raise ValueError(self.path.refusal(self.heads, kind, t[singular] if t.ndim else t))
        values = self.values(x, t)
        found = tuple(
            values[self.heads.index(kind)] if kind in self.heads else blend(m, x, zip(n, values, strict=True))
            for kind, (m, n, _) in zip(kinds, maps, strict=True)
        )
        return found if len(kinds) > 1 else found[0]

    def read_as(self, x: Tensor, t: Time, prediction: Prediction | tuple[Prediction, ...]) -> Any:
        """What `forward` would return if it predicted this: a tuple if `prediction` is one."""
        if not isinstance(prediction, tuple):
            return self.read(x, t, prediction)
        found = self.read(x, t, *prediction)
        return found if len(prediction) > 1 else (found,)

    def velocity(self, x: Tensor, t: Time) -> Tensor:
        """The velocity u_t(x)."""
        return self.read(x, t, VELOCITY)  # type: ignore[no-any-return]

    def score(self, x: Tensor, t: Time) -> Tensor:
        """The score, the gradient of log p_t at `x`."""
        return self.read(x, t, SCORE)  # type: ignore[no-any-return]

    def data(self, x: Tensor, t: Time) -> Tensor:
        """The expected data E[data | x_t = x]: the denoised point."""
        return self.read(x, t, DATA)  # type: ignore[no-any-return]

    def noise(self, x: Tensor, t: Time) -> Tensor:
        """The expected noise E[noise | x_t = x]."""
        return self.read(x, t, NOISE)  # type: ignore[no-any-return]

    def given(self, y: Any) -> Field:
        """The field under a condition; None is the null condition.

        Raises:
            ValueError: If this field takes no condition.
        """
        raise ValueError(
            f"{type(self).__name__} takes no condition; only a field with one can be guided or given a class"
        )

    def checked(self, y: Any, may_wait: bool = True) -> Any:
        """Conditions of training data as this field takes them; as they are, unless the field knows better.

        Raises:
            ValueError: If it takes no such conditions.
        """
        return y

    def bound(self, y: Any) -> Field:
        """The field under conditions that were checked, some of which may be null already: what training binds."""
        return self.given(y)

    def take(self, index: Tensor | slice) -> Field:
        """The same field for some samples of its batch: an unconditional field is the same for all."""
        return self

    def repeat(self, copies: int) -> Field:
        """The same field for the batch several times over."""
        return self


def tuple_of(value: Any) -> tuple[Tensor, ...]:
    """What a reading returned, as a tuple also where it is one tensor."""
    return value if isinstance(value, tuple) else (value,)


def gaussian(path: Path) -> None:
    """Refuse a path that does not begin at noise.

    Raises:
        ValueError: If it is a bridge.
    """
    instance("path", path, Path, "GaussianPath(LinearSchedule()) is one")
    if not path.is_gaussian:
        raise ValueError(f"path must be a GaussianPath, from noise, got {path}; MixtureBridgeField is for bridges")


def on_path(t: Tensor) -> Tensor:
    """The time, if it is one of a path.

    Raises:
        ValueError: If it is outside [0, 1].
    """
    if is_eager(t) and not ((t >= 0) & (t <= 1)).all():
        raise ValueError(f"t must lie in [0, 1], noise to data, got {t[~((t >= 0) & (t <= 1))].flatten()[0]:g}")
    return t


def checked_field(field: Any, name: str = "field") -> Field:
    """The field, if it is one.

    Raises:
        ValueError: If it is a bare network, a class, or has no path or prediction yet.
    """
    inner = getattr(field, "_orig_mod", field)  # what torch.compile was given
    instance(name, inner, Field, "NetworkField(network, path) makes one of a network")
    for need in ("path", "prediction"):
        if not hasattr(field, need):
            raise ValueError(f"{name} must have a {need}, which {type(field).__name__} has not; set self.{need}")
    return field  # type: ignore[no-any-return]
