"""CondOT, x_t = t data + (1 - t) noise: each conditional path is a line; the marginal flow bends, and never crosses."""

import sys

import torch

import pathline as pl

mixture = pl.GaussianMixture.symmetric(components=4, radius=2.2, std=0.25)
field = pl.MixtureField(mixture, pl.GaussianPath(pl.LinearSchedule()))
noise, data = pl.Noise(0).normal((120, 2)), mixture.sample(120, seed=1)
line = torch.linspace(-3.4, 3.4, 121)
grid = torch.cartesian_prod(line, line)

sampler = pl.ODESampler()
times = sampler.times(field, steps=100)
lines = torch.stack([field.path.point(noise, data, t).x for t in times])
flow = torch.stack(list(sampler.walk(field, noise, times)))

axes = pl.plots.panels(2, width=4.0, height=4.2)
for states, name, ax in zip((lines, flow), ("conditional paths", "flow of the marginal field"), axes, strict=True):
    pl.plots.density(grid, mixture.log_prob(grid).exp(), ax)
    pl.plots.trajectories(states, ax, ends=("$t = 0$: noise", "$t = 1$: data"))
    pl.plots.label(pl.plots.plane(ax, 3.4), name)

pl.plots.save(axes[0], sys.argv[1] if sys.argv[1:] else "docs/gallery/condot_lines.png", dpi=110, colours=256)
