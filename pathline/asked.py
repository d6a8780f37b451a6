"""What samples are asked to be: their conditions, of which sample i has those of its turn, and the guidance to them.

    sample i has value i mod m of the m values of a kind        one value for all is m = 1

Without a class sample i has class i mod n, or one drawn by the shares of the training data; without numbers or captions
it has those of a training sample. So any stretch of samples can be had without those before it.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from pathline.conditions import CLASS, NUMBERS, TEXT, by_kind, column_of
from pathline.data.classes import name_of
from pathline.fields.field import Field
from pathline.fields.network import NetworkField
from pathline.runs import CONDITIONS, Run, guided

FAR = 0.25  # of the range of the training samples: beyond so much more a number is asked for that was never seen


@dataclass(frozen=True)
class Asked:
    """What samples are made under.

    Attributes:
        run: The run whose model makes them.
        turns: The values of each kind of condition, as `Run.conditions` takes them; samples have them in turn.
        w: The guidance scale; with 0 all conditions are ignored.
        away: The values of each kind that guidance leads away from; none for the null condition.
        seed_of_classes: The seed that classes are drawn with, by their shares of the training data; None for others.
    """

    run: Run
    turns: Mapping[str, Any] = field(default_factory=dict)
    w: float = 1.0
    away: Mapping[str, Any] | None = None
    seed_of_classes: int | None = None

    def of(self, rows: range) -> dict[str, Any] | None:
        """The conditions that some samples claim, as `Run.conditions` takes them; None without any."""
        return (self._of(self.turns, rows) if self.w else None) or None

    def field(self, network: NetworkField, rows: range) -> Field:
        """The model's field for some samples, under their conditions."""
        y = self._of(self.turns, rows)
        if not y:
            return network
        away = None if self.away is None else self.run.conditions(self._of(self.away, rows))
        return guided(network, self.run.conditions(y), self.w, away)

    def _of(self, turns: Mapping[str, Any], rows: range) -> dict[str, Any]:
        index = np.arange(rows.start, rows.stop)  # a tensor of one number would be no index of an array
        found = {kind: values[index % len(values)] for kind, values in turns.items()}
        if self.seed_of_classes is not None and CLASS in found:
            found[CLASS] = self.run.codec.drawn(len(rows), self.seed_of_classes, rows.start)
        return found


def asked(
    run: Run,
    given: Mapping[str, Any],
    w: float | None = None,
    negative: str | None = None,
    *,
    own: Mapping[str, Any] | None = None,
    seed_of_classes: int | None = None,
    dashes: str = "",
) -> Asked:
    """What samples are to be, from what is given of it.

    Of a model of several kinds of condition, all that is not given is that of one training sample if nothing is; else
    it is null, as far as the model was trained with it dropped on its own.

    Args:
        run: The run whose model makes them.
        given: The values of some kinds of condition, as `Run.conditions` takes them: samples have them in turn.
        w: The guidance scale; 1 unless given.
        negative: A caption that guidance leads away from. It stands beside the conditions that are never null alone.
        own: Conditions that samples have of their own, one a sample: they keep them, but for those that are given.
        seed_of_classes: The seed that classes are drawn with, by their shares of the training data.
        dashes: What stands before the names of arguments in errors, for the command line.

    Raises:
        ValueError: If the model takes no such condition, or cannot be guided.
    """
    if seed_of_classes is not None and not run.classes:
        raise ValueError(f"{dashes}class-shares needs a model with classes, and {run.folder} was trained without any")
    if w is not None and not run.kinds:
        raise ValueError(
            f"{dashes}guidance needs a model with classes, numbers or text, and {run.folder} was trained without any"
        )
    if TEXT in given:
        _check_captions(run, given[TEXT].tolist(), dashes)
    if NUMBERS in given:
        _warn_of_far_numbers(run, given[NUMBERS], dashes)
    turns = _turns(run, given, own, seed_of_classes is not None)
    if not turns:
        return Asked(run)
    check_guidance(run, w, dashes)
    w, away = 1.0 if w is None else w, None
    if negative is not None:
        if w in (0.0, 1.0):
            raise ValueError(
                f"{dashes}negative is what guidance leads away from, and there is none with {dashes}guidance {w:g}; "
                "take 4, say"
            )
        run.encoder.check([negative])
        kept = {kind: value for kind, value in turns.items() if kind not in dropped_alone(run)}
        away = kept | {TEXT: np.array([negative])}
    if seed_of_classes is not None:
        run.codec.drawn(1, seed_of_classes)  # refuses now if the shares are not known
    return Asked(run, turns, w, away, seed_of_classes)


def _turns(run: Run, given: Mapping[str, Any], own: Mapping[str, Any] | None, has_shares: bool) -> dict[str, Any]:
    """The values of each kind that samples have in turn."""
    in_turn = {CLASS: torch.arange(len(run.classes))}
    found = {**(in_turn if has_shares else {}), **given}
    if run.kinds == (CLASS,):
        return found or in_turn
    if own is not None:
        return {kind: found.get(kind, value) for kind, value in own.items()}
    null = dropped_alone(run) if found else set()
    others = [kind for kind in run.kinds if kind not in found and kind not in null]
    kept = run.kept() if others else {}
    found |= {kind: kept[kind] for kind in others}
    return {kind: found[kind] for kind in run.kinds if kind in found}


