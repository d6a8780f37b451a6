"""How often a picture shows what its prompt says: `python benchmarks/shapes.py [RUN]` (ten minutes to train, six more).

Samples a model of `pathline train shapes` under prompts whose things were trained on, and under ones that tell of a
colour and a shape that were never trained on together, at w = 0, 1, 2, 4 and 8 in 20 steps, and 8 in 100. The checker
reads every picture back: number, colours, shapes, relation, and sizes where they are told. Printed with 95% intervals
(Wilson), beside how often the checker agrees with pictures that are drawn, and with prompts of other pictures. With a
folder as a second argument, the table is drawn there as shapes_guidance.png, and pictures under ten prompts as
shapes.png.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import torch
from scipy.stats import binomtest

import pathline as pl
from pathline.cli.main import main
from pathline.data.shape_reader import agreement
from pathline.data.shape_words import parse, prompts
from pathline.data.shapes import scenes
from pathline.plots.axes import COLOURS, key, label, new_axes, save
from pathline.plots.images import image_grid

COUNT, STEPS, MANY = 400, 20, 100
SCALES = (0.0, 1.0, 2.0, 4.0, 8.0)
SHOWN = (
    "a red circle",
    "a large blue triangle",
    "a small yellow square",
    "a purple cross left of an orange circle",
    "a large green square above a small red triangle",
    "a blue circle below a yellow triangle",
    "a purple circle",
    "a large orange square",
    "a green triangle right of a red cross",
    "a small yellow cross above a large purple circle",
)


def drawn(run: pl.Run, texts: list[str], w: float, seed: int, steps: int = STEPS) -> torch.Tensor:
    """A picture for each prompt, as levels."""
    field = run.field()
    given = pl.guided(field, run.encoder.encode(texts), w)
    return run.normalisation.back(pl.sample(given, (len(texts), *run.shape), steps=steps, seed=seed))


def told(right: int, count: int) -> tuple[float, float, float]:
    """A share with its 95% interval."""
    low, high = binomtest(right, count).proportion_ci(method="wilson")
    return right / count, low, high


def words(found: tuple[float, float, float], digits: int = 1) -> str:
    return f"{found[0]:6.{digits}%} ({found[1]:.{digits}%} to {found[2]:.{digits}%})"


def shown(text: str) -> list[tuple[str, str]]:
    """The colours and shapes that a prompt tells of."""
    return sorted((thing.colour, thing.shape) for thing in parse(text).things)


def checker() -> None:
    """How sure the checker is."""
    made = scenes(10_000, seed=100)
    captions, y = made.captions()
    texts = [captions[k] for k in y.tolist()]
    right = int(agreement(texts, made.pictures()).sum())
    print(f"the checker on drawn pictures: {words(told(right, len(texts)), 2)}")
    other = [(text, i) for i, text in enumerate(texts[1:] + texts[:1]) if shown(text) != shown(texts[i])]
    pictures = made.pictures()[torch.tensor([i for _, i in other])]
    wrong = int(agreement([text for text, _ in other], pictures).sum())
    print(f"on pictures of other things:    {words(told(wrong, len(other)), 2)}\n")


def measure(run: pl.Run) -> dict[bool, list[tuple[float, float, float]]]:
    """The table; what is said at the largest scale in many steps is only printed."""
    found: dict[bool, list[tuple[float, float, float]]] = {False: [], True: []}
    print(f"{'w':>4}{'steps':>7}  {'things that were trained on':32}things that were not")
    for w, steps in [(w, STEPS) for w in SCALES] + [(SCALES[-1], MANY)]:
        row = []
        for is_unseen in found:
            texts = list(prompts(COUNT, is_unseen, seed=1))
            row.append(told(int(agreement(texts, drawn(run, texts, w, 5, steps)).sum()), COUNT))
            if steps == STEPS:
                found[is_unseen].append(row[-1])
        print(f"{w:4g}{steps:7}  {words(row[0]):32}{words(row[1])}", flush=True)
    return found


def draw(run: pl.Run, found: dict[bool, list[tuple[float, float, float]]], folder: Path) -> None:
    """Both pictures."""
    ax = new_axes(4.2, 3.2)
    for (is_unseen, row), colour in zip(found.items(), COLOURS, strict=False):
        value, low, high = (torch.tensor(part) for part in zip(*row, strict=True))
        name = "colour and shape never seen together" if is_unseen else "seen in training"
        ax.plot(SCALES, value, "o-", color=colour, label=name)
        ax.fill_between(SCALES, low, high, color=colour, alpha=0.2, linewidth=0)
    ax.set_ylim(0, 1)
    save(
        key(label(ax, x="guidance $w$", y="pictures that show what was said")),
        folder / "shapes_guidance.png",
        colours=64,
    )
    x = drawn(run, [text for text in SHOWN for _ in range(10)], 4.0, 7)
    names = [text + (" *" if parse(text).is_unseen else "") for text in SHOWN]
    save(image_grid((x / 255).numpy(), 10, names, "guidance 4 (*: never seen)"), folder / "shapes.png", colours=128)


if __name__ == "__main__":
    checker()
    with tempfile.TemporaryDirectory() as where:
        place = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(where) / "shapes"
        if len(sys.argv) < 2:
            assert main(["train", "shapes", "--out", str(place)]) == 0
        trained = pl.Run.open(place)
        shares = measure(trained)
        if len(sys.argv) > 2:
            draw(trained, shares, Path(sys.argv[2]))
