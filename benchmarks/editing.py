"""There and back, and edits by noise, on the digits model: `python benchmarks/editing.py [RUN]` (twenty minutes).

Trains the preset, unless a run of it is given, and three short runs of other heads and schedules. All is measured on
held-out digits, in the units of the model (pixels from -1 to 1): the largest and the root mean square error of 64 of
them to noise and back, by sampler, steps and corrections; then, for each strength of an edit, how far all 359 are from
their originals, and as what an SVC that was fitted on the real training digits reads them. Writes
docs/pictures/editing.png.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import torch
from sklearn.svm import SVC
from torch import Tensor

import pathline as pl
from pathline.cli.main import main

PICTURE = Path(__file__).parents[1] / "docs" / "pictures" / "editing.png"
OTHERS = (("v", "cosine"), ("noise", "variance-preserving"), ("noise", "cosine"))
WAYS = (
    ("RK4, CosineGrid (round trip)", pl.round_trip_sampler(), (25, 50, 100)),
    ("RK4, uniform", pl.ODESampler(pl.RK4), (100,)),
    ("Heun, CosineGrid", pl.ODESampler(pl.HEUN, pl.CosineGrid()), (100,)),
    ("default", pl.default_sampler(), (100,)),
    ("DDIM", pl.DDIM(), (100,)),
)
FEW = 64  # digits that go there and back
STRENGTHS = [k / 10 for k in range(11)]
SHOWN = (0, 3, 4, 7)  # classes with a row of their own in the picture, kept and turned into others
INTO = (6, 5, 9, 2)


def held_out(run: pl.Run) -> tuple[Tensor, Tensor]:
    """All of them, in the units of the model, and their classes."""
    samples = run.config.load().split(run.config.held_out, run.config.seed)[1]
    return run.normalisation.into(samples.x[:]), samples.y["class"]


def there_and_back(run: pl.Run, ways: tuple[tuple[str, pl.Sampler, tuple[int, ...]], ...]) -> None:
    """A line for each sampler: the errors without correction, and with one and two."""
    x, y = (part[:FEW] for part in held_out(run))
    field = run.field().given(y)
    for name, sampler, counts in ways:
        for steps in counts:
            said = []
            for corrections in range(3):
                noise = pl.invert(field, x, sampler, steps, corrections=corrections)
                off = pl.sample(field, tuple(x.shape), sampler, steps, start=noise) - x
                said.append(f"{off.abs().max():>10.1e}{off.square().mean().sqrt():>10.1e}")
            calls = steps * len(sampler.nodes)
            print(f"{name:32}{steps:>6}{calls:>7}   {'   '.join(said)}", flush=True)


def by_strength(run: pl.Run) -> None:
    """The table of edits, and the picture."""
    training = run.config.load().split(run.config.held_out, run.config.seed)[0]
    reader = SVC(gamma=0.001, C=10).fit(training.x[:].flatten(1).numpy(), training.y["class"].numpy())
    (x, y), field = held_out(run), run.field()
    other = (y + 1 + pl.Noise(0).rows(len(y), 9)) % 10  # any class but its own
    raw = run.normalisation.back(x)
    gaps = [torch.pdist(x[y == k].flatten(1)) / 8 for k in range(10)]  # 8: the root of 64 pixels
    pair = float(torch.cat(gaps).square().mean().sqrt())
    print(f"\ntwo digits of a class differ by {pair:.3f} a pixel (RMS); the SVC reads {reads(reader, raw, y):.1%}")
    print(f"{'':10}{'own class':^24}{'without a class':^24}{'another class, w = 2':^36}")
    print(f"{'strength':10}{'distance':>12}{'read':>12}" + f"{'distance':>12}{'read':>12}" * 2 + f"{'as its own':>12}")
    curves: dict[str, list[float]] = {"own": [], "free": [], "other": [], "kept": [], "asked": [], "left": []}
    for strength in STRENGTHS:
        edits = [
            pl.edit(target, x, strength, seed=1)
            for target in (field.given(y), field.given(None), pl.guided(field, other, 2.0))
        ]
        ways = [float((made - x).square().mean().sqrt()) for made in edits]
        made = [run.normalisation.back(part) for part in edits]
        as_own = [reads(reader, part, y) for part in made]
        as_other = reads(reader, made[2], other)
        for name, value in zip(curves, (*ways, as_own[0], as_other, as_own[2]), strict=True):
            curves[name].append(value)
        row = [ways[0], as_own[0], ways[1], as_own[1], ways[2], as_other, as_own[2]]
        print(
            f"{strength:<10g}" + "".join(f"{v:>12.3f}" if k in (0, 2, 4) else f"{v:>12.1%}" for k, v in enumerate(row))
        )
    noise = pl.invert(field.given(y), x, steps=50)
    for w in (1.0, 2.0):
        turned = pl.sample(pl.guided(field, other, w), tuple(x.shape), pl.round_trip_sampler(), 50, start=noise)
        far, found = float((turned - x).square().mean().sqrt()), run.normalisation.back(turned)
        said = f"{far:>12.3f}{reads(reader, found, other):>12.1%}{reads(reader, found, y):>12.1%}"
        print(f"by inversion, into another class, w = {w:g}".ljust(58) + said, flush=True)
    draw(run, x, y, curves, pair)


def reads(reader: SVC, raw: Tensor, y: Tensor) -> float:
    """How often the SVC reads this class."""
    return float(reader.score(raw.flatten(1).clamp(0, 16).numpy(), y.numpy()))


def draw(run: pl.Run, x: Tensor, y: Tensor, curves: dict[str, list[float]], pair: float) -> None:
    """Digits by strength, kept in their class and turned into another, and the curves beside them."""
    first = torch.stack([x[(y == k).nonzero()[0, 0]] for k in SHOWN])
    start, asked = torch.cat((first, first)), torch.tensor([*SHOWN, *INTO])
    field = pl.guided(run.field(), asked, 2.0)
    states = torch.stack([pl.edit(field, start, strength, seed=1) for strength in STRENGTHS])
    rows = [str(k) for k in SHOWN] + [f"{a} to {b}" for a, b in zip(SHOWN, INTO, strict=True)]
    grid, far, read = pl.plots.panels(3, width=4.3, height=4.4, width_ratios=(2.2, 1, 1))
    sheet = states.swapaxes(0, 1).reshape(-1, *run.shape)
    pl.plots.image_grid(
        (1 + sheet) / 2, len(STRENGTHS), rows, "under its own class, and under another", ax=grid, is_ink=True
    )
    grid.set_xticks([9 * k + 3.5 for k in range(len(STRENGTHS))], ["original", *(f"{s:g}" for s in STRENGTHS[1:])])
    pl.plots.label(grid, x="strength")
    blue, _, green, violet, amber, *_ = pl.plots.COLOURS
    for name, colour, said in (("own", blue, "own class"), ("free", green, "no class"), ("other", violet, "another")):
        far.plot(STRENGTHS, curves[name], color=colour, marker="o", markersize=3, label=said)
    far.axhline(pair, color=pl.plots.INK, linewidth=0.8, linestyle=":")
    far.text(0, pair, "two digits of a class", color=pl.plots.INK, fontsize=8, va="bottom")
    for name, colour, said in (
        ("kept", blue, "own, if asked for"),
        ("asked", violet, "another, if asked for"),
        ("left", amber, "own, if another is"),
    ):
        read.plot(STRENGTHS, [100 * v for v in curves[name]], color=colour, marker="o", markersize=3, label=said)
    pl.plots.key(pl.plots.label(far, "distance to the original", "strength", "RMS of a pixel"))
    pl.plots.key(pl.plots.label(read, "read as, %", "strength"), loc="center left", bbox_to_anchor=(0.44, 0.5))
    pl.plots.save(grid, PICTURE, dpi=110, colours=128)


def measured(folder: Path, given: str | None) -> None:
    """Everything, with what is trained for it below a folder."""
    if given is None:
        assert main(["train", "digits", "--out", str(folder / "digits")]) == 0
    run = pl.Run.open(Path(given) if given else folder / "digits")
    print(f"\n{'':45}   {'as it is':^20}   {'one correction':^20}   {'two':^20}")
    print(f"{'sampler':32}{'steps':>6}{'calls':>7}" + f"   {'largest':>10}{'RMS':>10}" * 3)
    there_and_back(run, WAYS)
    for prediction, schedule in OTHERS:
        out = folder / f"{prediction}-{schedule}"
        flags = ["--prediction", prediction, "--schedule", schedule, "--steps", "800", "--out", str(out)]
        assert main(["train", "digits", *flags]) == 0
        there_and_back(pl.Run.open(out), ((f"round trip: {prediction}, {schedule}", pl.round_trip_sampler(), (100,)),))
    by_strength(run)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as where:
        measured(Path(where), sys.argv[1] if sys.argv[1:] else None)
