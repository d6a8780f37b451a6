"""A network as a field, and a field under a condition.

The network is called as `network(x, t)`, or `network(x, t, y)` under a condition, with t of shape `(batch,)`. It sees
the point and the time, never the data.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from pathline.arguments import instance
from pathline.conditions import as_batch, batches_of, by_kind
from pathline.fields.field import Field
from pathline.paths.path import Path
from pathline.paths.predictions import VELOCITY, Prediction

OF_SHAPES = (  # how torch says that a layer was made for other points
    "shapes cannot be multiplied",
    "must match the size of tensor",
    "expected input",
    "normalized_shape",
)

OF_DTYPES = ("must have the same dtype", "should be the same", "expected scalar type")  # for points of another dtype


class NetworkField(Field):
    """A field whose prediction a network makes.

    With a tuple of predictions the network returns a tuple of tensors, or one tensor with the heads side by side in
    dimension 1 (features or channels).

    A network may be asked at points that are finer than its weights: at float32 or float64 points with weights in
    bfloat16 or float16, say. It sees them rounded, and the time as it is; what it says has the dtype of the points.

    A network may have an attribute `null`, the condition that stands for none, for one sample: a class index, say.
    Without it the network is given None. One whose `null` is a dictionary declares the kinds of condition that it
    takes, and is given a dictionary of them, each a batch; any other is given conditions as they come.
    """

    def __init__(
        self,
        network: nn.Module,
        path: Path,
        prediction: Prediction | tuple[Prediction, ...] = VELOCITY,
    ) -> None:
        super().__init__()
        instance("network", network, nn.Module, "a function becomes one as the forward of a class")
        instance("path", path, Path, "GaussianPath(LinearSchedule()) is one")
        for kind in prediction if isinstance(prediction, tuple) else (prediction,):
            instance("prediction", kind, Prediction, "VELOCITY, SCORE, NOISE, DATA and V are")
        self.network = network
        self.path = path
        self.prediction = prediction

    def forward(self, x: Tensor, t: Tensor) -> Any:
        """What the network says without a condition."""
        return self._asked(x, t)

    def under(self, x: Tensor, t: Tensor, y: Any) -> Any:
        """What the network says under a condition, one value per sample."""
        return self._asked(x, t, y)

    def given(self, y: Any) -> Field:
        """The field under a condition: one value for all samples, or one per sample; None is the null condition.

        A network that declares kinds of condition (`classes=...`, `numbers=...`, `text=...`) takes a dictionary of
        them, in which a kind that is left out, or None, is null. Where it has one kind only, its value may be bare.
        Numbers have shape `(samples, k)`; `(k,)` is one value for all. Any other network is given `y` as it is.

        Raises:
            ValueError: If the network takes no condition, not one of such a kind, or a label is no class's index.
        """
        return self.bound(self.checked(y))

    def bound(self, y: Any) -> Field:
        """The field under conditions that were checked, the null among them: what training binds."""
        self._check_takes_one()
        null = self.null
        if y is None:
            return Given(self, null)
        if isinstance(null, Mapping):
            return Given(self, {**null, **batches_of(by_kind(y, tuple(null)), null)})
        y = torch.as_tensor(y) if isinstance(y, list) else tree_map(torch.as_tensor, y)  # a tree is no list
        return Given(self, y if null is None else tree_map(as_batch, y, null))

    def checked(self, y: Any, may_wait: bool = True) -> Any:
        """Conditions by their kind, each a batch of tensors: what `given` and `train` make of those of their caller.

        Those of a network that declares no kinds are left as they are. Labels on another device than the CPU are
        checked where one `may_wait` for it.

        Raises:
            ValueError: If the network takes none, or none of such a kind, or a label is not the index of a class.
        """
        self._check_takes_one()
        null = self.null
        if y is None or not isinstance(null, Mapping):
            return y
        classes = getattr(self.network, "classes", None)
        return batches_of(by_kind(y, tuple(null)), null, None if isinstance(classes, bool) else classes, may_wait)

    def _check_takes_one(self) -> None:
        if not takes_condition(self.network):
            raise ValueError(
                f"{type(self.network).__name__} takes no condition: its forward must accept (x, t, y); "
                "train it with labels (classes=..., numbers=... or text=...) to give it one or to guide it"
            )

    @property
    def null(self) -> Any:
        """The null condition, in a batch of one, or None where the network has none of its own."""
        null = getattr(self.network, "null", None)
        return None if null is None else tree_map(lambda leaf: torch.as_tensor(leaf)[None], null)

    def _asked(self, x: Tensor, t: Tensor, *y: Any) -> Any:
        t = t.expand(x.shape[0]) if t.ndim == 0 else t
        own = self._dtype(x)
        if torch.finfo(own).bits >= torch.finfo(x.dtype).bits:
            value = self._said(x, t, *y)
        else:
            rounds_itself = getattr(self.network, "numbers", None) is not None  # numbers, once their waves are known
            value = self._said(x.to(own), t, *(y if rounds_itself else tree_map(partial(_in, own), y)))
        value = tree_map(partial(_in, x.dtype), value)
        if isinstance(self.prediction, tuple) and isinstance(value, Tensor):
            return value.chunk(len(self.prediction), 1)
        return value

    def _said(self, x: Tensor, t: Tensor, *y: Any) -> Any:
        """What the network says.

        Raises:
            ValueError: If it takes no points of this shape or dtype, as its error says; any other is left as it is.
        """
        try:
            return self.network(x, t, *y)
        except RuntimeError as error:
            if any(words in str(error) for words in OF_DTYPES):
                own = self._dtype(x)
                raise ValueError(
                    f"{type(self.network).__name__} has weights in {own} and takes no points in {x.dtype}: {error}; "
                    f"pass x.to({own})"
                ) from error
            if any(words in str(error) for words in OF_SHAPES):
                raise ValueError(
                    f"{type(self.network).__name__} takes no points of shape {tuple(x.shape)}: {error}; give them the "
                    "shape that the network was made for"
                ) from error
            raise

    def _dtype(self, x: Tensor) -> torch.dtype:
        """The dtype of the network's weights, or of the points if it has none."""
        return next((p.dtype for p in self.network.parameters() if p.is_floating_point()), x.dtype)


