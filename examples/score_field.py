"""The score grad log p_t(x) points up the density p_t, whose lines of equal height it meets at right angles."""

import sys

import torch

import pathline as pl

mixture = pl.GaussianMixture.symmetric(components=5, radius=2.0, std=0.35)
field = pl.MixtureField(mixture, pl.GaussianPath(pl.LinearSchedule()))
line, coarse = torch.linspace(-3.2, 3.2, 121), torch.linspace(-2.8, 2.8, 13)
grid, points = torch.cartesian_prod(line, line), torch.cartesian_prod(coarse, coarse)

times = torch.tensor([0.0, 0.4, 0.7, 1.0])
densities = torch.stack([field.log_prob(grid, t).exp() for t in times])
scores = torch.stack([field.score(points, t) for t in times])

axes = pl.plots.panels(len(times), width=2.5, height=2.7)
pl.plots.fields_at(times, points, scores, axes, grid=grid, densities=densities)
for density, ax in zip(densities, axes, strict=True):
    pl.plots.contours(grid, density, ax, levels=(0.05, 0.3, 0.7))

pl.plots.save(axes[0], sys.argv[1] if sys.argv[1:] else "docs/gallery/score_field.png", dpi=110, colours=256)
