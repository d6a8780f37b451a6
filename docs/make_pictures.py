"""The pictures of the README and of docs/loss-floor.md: `pathline train digits`, then `python docs/make_pictures.py`.

Those of the gallery are made by the scripts in examples/.
"""

import shutil
from pathlib import Path

import torch
from PIL import Image

import pathline as pl
from pathline import plots, verify

HERE = Path(__file__).parent / "pictures"
RUN = Path("runs/digits")


def loss_floor() -> None:
    """The digits' floor by time, and the loss of the trained model on what it has seen and what it has not."""
    run = pl.Run.open(RUN)
    training, held_out = run.config.load().split(run.config.held_out, run.config.seed)
    loss = pl.MatchingLoss(run.field())
    exact = pl.EmpiricalField(run.normalisation.into(training.x), run.field().path, y=training.y)
    floor = verify.loss_floor_by_time(exact, bins=20, is_conditional=True)
    seen, unseen = (
        pl.loss_by_time(loss, run.normalisation.into(part.x), part.y, bins=20) for part in (training, held_out)
    )
    ax = plots.new_axes(7.0, 3.6)
    plots.loss_over_floor(floor.value.tolist(), seen.tolist(), unseen.tolist(), ax)
    plots.save(ax, HERE / "loss-floor.png", dpi=110, colours=64)
    edges = torch.linspace(0, 1, 21)
    for k in range(20):
        print(
            f"t {edges[k]:.2f} to {edges[k + 1]:.2f}: floor {floor.value[k]:.4f} +- {floor.standard_error[k]:.4f}, "
            f"training {seen[k]:.4f}, held out {unseen[k]:.4f}"
        )


if __name__ == "__main__":
    HERE.mkdir(exist_ok=True)
    loss_floor()
    shutil.copy(RUN / "samples/noise-to-data.gif", HERE)
    grid = Image.open(RUN / "samples/grid.png").convert("L")
    grid.resize((grid.width * 2 // 3, grid.height * 2 // 3), Image.Resampling.LANCZOS).quantize(16).save(
        HERE / "digits.png", optimize=True
    )
    print({path.name: path.stat().st_size for path in sorted(HERE.iterdir())})
