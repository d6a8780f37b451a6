"""Whether an icon is the one that was asked for: `python benchmarks/icons.py FOLDER [RUN]` (30 minutes to train).

Samples a model of `pathline train icons --data FOLDER` under captions, and looks which of 100 real icons, that of the
caption among them, is nearest to what was made, pixel by pixel. By chance it is the right one in 1%. Once for captions
that were trained on, once for pairs "X with Y" of which X and Y were seen, but not together; and for these once more
among all icons of the same X, alone and with every Y, of which the model has seen all but the right one. Printed with
95% intervals (Wilson) for several scales of guidance. With a folder as a third argument, a grid of icons and held-out
pairs beside the real ones is drawn there as icons.png.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import torch
from scipy.stats import binomtest
from torch import Tensor

import pathline as pl
from pathline.cli.main import main
from pathline.plots.axes import save
from pathline.plots.images import image_grid

AMONG, EACH, STEPS = 100, 5, 20
SCALES = (0.0, 1.0, 2.0, 4.0, 8.0)


def drawn(run: pl.Run, texts: list[str], w: float, seed: int) -> Tensor:
    """An icon for each caption, as levels."""
    given = pl.guided(run.field(), run.encoder.encode(texts), w)
    return run.normalisation.back(pl.sample(given, (len(texts), *run.shape), steps=STEPS, seed=seed)).clamp(0, 255)


def some(samples: pl.Samples, count: int) -> tuple[list[str], Tensor]:
    """So many captions at random, and their icons."""
    rows = pl.Noise(3).permutation(len(samples))[:count]
    return [samples.captions[k] for k in samples.conditions["text"][rows].tolist()], samples.x[rows]


def nearest(run: pl.Run, texts: list[str], icons: Tensor, w: float) -> Tensor:
    """The icon that is nearest to each of several samples under each caption, of shape `(captions, EACH)`."""
    made = drawn(run, [text for text in texts for _ in range(EACH)], w, 5)
    return torch.cdist(made.flatten(1), icons.flatten(1)).argmin(1).reshape(len(texts), EACH)


def told(is_right: Tensor) -> str:
    """A share with its 95% interval."""
    right, count = int(is_right.sum()), is_right.numel()
    low, high = binomtest(right, count).proportion_ci(method="wilson")
    return f"{right / count:6.1%} ({low:.1%} to {high:.1%})"


def retrieval(run: pl.Run, texts: list[str], icons: Tensor, w: float) -> str:
    """How often the nearest of these icons is the right one."""
    return told(nearest(run, texts, icons, w) == torch.arange(len(texts))[:, None])


def among_its_own(run: pl.Run, pairs: list[str], whole: pl.Samples, w: float) -> tuple[str, float]:
    """How often "X with Y" is nearest to its own icon of all that show X, and how often it would be by chance."""
    captions = [whole.captions[k] for k in whole.conditions["text"].tolist()]
    found, chance = [], 0.0
    for pair in pairs:
        thing = pair.partition(" with ")[0]
        family = [i for i, text in enumerate(captions) if text.partition(" with ")[0] == thing]
        made = nearest(run, [pair], whole.x[torch.tensor(family)], w)[0]
        found.append(torch.tensor([captions[family[k]] == pair for k in made.tolist()]))
        chance += 1 / len(family) / len(pairs)
    return told(torch.stack(found)), chance


def measure(run: pl.Run, folder: Path | None) -> None:
    """The table, and the picture."""
    whole = run.config.load()
    training, held_out = whole.split(run.config.held_out, run.config.seed)
    assert held_out.unseen is not None
    pairs = held_out.take(held_out.unseen.nonzero()[:, 0])
    seen_set, unseen_set = some(training, AMONG), some(pairs, AMONG)
    print(f"\n{'w':>4}  {'trained on, of 100':32}{f'pairs never seen, of {len(unseen_set[0])}':32}of the same thing")
    for w in SCALES:
        family, chance = among_its_own(run, unseen_set[0], whole, w)
        first, second = (retrieval(run, *each, w) for each in (seen_set, unseen_set))
        print(f"{w:4g}  {first:32}{second:32}{family}, by chance {chance:.1%}", flush=True)
    if folder is not None:
        (seen, seen_icons), (unseen, unseen_icons) = (some(samples, 8) for samples in (training, pairs))
        texts = seen + unseen
        made = drawn(run, [text for text in texts for _ in range(9)], run.config.guidance, 7)
        x = torch.cat((torch.cat((seen_icons, unseen_icons))[:, None], made.unflatten(0, (len(texts), 9))), 1)
        names = [*seen, *(f"{text} *" for text in unseen)]
        title = f"the real icon, and nine of the model, guidance {run.config.guidance:g} (*: pair never seen)"
        save(image_grid((x.flatten(0, 1) / 255).numpy(), 10, names, title), folder / "icons.png", colours=256)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: python benchmarks/icons.py FOLDER [RUN [PICTURES]]")
    with tempfile.TemporaryDirectory() as where:
        place = Path(sys.argv[2]) if len(sys.argv) > 2 else Path(where) / "icons"
        if len(sys.argv) < 3:
            assert main(["train", "icons", "--data", sys.argv[1], "--out", str(place)]) == 0
        measure(pl.Run.open(place), Path(sys.argv[3]) if len(sys.argv) > 3 else None)
