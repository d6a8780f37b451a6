"""The conditional velocity u_t(x | z) = (alpha' - beta'/beta alpha) z + beta'/beta x, over N(alpha z, beta^2 I)."""

import sys

import torch

import pathline as pl

path = pl.GaussianPath(pl.CosineSchedule())
z = torch.tensor([1.6, 1.1])
line, coarse = torch.linspace(-3.2, 3.2, 121), torch.linspace(-2.8, 2.8, 11)
grid, points = torch.cartesian_prod(line, line), torch.cartesian_prod(coarse, coarse)

times = torch.tensor([0.0, 0.3, 0.6, 0.9])
c = path.schedule.at(times)
away = (grid - c.alpha[:, None, None] * z) / c.beta[:, None, None]
densities = torch.exp(-(away**2).sum(-1) / 2) / (2 * torch.pi * c.beta[:, None] ** 2)
velocities = torch.stack([path.conditional(pl.VELOCITY, points, z.expand_as(points), t) for t in times])

axes = pl.plots.panels(len(times), width=2.5, height=2.7)
pl.plots.fields_at(times, points, velocities, axes, grid=grid, densities=densities)
for ax in axes:
    ax.plot(*z, "*", color=pl.plots.INK, ms=10, mec="white", mew=0.6, zorder=4)

pl.plots.save(axes[0], sys.argv[1] if sys.argv[1:] else "docs/gallery/conditional_field.png", dpi=110, colours=256)
