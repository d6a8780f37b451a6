"""What is said of shapes: captions out of scenes, and scenes out of captions.

    caption = thing [relation thing]        thing = a [size] colour shape

"a red circle", "a large red circle left of an orange cross". A size that is not told may be either.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch

from pathline.data.distributions import check_counts
from pathline.noise import Noise
from pathline.specs import did_you_mean

COLOURS = ("red", "green", "blue", "yellow", "purple", "orange")
SHAPES = ("circle", "square", "triangle", "cross")
SIZES = ("small", "large")
RELATIONS = ("above", "below", "left of", "right of")
UNSEEN = (("purple", "circle"), ("orange", "square"), ("green", "triangle"), ("yellow", "cross"))  # never trained on

WORDS = ("a", "an", *COLOURS, *SHAPES, *SIZES, "above", "below", "left", "right", "of")
THING = rf"an? (?:({'|'.join(SIZES)}) )?({'|'.join(COLOURS)}) ({'|'.join(SHAPES)})"
CAPTION = re.compile(rf"{THING}(?: ({'|'.join(RELATIONS)}) {THING})?")
PROMPT_STREAM = 41

T = TypeVar("T")


@dataclass(frozen=True)
class Thing:
    """A coloured shape.

    Attributes:
        colour: One of `COLOURS`.
        shape: One of `SHAPES`; empty for what was read and is none of them.
        size: One of `SIZES`; empty if it is not told.
        centre: Of the box around it, in pixels from the left and from the top; None if it is only spoken of.
    """

    colour: str
    shape: str
    size: str = ""
    centre: tuple[float, float] | None = None

    @property
    def caption(self) -> str:
        """What is said of it: "a large red circle"."""
        words = " ".join(word for word in (self.size, self.colour, self.shape) if word)
        return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"

    @property
    def is_unseen(self) -> bool:
        """Whether nothing of this colour and shape is ever trained on."""
        return (self.colour, self.shape) in UNSEEN


@dataclass(frozen=True)
class Scene:
    """One thing, or two and how the first is to the second.

    Attributes:
        things: One or two.
        relation: One of `RELATIONS` for two, empty for one.
    """

    things: tuple[Thing, ...]
    relation: str = ""

    @property
    def caption(self) -> str:
        """What is said of it: "a red circle above a small blue square"."""
        first, *others = (thing.caption for thing in self.things)
        return " ".join((first, self.relation, *others)) if others else first

    @property
    def is_unseen(self) -> bool:
        """Whether one of its things is never trained on."""
        return any(thing.is_unseen for thing in self.things)


def parse(prompt: str) -> Scene:
    """The scene that a prompt tells of; capitals, further spaces and a full stop do not count.

    Raises:
        ValueError: If it has a word that no caption has, which is named, or its words do not make a caption.
    """
    words = prompt.lower().strip().removesuffix(".").split()
    odd = next((word for word in words if word not in WORDS), None)
    if odd is not None:
        raise ValueError(
            f"prompt must have words of captions of shapes only, got {odd!r} in {prompt!r}{did_you_mean(odd, WORDS)}"
        )
    found = CAPTION.fullmatch(" ".join(words))
    if found is None:
        raise ValueError(
            f"prompt must tell of one thing or two, got {prompt!r}; say it like 'a red circle', or like "
            "'a large red circle left of an orange cross'"
        )
    size, colour, shape, relation, *second = found.groups()
    first = Thing(colour, shape, size or "")
    if relation is None:
        return Scene((first,))
    size, colour, shape = second
    return Scene((first, Thing(colour, shape, size or "")), relation)


def prompts(count: int, is_unseen: bool, seed: int = 0) -> tuple[str, ...]:
    """Captions to try a model with, of one thing and of two in turn, and with every size told for every other two.

    Args:
        count: How many.
        is_unseen: Whether each tells of one thing that is never trained on (beside one that is); none does otherwise.
        seed: Prompt i depends on the seed and i only.

    Raises:
        ValueError: If count is no whole number from 1.
    """
    check_counts(count=count)
    u = Noise(seed, stream=PROMPT_STREAM).uniform((count, 8), dtype=torch.float64).tolist()
    return tuple(_prompt(i % 2 == 1, i // 2 % 2 == 1, is_unseen, row) for i, row in enumerate(u))


def _prompt(has_two: bool, has_sizes: bool, is_unseen: bool, u: Sequence[float]) -> str:
    seen = [(colour, shape) for colour in COLOURS for shape in SHAPES if (colour, shape) not in UNSEEN]
    pairs = [_one_of(UNSEEN if is_unseen else seen, u[0])]
    if has_two:
        pairs.append(_one_of([pair for pair in seen if pair != pairs[0]], u[1]))
        pairs = pairs if u[2] < 0.5 else pairs[::-1]
    sizes = [_one_of(SIZES, v) if has_sizes else "" for v in u[3:5]]
    things = tuple(Thing(*pair, size) for pair, size in zip(pairs, sizes, strict=False))
    return Scene(things, _one_of(RELATIONS, u[5]) if has_two else "").caption


def _one_of(values: Sequence[T], u: float) -> T:
    return values[int(u * len(values))]
