"""What samples are made under, as the flags say it: classes by name or index, numbers, guidance."""

from __future__ import annotations

import torch
from torch import Tensor

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
) -> tuple[Field, Tensor | None]:
    """The run's field under the conditions of some samples, and those: a class of each, or numbers in their units.

    Without a label sample i has class i mod n; without numbers those of a training sample.

    Raises:
        ValueError: If the model takes no such condition, or cannot be guided.
    """
    for flag, value, need, known in (
        ("--guidance", guidance, "classes or numbers", run.classes or run.numbers),
        ("--class", label, "classes", run.classes),
        ("--numbers", numbers, "numbers", run.numbers),
    ):
        if value is not None and not known:
            raise ValueError(f"{flag} needs a model with {need}, and {run.folder} was trained without any")
    y = _conditions(run, count, label, numbers)
    if y is None:
        return field, None
    if guidance not in (None, 0.0, 1.0) and not run.config.drop:
        raise ValueError(f"--guidance needs a model trained with labels dropped, and {run.folder} was with --drop 0")
    return guided(field, run.conditions(y), 1.0 if guidance is None else guidance), y


def _conditions(run: Run, count: int, label: str | None, numbers: str | None) -> Tensor | None:
    index = torch.arange(count)
    if run.numbers:
        rows = run.kept_numbers() if numbers is None else numbers_from(numbers, run.numbers)
        return rows[index % len(rows)]
    if run.classes:
        k = None if label is None else class_index(label, run.classes)
        return index % len(run.classes) if k is None else torch.full_like(index, k)
    return None


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


def class_index(label: str, classes: tuple[str, ...]) -> int:
    """The index of a class, from its name or itself."""
    if label in classes:
        return classes.index(label)
    if label.isdecimal() and int(label) < len(classes):
        return int(label)
    raise ValueError(
        f"--class must be one of {', '.join(classes)}, or an index from 0 to {len(classes) - 1}, got {label!r}"
    )
