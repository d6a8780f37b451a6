"""What samples are made under, as the flags say it: classes by name or index, numbers, prompts, guidance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pathline.conditions import CLASS, NUMBERS, TEXT
from pathline.data.codec import Codec
from pathline.fields.field import Field
from pathline.fields.network import NetworkField
from pathline.runs import Run, guided


def bound(
    run: Run,
    field: NetworkField,
    count: int,
    guidance: float | None = None,
    label: str | None = None,
    numbers: str | None = None,
    prompts: Sequence[str] = (),
    negative: str | None = None,
    own: dict[str, Any] | None = None,
    seed_of_classes: int | None = None,
) -> tuple[Field, dict[str, Any] | None]:
    """The run's field under the conditions of some samples, and those in the units of the data, as `Run` takes them.

    With guidance 0 there are none, as all are ignored. Without a label sample i has class i mod n, or one drawn by the
    shares of the training data with `seed_of_classes`; without numbers or prompts it has those of a training sample.
    Of a model of several kinds of condition, all are those of one training sample unless given; if some are given, the
    others are null, as far as the model was trained with them dropped on their own. Samples that have conditions of
    their `own` keep them, but for those that are given. A negative prompt stands beside the conditions that are never
    null alone.

    Raises:
        ValueError: If the model takes no such condition, or cannot be guided.
    """
    for flag, value, need, kinds in (
        ("--guidance", guidance, "classes, numbers or text", run.kinds),
        ("--class", label, "classes", run.classes),
        ("--numbers", numbers, "numbers", run.numbers),
        ("--prompt", prompts or None, "text", "text" in run.kinds),
        ("--negative", negative, "text", "text" in run.kinds),
    ):
        if value is not None and not kinds:
            raise ValueError(f"{flag} needs a model with {need}, and {run.folder} was trained without any")
    y = _conditions(run, count, label, numbers, prompts, own, seed_of_classes)
    if not y:
        return field, None
    check_guidance(run, guidance)
    w = 1.0 if guidance is None else guidance
    if negative is None:
        return guided(field, run.conditions(y), w), y if w else None
    if w in (0.0, 1.0):
        raise ValueError(
            f"--negative is what guidance leads away from, and there is none with --guidance {w:g}; take 4, say"
        )
    run.encoder.check([negative])
    kept = {kind: value for kind, value in y.items() if kind not in _dropped_alone(run)}
    away = kept | {TEXT: np.repeat(negative, count)}
    return guided(field, run.conditions(y), w, run.conditions(away)), y


def check_guidance(run: Run, w: float | None) -> None:
    """Refuse guidance of a model that never saw samples without their conditions.

    Raises:
        ValueError: If the scale needs what the model makes without, or is not finite.
    """
    if w is not None and not math.isfinite(w):
        raise ValueError(f"--guidance must be a finite number, got {w}")
    if w not in (None, 1.0) and run.kinds and not run.config.drop:
        raise ValueError(f"--guidance needs a model trained with labels dropped, and {run.folder} was with --drop 0")


def _dropped_alone(run: Run) -> set[str]:
    """The kinds that were dropped in training while others stayed, so that each may be null beside these."""
    shares = run.config.shares()
    return {kind for kind, share in shares.items() if share} if isinstance(shares, dict) else set()


def _conditions(
    run: Run,
    count: int,
    label: str | None,
    numbers: str | None,
    prompts: Sequence[str],
    own: dict[str, Any] | None,
    seed_of_classes: int | None,
) -> dict[str, Any]:
    index, kinds = torch.arange(count), run.kinds
    given: dict[str, Any] = {}
    if label is not None:
        given[CLASS] = torch.full_like(index, class_index(label, run.codec))
    elif seed_of_classes is not None:
        given[CLASS] = run.codec.drawn(count, seed_of_classes)
    if numbers is not None:
        given[NUMBERS] = numbers_from(numbers, run.numbers).expand(count, -1)
    if prompts:
        run.encoder.check(prompts)
        if not (all(map(str.strip, prompts)) or run.config.drop or TEXT in _dropped_alone(run)):
            raise ValueError(
                f"--prompt must not be empty, as that stands for no condition, which {run.folder} never learned: it "
                "was trained with --drop 0"
            )
        given[TEXT] = np.array(prompts)[index.numpy() % len(prompts)]
    if kinds == (CLASS,):
        return given or {CLASS: index % len(run.classes)}
    if own is not None:
        return {kind: given.get(kind, value) for kind, value in own.items()}
    null = _dropped_alone(run) if given else set()
    others = [kind for kind in kinds if kind not in given and kind not in null]
    kept = run.kept() if others else {}
    given |= {kind: kept[kind][index % len(kept[kind])] for kind in others}
    return {kind: given[kind] for kind in kinds if kind in given}


def prompts_from(prompt: str | None, path: Path | None) -> list[str]:
    """The prompts that the flags give: one, or the lines of a file that are not blank.

    Raises:
        ValueError: If both are given, or the file is no text, or has none.
    """
    if path is None:
        return [] if prompt is None else [prompt]
    if prompt is not None:
        raise ValueError(f"either --prompt or --prompts is to be given, got {prompt!r} and {path}")
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise ValueError(f"--prompts must be a file of text in UTF-8, got {path}: {error.reason}") from None
    except OSError as error:
        raise ValueError(f"--prompts must be a file of text, got {path}: {error.strerror}") from None
    if not lines:
        raise ValueError(f"--prompts must be a file with a prompt in each line, got {path}, which has none")
    return lines


def numbers_from(text: str, names: tuple[str, ...]) -> Tensor:
    """Numbers to condition on from `3.5,120`, of shape `(1, numbers)`."""
    try:
        found = torch.tensor([[float(part) for part in text.split(",")]], dtype=torch.float64)
    except ValueError:
        found = torch.empty(0)
    if found.shape != (1, len(names)) or not found.isfinite().all():
        raise ValueError(
            f"--numbers must be finite numbers, one for each of {', '.join(names)}, with commas between, got {text!r}; "
            "pathline info tells their ranges"
        )
    return found


def class_index(label: str, codec: Codec) -> int:
    """The index of a class, from its name or itself.

    Raises:
        ValueError: If there is no such class.
    """
    try:
        return codec.index(label)
    except ValueError as error:
        raise ValueError(f"--class {error}") from None
