"""Somebody else's network as a field.

    ours(x, t) = sign * theirs(scale(t) x, time(t), **conditions)

is the value of a prediction on a path, and all else follows: velocity, score, data and noise, every sampler, the
log-density. Only the convention differs from library to library (`fields.adapters`), and it is checked there by taking
the steps of their own samplers.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from pathline.fields.adapters import (
    RANKS,
    Convention,
    TimeMap,
    diffusers_convention,
    edm_convention,
    flow_matching_convention,
    parameters_of,
    takes_any,
)
from pathline.fields.field import Field
from pathline.fields.network import NetworkField
from pathline.paths.path import Path
from pathline.paths.predictions import VELOCITY, Prediction
from pathline.paths.schedules import Schedule
from pathline.tensors import meet


class ForeignField(Field):
    """The field that a module of another library makes.

    `given(y)` binds keyword arguments of the module, as a dictionary of tensors, each for all samples (in a batch of
    one) or one per sample; where a null is known each may come without a batch.

    Args:
        module: Theirs, kept as it is.
        path: The path that its points are on.
        prediction: The kind that it predicts.
        time: From our time, of shape `(batch,)`, at least float32, to theirs; the same unless given.
        scale: What a point is multiplied by before it is given: a number, or a function of time.
        sign: What its value is multiplied by: -1 where it predicts the opposite.
        names: Of its arguments for the point and the time, where they are not the first two.
        null: The condition that stands for none, for one sample: what `given(None)` binds, and what it is called with
            where nothing is bound.
        keywords: What it is called with besides, the same for every batch.
        has_variance: Whether it returns a variance too, in the second half of dimension 1, which is cut off.

    Raises:
        ValueError: If the module is none, or a name is not one of its arguments.
    """

    def __init__(
        self,
        module: nn.Module,
        path: Path,
        prediction: Prediction = VELOCITY,
        *,
        time: TimeMap | None = None,
        scale: float | TimeMap = 1.0,
        sign: float = 1.0,
        names: tuple[str, str] | None = None,
        null: Mapping[str, Any] | None = None,
        keywords: Mapping[str, Any] | None = None,
        has_variance: bool = False,
    ) -> None:
        super().__init__()
        self.path = path
        self.prediction = prediction
        self.field = _Bound(_Foreign(module, time, scale, sign, names, null, keywords, has_variance), path, prediction)

    def forward(self, x: Tensor, t: Tensor) -> Any:
        """What the module says without a condition, or under the null."""
        return self.field(x, t)

    def given(self, y: Any) -> Field:
        """The field under keyword arguments of the module; None is the null condition.

        Raises:
            ValueError: If y is no dictionary of tensors, or the module does not take it, or there is no null.
        """
        return self.field.given(y)

    def bound(self, y: Any) -> Field:
        """The same for conditions that were checked."""
        return self.field.bound(y)

    def checked(self, y: Any, may_wait: bool = True) -> Any:
        """The conditions as the module takes them."""
        return self.field.checked(y, may_wait)

    @property
    def null(self) -> Any:
        """The condition that stands for none, in a batch of one; None where it was not given."""
        return self.field.null

    @property
    def module(self) -> nn.Module:
        """Theirs."""
        return self.field.network.module  # type: ignore[return-value]

    @classmethod
    def from_diffusers(
        cls,
        model: nn.Module,
        scheduler: Any,
        *,
        time: TimeMap | None = None,
        sign: float = -1.0,
        null: Mapping[str, Any] | None = None,
        keywords: Mapping[str, Any] | None = None,
    ) -> ForeignField:
        """A denoiser of diffusers: `pipe.unet` or `pipe.transformer`, with `pipe.scheduler`.

        The scheduler says the path and the kind: discrete steps (epsilon, sample, v_prediction), a flow, or EDM. Only
        that is taken from it; what its steps do besides (clip_sample, thresholding) is theirs. Between discrete steps
        the network is asked at a fraction of a timestep. A latent model's field lives in the latent space.

        Args:
            model: Takes `timestep`, and has a `config`.
            scheduler: The one that it was trained with, or any made from its config.
            time: From our time to what the network is given, where the adapter does not know it.
            sign: Of a flow: -1 where the network predicts noise - data, as most do; 1 where its pipeline negates it.
            null: As of a `ForeignField`: the embedding of an empty prompt, say, in a batch of one or without.
            keywords: As of a `ForeignField`.

        Raises:
            ValueError: If the model is no denoiser, or the scheduler of an unknown kind or prediction.
        """
        found = diffusers_convention(model, scheduler, time, sign)
        return cls._by(model, found, found.null if null is None else _of_one(null), keywords)

    @classmethod
    def from_flow_matching(
        cls,
        model: nn.Module,
        scheduler: Any = None,
        prediction: Prediction = VELOCITY,
        *,
        null: Mapping[str, Any] | None = None,
        keywords: Mapping[str, Any] | None = None,
    ) -> ForeignField:
        """A model of flow_matching, called as `model(x=x, t=t, **conditions)`: its time runs as ours.

        Args:
            model: A `ModelWrapper`, or any module with these arguments.
            scheduler: Of its path: CondOT unless given. One without a counterpart of ours is read as it is.
            prediction: The kind that it was trained to predict.
            null: As of a `ForeignField`.
            keywords: As of a `ForeignField`.

        Raises:
            ValueError: If the model cannot be called so, or the scheduler gives no alpha_t and sigma_t.
        """
        return cls._by(model, flow_matching_convention(model, scheduler, prediction), null, keywords)

    @classmethod
    def from_edm(
        cls,
        network: nn.Module,
        sigma_max: float = 80.0,
        *,
        schedule: Schedule | None = None,
        null: Mapping[str, Any] | None = None,
        keywords: Mapping[str, Any] | None = None,
    ) -> ForeignField:
        """A denoiser D(x, sigma) of data + sigma noise, as EDM's preconditioned networks are.

        Args:
            network: Called as `network(x, sigma, **conditions)`, with sigma of shape `(batch,)`.
            sigma_max: The noise at t = 0, on the path on which its level falls evenly.
            schedule: Of another path instead: x / alpha is then its point, beta / alpha its noise.
            null: As of a `ForeignField`.
            keywords: As of a `ForeignField`.

        Raises:
            ValueError: If the network cannot be called so, or was not trained at such noise.
        """
        return cls._by(network, edm_convention(network, sigma_max, schedule), null, keywords)

    @classmethod
    def _by(
        cls,
        module: nn.Module,
        convention: Convention,
        null: Mapping[str, Any] | None = None,
        keywords: Mapping[str, Any] | None = None,
    ) -> ForeignField:
        return cls(module, **vars(convention) | {"null": null, "keywords": keywords})


class _Bound(NetworkField):
    """A network field whose conditions are keyword arguments."""

    def given(self, y: Any) -> Field:
        asked: _Foreign = self.network  # type: ignore[assignment]
        asked.check(y)
        rows = {key: torch.as_tensor(value) if isinstance(value, list) else value for key, value in (y or {}).items()}
        return super().given(None if y is None else rows)


class _Foreign(nn.Module):
    """The module as our networks are called, `network(x, t, y)`, with y its keyword arguments."""

    def __init__(
        self,
        module: nn.Module,
        time: TimeMap | None,
        scale: float | TimeMap,
        sign: float,
        names: tuple[str, str] | None,
        null: Mapping[str, Any] | None,
        keywords: Mapping[str, Any] | None,
        has_variance: bool,
    ) -> None:
        super().__init__()
        if not isinstance(module, nn.Module):
            raise ValueError(f"module must be a torch.nn.Module, got {module!r:.60}; wrap a function in one")
        self.module, self.time, self.scale, self.sign = module, time, scale, sign
        self.names, self.keywords, self.has_variance = names, dict(keywords or {}), has_variance
        taken = parameters_of(module)
        self._takes_any = takes_any(module)
        named = [p for p in taken.values() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
        own = names or tuple(p.name for p in named[:2])
        self._conditions = {p.name: p.default is p.empty for p in named if p.name not in own}
        unknown = [name for name in (*own, *self.keywords) if name not in taken and not self._takes_any]
        if unknown or len(own) < 2:
            raise ValueError(
                f"module must take a point and a time, and what names and keywords say: {type(module).__name__} takes "
                f"{', '.join(taken) or 'nothing'}" + (f", not {', '.join(unknown)}" if unknown else "")
            )
        self.null = None if null is None else dict(null)
        if null is not None:
            self.check(null)

    def forward(self, x: Tensor, t: Tensor, y: Mapping[str, Any] | None = None) -> Tensor:
        """The value of its prediction."""
        if y is None:
            y = {} if self.null is None else tree_map(lambda leaf: _batch(leaf, x), self.null)
            self.check(y)
        scale = meet(self.scale(t), x).to(x.dtype) if callable(self.scale) else self.scale
        point = x if isinstance(scale, float | int) and scale == 1 else scale * x
        time = t if self.time is None else self.time(t)
        keywords = {**tree_map(partial(_beside, x), self.keywords), **y}
        if self.names is None:
            value = self.module(point, time, **keywords)
        else:
            value = self.module(**dict(zip(self.names, (point, time), strict=True)), **keywords)
        value = getattr(value, "sample", value)
        value = value[0] if isinstance(value, tuple | list) else value
        if self.has_variance:
            value = value[:, : x.shape[1]]
        if not isinstance(value, Tensor) or value.shape != x.shape:
            got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(
                f"{type(self.module).__name__} must return points of the shape that it is given, {tuple(x.shape)}, as "
                f"a tensor, first in a tuple or as .sample, got {got}; has_variance=True cuts off a learned variance"
            )
        return (value if self.sign == 1 else self.sign * value).to(x.dtype)

    def check(self, y: Any) -> None:
        """Refuse what the module cannot be called with."""
        name, known = type(self.module).__name__, ", ".join(self._conditions) or "none"
        if y is None and self.null is None:
            raise ValueError(
                f"null must be given to be bound: nothing in {name} tells which condition stands for none; pass "
                "null={...}, the embedding of an empty prompt, say, or bind that with given({...})"
            )
        if y is None:
            return
        if not isinstance(y, Mapping):
            raise ValueError(
                f"y must be a dictionary of keyword arguments of {name} ({known}), got {type(y).__name__}; "
                f"given({{'{next(iter(self._conditions), 'class_labels')}': y}})"
            )
        for key, value in y.items():
            if key not in self._conditions and not self._takes_any:
                raise ValueError(f"y must hold conditions that {name} takes ({known}), got {key!r}")
            for leaf in tree_leaves(value):
                if not isinstance(leaf, Tensor | float | int | list):
                    raise ValueError(
                        f"y[{key!r}] must be a tensor, or a tree of them, got {type(leaf).__name__}; "
                        "what is the same for every batch goes into keywords={...}"
                    )
        missing = [key for key, is_needed in self._conditions.items() if is_needed and key not in {*y, *self.keywords}]
        if missing:
            raise ValueError(f"{name} needs {', '.join(missing)}; bind it with given({{'{missing[0]}': ...}})")
        if self.null is not None and self.null.keys() != y.keys():
            raise ValueError(
                f"y must hold the conditions that the null holds, {', '.join(self.null)}, got {', '.join(y)}; "
                "pass null={...} with all of them"
            )


def _beside(x: Tensor, leaf: Any) -> Any:
    return leaf.to(x.device) if isinstance(leaf, Tensor) else leaf


def _batch(value: Any, x: Tensor) -> Any:
    value = torch.as_tensor(value, device=x.device)
    value = value.to(x.dtype) if x.dtype.itemsize < 4 and value.is_floating_point() else value
    return value.expand(len(x), *value.shape)


def _of_one(null: Mapping[str, Any]) -> dict[str, Any]:
    """A null condition for one sample, also where it comes in a batch of one, as text encoders return it."""
    found: dict[str, Any] = {}
    for name, value in null.items():
        if isinstance(value, Mapping):
            found[name] = _of_one(value)
        else:
            is_batch = isinstance(value, Tensor) and value.ndim == RANKS.get(name, -1) + 1 and len(value) == 1
            found[name] = value[0] if is_batch else value
    return found
