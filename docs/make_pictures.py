"""The pictures of the README: `pathline train digits`, then `python docs/make_pictures.py`."""

import shutil
from pathlib import Path
from typing import Any

import torch
from PIL import Image

import pathline as pl
from pathline.plots.axes import COLOURS, INK, new_axes, save, tidy

HERE = Path(__file__).parent / "pictures"
RUN = Path("runs/digits/samples")


def ode_and_sde() -> None:
    """Paths of one exact field in one dimension, by the ODE and by SDEs, with the density that each must reach."""
    mixture = pl.GaussianMixture(torch.tensor([[-1.2], [1.6]]), torch.tensor([0.05, 0.2]), torch.tensor([0.4, 0.6]))
    field = pl.MixtureField(mixture, pl.GaussianPath(pl.LinearSchedule()))
    ax = new_axes(9.5, 3.6)
    figure: Any = ax.figure
    figure.clear()
    grid = torch.linspace(-3.5, 3.5, 400)
    density = mixture.log_prob(grid[:, None]).exp()
    samplers = {
        "ODE (sigma = 0)": pl.ODESampler(),
        "SDE, sigma = 1": pl.SDESampler(1.0),
        "SDE, memoryless sigma": pl.SDESampler(pl.MemorylessSigma()),
    }
    for part, (name, sampler) in zip(figure.subplots(1, 3, sharey=True), samplers.items(), strict=True):
        times = sampler.times(field, steps=200)
        start = pl.Noise(3).normal((4000, 1))
        states = torch.stack(list(sampler.walk(field, start, times, pl.Noise(4))))[..., 0]
        tidy(part)
        part.plot(states[:, :40], times, lw=0.7, alpha=0.7, color=COLOURS[0])
        part.hist(states[-1], bins=90, range=(-3.5, 3.5), density=True, bottom=1.02, color=COLOURS[0], alpha=0.35)
        part.plot(grid, 1.02 + density, color=COLOURS[1], lw=1.6)
        part.set_title(name, fontsize=10, color=INK)
        part.set_xlim(-3.5, 3.5)
        part.set_yticks([0, 0.5, 1])
        part.set_xlabel("x")
    figure.axes[0].set_ylabel("t, from noise to data")
    save(figure.axes[0], HERE / "ode-and-sde.png", dpi=110)


if __name__ == "__main__":
    HERE.mkdir(exist_ok=True)
    ode_and_sde()
    shutil.copy(RUN / "noise-to-data.gif", HERE)
    grid = Image.open(RUN / "grid.png").convert("L")
    grid.resize((grid.width * 2 // 3, grid.height * 2 // 3), Image.Resampling.LANCZOS).quantize(16).save(
        HERE / "digits.png", optimize=True
    )
    print({path.name: path.stat().st_size for path in sorted(HERE.iterdir())})
