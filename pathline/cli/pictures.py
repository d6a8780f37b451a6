"""The pictures and the model card that a training run ends with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils._pytree import tree_map

from pathline.data.normalisation import Normalisation
from pathline.data.source import Samples
from pathline.fields.field import Field
from pathline.fields.network import NetworkField
from pathline.noise import Noise
from pathline.plots.animation import enlarged, frame_of, save_gif
from pathline.plots.axes import key, label, new_axes, panels, save
from pathline.plots.images import drawable, gap_of, image_grid, rule_of, tile
from pathline.plots.loss import loss, loss_by_time
from pathline.plots.scatter import scatter
from pathline.quoting import drawn
from pathline.runs import Run, guided
from pathline.sampling.dynamics import field_heads
from pathline.sampling.grids import UNIFORM
from pathline.sampling.multistep import GeneralSampler
from pathline.sampling.sample import sample, start_of
from pathline.sampling.samplers import default_sampler
from pathline.training.validation import Stopped

COLUMNS = 10
STEPS, PREVIEW_STEPS = 30, 15  # one call of the network each
POINTS, AT_ONCE = 2000, 20
SEEN = 50_000  # points of the data that settle what a picture shows
LIKE = 0.25  # the least range of three colours over that of all
NAMED = 12  # classes that a legend has room for


def draw_all(run: Run, training: Samples) -> None:
    """All pictures of a finished run."""
    field = run.field()
    w = run.config.guidance if run.config.drop else 1.0  # without a trained null class there is nothing to guide by
    draw_grid(run, sample_conditions(run, field, w), w, run.samples_folder / "grid.png")
    draw_animation(run, field, w, ((), ()) if training.is_image else window(training))
    draw_loss(run)


class _Still(Field):
    """A field whose predictions are all 0: it tells whether the steps of a sampler can be read, without a network."""

    def __init__(self, field: Field) -> None:
        super().__init__()
        self.path, self.prediction = field.path, field.prediction

    def forward(self, x: Tensor, t: Tensor) -> Any:
        return tuple(torch.zeros_like(x) for _ in self.heads) if isinstance(self.prediction, tuple) else 0 * x


def check_schedule(field: Field, shape: tuple[int, ...], name: str) -> None:
    """Refuse a noise schedule on which the steps of the pictures cannot be read, before anything is trained.

    Args:
        field: With the path and the prediction of the model; it is not called.
        shape: Of a sample.
        name: The schedule, as the user gave it.

    Raises:
        ValueError: If a sampler of the pictures cannot step along it.
    """
    still = _Still(field)
    for sampler, steps in (
        (default_sampler(), PREVIEW_STEPS),
        (default_sampler(), STEPS),
        (GeneralSampler(UNIFORM), STEPS),
    ):
        try:
            for _ in sampler.walk(still, torch.zeros(1, *shape), sampler.times(still, steps=steps)):
                pass
        except ValueError as error:
            raise ValueError(
                f"--schedule must be one that can be sampled in {steps} steps, as for the pictures, got {name}: it "
                f"turns noise into data too suddenly for a {field_heads(field)}; take linear, cosine or a smaller power"
            ) from error


@torch.no_grad()
def sample_preview(run: Run, field: NetworkField, is_asked_to_stop: Callable[[], bool]) -> Tensor:
    """Samples while training goes on, in few steps, a few at a time.

    Raises:
        Stopped: As soon as it is asked to.
    """
    count, y, sampler = *conditions(run), default_sampler()
    begin, pieces = run.start(count), []
    at_once = count if len(run.shape) == 1 else AT_ONCE
    for first in range(0, count, at_once):
        some = slice(first, min(first + at_once, count))
        target = field if y is None else guided(field, run.conditions(tree_map(lambda leaf: leaf[some], y)))  # noqa: B023
        noise = Noise(0, first)
        start = start_of(target, (some.stop - first, *run.shape), noise) if begin is None else begin[some]
        x = start.to(next(field.parameters()).device)
        for end in sampler.walk(target, x, sampler.times(target, steps=PREVIEW_STEPS), noise):  # noqa: B007
            if is_asked_to_stop():
                raise Stopped
        pieces.append(end.cpu())
    return run.normalisation.back(torch.cat(pieces))


def draw_preview(run: Run, x: Tensor, path: Path) -> NDArray[np.uint8]:
    """A picture of such samples, of shape `(height, width, 3)`."""
    draw_grid(run, x, 1.0, path)
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


def sample_conditions(run: Run, field: NetworkField, w: float) -> Tensor:
    """Samples under each condition of a picture with guidance, in the units of the data."""
    count, y = conditions(run)
    target = field if y is None else guided(field, run.conditions(y), w)
    return run.normalisation.back(sample(target, (count, *run.shape), steps=STEPS, seed=0, start=run.start(count)))


def conditions(run: Run) -> tuple[int, dict[str, Any] | None]:
    """The number of samples in a picture, and the condition of each: ten of each class, say."""
    count = POINTS if len(run.shape) == 1 else COLUMNS * (len(run.classes) or COLUMNS)
    return count, labels(run, count, COLUMNS)


def labels(run: Run, count: int, columns: int) -> dict[str, Any] | None:
    """The conditions of a picture: one class after another, or those of training samples.

    Rows of images go up by the first number: each is a training sample in the middle of an equal share of them. Rows of
    captions are those of training samples, and in the lower half of what was held out as unseen, if anything was.
    """
    index = torch.arange(count)
    if not run.kinds:
        return None
    if run.kinds == ("class",):
        return {"class": index * len(run.classes) // count}
    kept = run.kept()
    size = len(next(iter(kept.values())))
    if len(run.shape) == 1:
        return {kind: value[index % size] for kind, value in kept.items()}
    row = index // columns
    if run.kinds[0] == "numbers":
        row = kept["numbers"][:, 0].argsort()[(2 * row + 1) * columns * size // (2 * count)]
    found = {kind: value[row % size] for kind, value in kept.items()}
    if run.kinds == ("text",) and run.unseen_captions:
        seen, rows = found["text"][: count // columns // 2 * columns : columns], -(-count // columns)
        apart = np.resize(run.unseen_captions, rows - len(seen))
        found["text"] = np.concatenate((seen, apart)).repeat(columns)[:count]
    return found


def row_names(run: Run, by_kind: dict[str, Any]) -> list[str]:
    """What rows of images are called, from their conditions."""
    if "text" in by_kind:
        unseen = set(run.unseen_captions)
        return [f"{drawn(text)}{' *' if text in unseen else ''}" for text in by_kind["text"].tolist()]
    if "class" in by_kind:
        return [drawn(run.classes[k]) for k in by_kind["class"].tolist()]
    return [f"{value:.4g}" for value in by_kind["numbers"][:, 0].tolist()]


def draw_grid(run: Run, x: Tensor, w: float, path: Path) -> None:
    """Samples condition by condition: a row of pictures each, or a colour each in the plane."""
    y = labels(run, len(x), COLUMNS) if w else None  # with guidance 0 no condition is claimed
    if len(run.shape) == 3:
        data = drawn(run.config.data)
        title = data if y is None else f"{data}, guidance {w:g}"
        rows = [] if y is None else row_names(run, tree_map(lambda leaf: leaf[::COLUMNS], y))
        if any(name.endswith(" *") for name in rows):
            title += " (*: never seen)"
        ax = sheet(run, x, COLUMNS, rows, title)
        save(label(ax, y=drawn(run.numbers[0])) if y and run.kinds == ("numbers",) else ax, path)
    else:
        save(points(run, x, y), path)


def draw_animation(run: Run, field: Any, w: float, corners: tuple[Any, Any]) -> None:
    """The samples on their way from noise to data; those in the plane between two corners."""
    count = 8 * (len(run.classes) or 10) if len(run.shape) == 3 else 1000
    y = labels(run, count, 8)
    target: Field = field if y is None else guided(field, run.conditions(y), w)
    sampler = GeneralSampler(UNIFORM)  # frames are even in time
    noise = Noise(1)
    begin = run.start(count, 1)
    x = start_of(target, (count, *run.shape), noise) if begin is None else begin
    with torch.no_grad():
        states = [
            run.normalisation.back(state)
            for state in sampler.walk(target, x, sampler.times(target, steps=STEPS), noise)
        ]
    shown = y if w else None
    save_gif([_frame(run, state, shown, corners) for state in states], run.samples_folder / "noise-to-data.gif")


def _frame(run: Run, x: Tensor, y: Any, corners: tuple[Any, Any]) -> Any:
    if len(run.shape) == 3:
        look = look_of(run)
        gap = gap_of(run.shape[0], look["has_alpha"])
        whole = tile(drawable(shares_of(run, x), **look), 10 if y is None else 8, gap)
        return enlarged(whole, max(1, 320 // whole.shape[0]))
    low, high = corners
    ax = points(run, x, y, has_key=False, ax=new_axes(3.4, 3.4))
    ax.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]))
    return frame_of(ax)


def points(run: Run, x: Tensor, y: Any, has_key: bool = True, ax: Axes | None = None) -> Axes:
    """The first two coordinates of vectors, by the names and on the scales of their columns if they have any."""
    names = [drawn(name) for name in run.classes] if has_key and len(run.classes) <= NAMED else []
    by_kind = y or {}
    if "numbers" in by_kind and "class" not in by_kind:
        ax = scatter(
            plane(x), values=by_kind["numbers"][:, 0].numpy(), bar=drawn(run.numbers[0]) if has_key else "", ax=ax
        )
    else:
        ax = scatter(plane(x), by_kind["class"].numpy() if "class" in by_kind else None, names, ax=ax)
    if names:
        key(ax, markerscale=3, loc="upper left", bbox_to_anchor=(1, 1))  # beside the points, not over them
    if run.columns:
        ax.set_aspect("auto")
        label(ax, x=drawn(run.columns[0]), y=drawn(run.columns[1]) if len(run.columns) > 1 else "")
    return ax


def plane(x: Tensor) -> Any:
    """The first two coordinates."""
    return x.numpy()[:, :2] if x.shape[1] > 1 else np.column_stack((x.numpy()[:, 0], np.zeros(len(x))))


def sheet(run: Run, x: Tensor, columns: int, row_names: Sequence[str] = (), title: str = "") -> Axes:
    """Pictures in the units of the data, in rows: all that a command draws of images looks alike."""
    return image_grid(shares_of(run, x), columns, row_names, title, **look_of(run))


def look_of(run: Run) -> dict[str, Any]:
    """How pictures of a run are drawn: handwriting as ink on paper, all others with high values white.

    Of four channels of 8 or 16 bits the last is alpha; of four channels of other numbers it is one like the others.
    """
    low, high = value_range(run.normalisation)
    is_of_levels = not low.any() and (high == high.flat[0]).all() and high.flat[0] in (255, 65535)
    return {"is_ink": run.is_ink and run.shape[0] == 1, "has_alpha": run.shape[0] == 4 and is_of_levels}


def drawn_as(run: Run) -> str:
    """How images are drawn that are neither grey nor in three colours, in words; nothing for others."""
    return rule_of(run.shape[0], look_of(run)["has_alpha"]) if len(run.shape) == 3 else ""


def shares_of(run: Run, x: Tensor) -> NDArray[Any]:
    """Where values are between the lowest and the highest that are drawn, 0 to 1; each channel on its own scale."""
    low, high = value_range(run.normalisation)
    found: NDArray[Any] = (x.numpy() - low) / (high - low)
    return found


def value_range(units: Normalisation) -> tuple[NDArray[Any], NDArray[Any]]:
    """The lowest and the highest values that are drawn, in the units of the data, of shape `(1 or C, 1, 1)`.

    Three channels of about one range have one in common, so that colours stay what they are.
    """
    low, high = (np.array(end, dtype=np.float64).reshape(-1, 1, 1) for end in units.ends)
    if len(low) == 3 and (high - low).min() >= LIKE * (high.max() - low.min()):
        low, high = low.min(keepdims=True), high.max(keepdims=True)
    is_flat = high <= low
    return np.where(is_flat, low - 0.5, low), np.where(is_flat, low + 0.5, high)


def window(training: Samples) -> tuple[Any, Any]:
    """Two corners that hold the data and most of the noise; a square, unless its sides have units of their own."""
    points = plane(training.some(SEEN)[0])
    low, high = points.min(0), points.max(0)
    reach = 1.3 * (high - low) / 2
    reach = np.where(reach > 0, reach, 1.0) if training.columns else np.full(2, reach.max() or 1.0)
    return (low + high) / 2 - reach, (low + high) / 2 + reach


def draw_loss(run: Run) -> None:
    """The loss as training went, and on held-out data by time at the end."""
    lines = run.metrics()
    logged = [line for line in lines if "loss" in line]
    held = [line for line in lines if "held_out_loss" in line]
    left, right = panels(2, width=4.5, height=3.4, width_ratios=(3, 2))
    loss(
        [line["step"] for line in logged],
        [line["loss"] for line in logged],
        [line["step"] for line in held],
        [line["held_out_loss"] for line in held],
        ax=left,
    )
    loss_by_time(held[-1]["held_out_loss_by_t"], ax=right)
    save(left, run.samples_folder / "loss.png")
