"""The marginal velocity u_t(x) = E[u_t(x | data) | x_t = x] over the density p_t that it carries along."""

import sys

import torch

import pathline as pl

mixture = pl.GaussianMixture.symmetric(components=5, radius=2.0, std=0.35)
field = pl.MixtureField(mixture, pl.GaussianPath(pl.LinearSchedule()))
line, coarse = torch.linspace(-3.2, 3.2, 121), torch.linspace(-2.8, 2.8, 13)
grid, points = torch.cartesian_prod(line, line), torch.cartesian_prod(coarse, coarse)

times = torch.tensor([0.0, 0.4, 0.7, 1.0])
densities = torch.stack([field.log_prob(grid, t).exp() for t in times])
velocities = torch.stack([field.velocity(points, t) for t in times])

axes = pl.plots.panels(len(times), width=2.5, height=2.7)
pl.plots.fields_at(times, points, velocities, axes, grid=grid, densities=densities)

pl.plots.save(axes[0], sys.argv[1] if sys.argv[1:] else "docs/gallery/marginal_field.png", dpi=110, colours=256)