def given_of(run: Run, y: Any, prompt: str | Sequence[str] | None, count: int) -> dict[str, Any]:
    """Conditions as a user of the library gives them, as `asked` takes them.

    Args:
        run: The run whose model takes them.
        y: Of one kind, or by their kind: names or indices of classes, numbers in the units of the data, captions. Each
            is one for all samples, or one per sample.
        prompt: Captions, for y[TEXT].
        count: How many samples there are.

    Raises:
        ValueError: If the model takes none, or no such.
    """
    if prompt is not None and TEXT not in run.kinds:
        raise ValueError(f"prompt needs a model with text, and {run.folder} was trained without any")
    kinds = tuple(kind for kind in run.kinds if kind != TEXT or prompt is None)
    if y is not None and not kinds:
        raise ValueError(f"y must be left out: {run.folder} was trained without conditions beside the prompt")
    found = dict(by_kind(y, kinds))
    if prompt is not None:
        found[TEXT] = prompt
    read = {CLASS: _classes, NUMBERS: _numbers, TEXT: _captions}
    values = {kind: read[kind](run, value) for kind, value in found.items()}
    for kind, value in values.items():
        if len(value) not in (1, count):
            raise ValueError(f"{kind} in y must be one value, or one for each of {count} samples, got {len(value)}")
    return values


def _classes(run: Run, value: Any) -> torch.Tensor:
    labels = np.asarray(value.cpu() if isinstance(value, torch.Tensor) else column_of(value)).reshape(-1)
    names = [name_of(label) for label in labels.tolist()]
    try:
        known = {name: run.codec.index(name) for name in dict.fromkeys(names)}
    except ValueError as error:
        raise ValueError(f"a class in y {error}") from None
    return torch.tensor([known[name] for name in names], dtype=torch.long)


def _numbers(run: Run, value: Any) -> torch.Tensor:
    size = len(run.numbers)
    try:
        found = torch.as_tensor(np.asarray(value.cpu() if isinstance(value, torch.Tensor) else value, np.float64))
    except (ValueError, TypeError):
        found = torch.empty(0)
    if not found.numel() or found.numel() % size or found.ndim > 2 or not found.isfinite().all():
        raise ValueError(
            f"numbers in y must be finite, {', '.join(run.numbers)} in this order, of shape ({size},) for all samples "
            f"or (count, {size}), got {value!r:.80}"
        )
    return found.reshape(-1, size)


def _warn_of_far_numbers(run: Run, values: torch.Tensor, dashes: str) -> None:
    """Warn of numbers that lie farther outside those of the training samples than these are apart, times `FAR`.

    Given numbers need nothing of the training samples: where these are gone, there is nothing to compare with.
    """
    if not (run.folder / CONDITIONS).exists():
        return
    kept = run.kept()[NUMBERS].double()
    low, high = kept.amin(0), kept.amax(0)
    margin = FAR * (high - low)
    is_far = ((values < low - margin) | (values > high + margin)).any(0)
    for k in is_far.nonzero().flatten().tolist():
        far = max(values[:, k].tolist(), key=lambda value: abs(value - float(low[k] + high[k]) / 2))
        warnings.warn(
            f"{dashes}numbers has {run.numbers[k]} = {far:.6g}, and the model was trained on {low[k]:.6g} to "
            f"{high[k]:.6g}: samples so far outside mean little",
            stacklevel=4,
        )


def _captions(run: Run, value: Any) -> Any:
    return np.array([value] if isinstance(value, str) else list(value), np.str_)


def _check_captions(run: Run, captions: list[str], dashes: str) -> None:
    run.encoder.check(list(dict.fromkeys(captions)))
    if not (all(map(str.strip, captions)) or run.config.drop or TEXT in dropped_alone(run)):
        raise ValueError(
            f"{dashes}prompt must not be empty, as that stands for no condition, which {run.folder} never learned: it "
            f"was trained with --drop 0"
        )


def check_guidance(run: Run, w: float | None, dashes: str = "--") -> None:
    """Refuse guidance of a model that never saw samples without their conditions.

    Raises:
        ValueError: If the scale needs what the model makes without, or is not finite.
    """
    if w is not None and not math.isfinite(w):
        raise ValueError(f"{dashes}guidance must be a finite number, got {w}")
    if w not in (None, 1.0) and run.kinds and not run.config.drop:
        raise ValueError(
            f"{dashes}guidance needs a model trained with labels dropped, and {run.folder} was with --drop 0"
        )


def dropped_alone(run: Run) -> set[str]:
    """The kinds that were dropped in training while others stayed, so that each may be null beside these."""
    shares = run.config.shares()
    return {kind for kind, share in shares.items() if share} if isinstance(shares, dict) else set()