class Given(Field):
    """A network field under a condition. It has no parameters of its own: it shares those of the field."""

    def __init__(self, field: NetworkField, y: Any) -> None:
        super().__init__()
        self.field = field
        self.y = y
        self.path = field.path
        self.prediction = field.prediction

    def forward(self, x: Tensor, t: Tensor) -> Any:
        """The prediction under the condition."""
        return self.field.under(x, t, self.conditions(x))

    def conditions(self, x: Tensor) -> Any:
        """The condition of each point of a batch.

        Raises:
            ValueError: If there are several conditions, but not one for each point.
        """
        return tree_map(lambda leaf: _spread(leaf, x), self.y)

    def given(self, y: Any) -> Field:
        """The field under another condition."""
        return self.field.given(y)

    def take(self, index: Tensor | slice) -> Field:
        """The field for some samples of its batch."""
        return Given(self.field, tree_map(lambda leaf: leaf[index] if _is_batch(leaf) else leaf, self.y))

    def repeat(self, copies: int) -> Field:
        """The field for the batch several times over."""
        return Given(self.field, tree_map(lambda leaf: torch.cat([leaf] * copies) if _is_batch(leaf) else leaf, self.y))


def takes_condition(network: nn.Module) -> bool:
    """Whether a network can be called as `network(x, t, y)`; one with `classes`, `numbers` or `text` says so."""
    known = [getattr(network, name) for name in ("classes", "numbers", "text") if hasattr(network, name)]
    if known:
        return any(known)
    try:
        inspect.signature(network.forward).bind(None, None, None)
    except TypeError:
        return False
    return True


def _in(dtype: torch.dtype, leaf: Any) -> Any:
    return leaf.to(dtype) if isinstance(leaf, Tensor) and leaf.is_floating_point() else leaf


def _is_batch(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) and leaf.ndim > 0 and leaf.shape[0] > 1


def _spread(leaf: Any, x: Tensor) -> Any:
    if not isinstance(leaf, Tensor):
        return leaf
    leaf = leaf.to(x.device)
    if leaf.ndim == 0 or leaf.shape[0] == 1:
        return leaf.expand(x.shape[0], *leaf.shape[1:])
    if leaf.shape[0] != x.shape[0]:
        raise ValueError(f"y must be one condition or one per sample, {len(x)}, got {len(leaf)}")
    return leaf
