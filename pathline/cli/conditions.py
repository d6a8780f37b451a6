"""What samples are made under, as the flags say it: classes by name or index, numbers, prompts, guidance."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pathline.asked import Asked, asked
from pathline.conditions import CLASS, NUMBERS, TEXT
from pathline.data.codec import Codec
from pathline.fields.field import Field
from pathline.fields.network import NetworkField
from pathline.runs import Run


def bound(
    run: Run,
    field: NetworkField,
    count: int,
    guidance: float | None = None,
    label: str | None = None,
    numbers: str | None = None,
    prompts: Sequence[str] = (),
    own: dict[str, Any] | None = None,
) -> tuple[Field, dict[str, Any] | None]:
    """The run's field under the conditions of some samples, and those in the units of the data, as `Run` takes them.

    Samples that have conditions of their `own` keep them, but for those that are given.

    Raises:
        ValueError: If the model takes no such condition, or cannot be guided.
    """
    wish, rows = wished(run, guidance, label, numbers, prompts, own=own), range(count)
    return wish.field(field, rows), wish.of(rows)


def wished(
    run: Run,
    guidance: float | None = None,
    label: str | None = None,
    numbers: str | None = None,
    prompts: Sequence[str] = (),
    negative: str | None = None,
    own: dict[str, Any] | None = None,
    seed_of_classes: int | None = None,
) -> Asked:
    """What samples are to be, as the flags say it: `asked` tells how.

    Raises:
        ValueError: If the model takes no such condition, or cannot be guided.
    """
    for flag, value, need, kinds in (
        ("--class", label, "classes", run.classes),
        ("--numbers", numbers, "numbers", run.numbers),
        ("--prompt", prompts or None, "text", TEXT in run.kinds),
        ("--negative", negative, "text", TEXT in run.kinds),
    ):
        if value is not None and not kinds:
            raise ValueError(f"{flag} needs a model with {need}, and {run.folder} was trained without any")
    given: dict[str, Any] = {}
    if label is not None:
        given[CLASS] = torch.tensor([class_index(label, run.codec)])
    if numbers is not None:
        given[NUMBERS] = numbers_from(numbers, run.numbers)
    if prompts:
        given[TEXT] = np.array(prompts)
    return asked(run, given, guidance, negative, own=own, seed_of_classes=seed_of_classes, dashes="--")


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
