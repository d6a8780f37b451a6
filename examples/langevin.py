"""Langevin dynamics dX = sigma^2/2 grad log p(X) dt + sigma dW: points from anywhere settle at the exact density p."""

import sys

import torch

import pathline as pl

mixture = pl.GaussianMixture.symmetric(components=5, radius=1.5, std=0.55)
score = pl.MixtureField(mixture, pl.GaussianPath(pl.LinearSchedule())).score
process = pl.Langevin(lambda x, t: score(x, 1.0), sigma=1.0)  # at t = 1 the field's density is the mixture's
start = torch.tensor([-2.4, 2.4]) + 0.2 * pl.Noise(0).normal((1000, 2))
line = torch.linspace(-3.4, 3.4, 121)
grid = torch.cartesian_prod(line, line)

times = torch.linspace(0, 50, 2501)
states = list(pl.walk(process, pl.EulerMaruyama(), start, times, pl.Noise(1)))
shown = (0, 25, 100, 500, 2500)
axes = pl.plots.panels(len(shown), width=2.0, height=2.2)
for k, ax in zip(shown, axes, strict=True):
    pl.plots.scatter(states[k], ax=ax, grid=grid, density=mixture.log_prob(grid).exp(), size=3)
    pl.plots.label(pl.plots.plane(ax, 3.4), f"time ${times[k]:g}$")

pl.plots.save(axes[0], sys.argv[1] if sys.argv[1:] else "docs/gallery/langevin.png", dpi=110, colours=256)
