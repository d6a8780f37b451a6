"""Guidance, (1 - w) u(x) + w u(x | y): w = 0 must meet the whole density, w = 1 the class's; more leaves both."""

import sys

import torch

import pathline as pl

angle = torch.tensor([90.0, 210.0, 330.0]).deg2rad()
means, variance, y = 1.1 * torch.stack((angle.cos(), angle.sin()), 1), torch.full((3,), 0.3), 0
everything, one = pl.GaussianMixture(means, variance), pl.GaussianMixture(means[[y]], variance[[y]])
path = pl.GaussianPath(pl.LinearSchedule())
free, conditional = pl.MixtureField(everything, path), pl.MixtureField(one, path)
line = torch.linspace(-3.3, 3.3, 121)
grid = torch.cartesian_prod(line, line)

scales = (0.0, 1.0, 2.0, 4.0)
axes = pl.plots.panels(len(scales), width=2.5, height=2.7)
for w, ax in zip(scales, axes, strict=True):
    samples = pl.sample(pl.ClassifierFree(conditional, free, w), (1000, 2), steps=100, seed=0)
    exact = everything if w == 0 else one
    pl.plots.scatter(samples, title=f"$w = {w:g}$", ax=ax, grid=grid, density=exact.log_prob(grid).exp())
    for k, color in enumerate(pl.plots.COLOURS[1:4]):
        own = pl.Normal(means[k], variance[k]).log_prob(grid).exp()
        pl.plots.contours(grid, own, ax, color=color)
    pl.plots.plane(ax, 3.3)

pl.plots.save(axes[0], sys.argv[1] if sys.argv[1:] else "docs/gallery/guidance.png", dpi=110, colours=256)
