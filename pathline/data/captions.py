"""Captions: what a picture shows, in words; and pairs of things that are never trained on together.

X with Y      X is seen alone or with another Y, Y is seen with other X, and both together only when held out
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from pathline.noise import Noise

LONGEST = 10_000  # letters: a caption is a sentence or some, not a book
WITH = " with "
OTHERS = 2  # things, at the least, with which Y is still trained on: with one alone, it may stand for that one
PAIR_STREAM = 19


def key_of(text: str | bool) -> str:
    """The key, or the column, that holds captions; empty if they are not used."""
    return "text" if text is True else text or ""


def told(count: int, empty: int) -> str:
    """What a title says of so many different captions, and so many samples whose caption is empty."""
    return f" with {count:,} different captions" + (f", {empty:,} of the samples with an empty one" if empty else "")


def without_text(y: Mapping[str, NDArray[Any]], known: Mapping[str, int]) -> int:
    """How many samples of a block have an empty caption, of those that are numbered so."""
    return int((y["text"] == known[""]).sum()) if "" in known else 0


def caption_of(value: object, key: str) -> str:
    """A caption without the blanks around it; an empty one means no text.

    Raises:
        ValueError: If it is no string, longer than `LONGEST`, or no text: the end of a sentence that begins with its
            place.
    """
    if not isinstance(value, str):
        raise ValueError(f'needs a caption in {key!r}, words or "" for none, got {value!r}')
    if len(value) > LONGEST:
        raise ValueError(f"needs a caption of up to {LONGEST:,} letters in {key!r}, got {len(value):,}")
    if any("\ud800" <= letter <= "\udfff" for letter in value):
        raise ValueError(f"needs a caption of letters in {key!r}, got half a pair of surrogates")
    return value.strip()


def unseen_pairs(captions: Sequence[str], share: float, seed: int = 0) -> list[bool]:
    """Whether each caption is of a pair that is never to be trained on, of captions of the form `X with Y`.

    What is left says X at least once, alone or with another Y, and Y with two other X at least, so that both are seen
    apart. A caption of several things, `X with Y with Z`, is never held out, and none of the pairs in it. Which pairs
    are held out depends on the captions, whatever their order, and on the seed.

    Args:
        captions: They may repeat.
        share: Of all pairs; one pair at the least is held out.
        seed: Of the choice.

    Raises:
        ValueError: If no pair can be held out, or not so many.
    """
    if not 0 < share < 1:
        raise ValueError(f"share must be between 0 and 1, got {share}")
    told = {caption: tuple(caption.split(WITH)) for caption in captions}
    pairs = sorted({parts for parts in told.values() if len(parts) == 2})
    if not pairs:
        such = f", such as {captions[0]!r}" if captions else ""
        raise ValueError(
            f"captions must have pairs of the form 'X{WITH}Y' to hold out, got none in {len(told):,}{such}; leave all "
            "of them to be trained on"
        )
    fixed = {(first, other) for first, *others in told.values() if len(others) > 1 for other in others}
    of_first = Counter(parts[0] for parts in set(told.values()))
    of_second = Counter(second for _, second in {*pairs, *fixed})
    wanted, held = max(1, round(share * len(pairs))), set[tuple[str, ...]]()
    for k in Noise(seed, stream=PAIR_STREAM).permutation(len(pairs)).tolist():
        first, second = pair = pairs[k]
        if len(held) < wanted and pair not in fixed and of_first[first] > 1 and of_second[second] > OTHERS:
            held.add(pair)
            of_first[first] -= 1
            of_second[second] -= 1
    if len(held) < wanted:
        raise ValueError(
            f"share must leave each X and Y of 'X{WITH}Y' to be seen with others, got {share} of {len(pairs):,} pairs, "
            f"of which {len(held):,} can be held out; lower it, or leave all of them to be trained on"
        )
    return [told[caption] in held for caption in captions]
