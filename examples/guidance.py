"""Guidance, (1 - w) u(x) + w u(x | y): of normals, the guided flow is affine, so its samples are normal as well."""

import sys

import torch

import pathline as pl

mean, narrow, wide = torch.tensor([0.6, 0.3]), 0.7, 1.1  # of a class, and the variances of it and of all data
path = pl.GaussianPath(pl.LinearSchedule())
free = pl.MixtureField(pl.Normal(torch.zeros(2), wide), path)
conditional = pl.MixtureField(pl.Normal(mean, narrow), path)
line = torch.linspace(-3.6, 3.6, 121)
grid = torch.cartesian_prod(line, line)

scales = (0.0, 1.0, 2.0, 4.0)
axes = pl.plots.panels(len(scales), width=2.5, height=2.7)
for w, ax in zip(scales, axes, strict=True):
    guided = pl.ClassifierFree(conditional, free, w)
    samples = pl.sample(guided, (1000, 2), steps=100, seed=0)
    # an affine flow is known from where it takes two points
    corners = torch.tensor([[0.0, 0.0], [1.0, 0.0]])
    centre, along = pl.sample(guided, (2, 2), pl.ODESampler(pl.RK4), steps=400, start=corners)
    exact = pl.Normal(centre, float((along - centre).norm()) ** 2).log_prob(grid).exp()
    pl.plots.scatter(samples, title=f"$w = {w:g}$", ax=ax, grid=grid, density=exact)
    pl.plots.plane(pl.plots.contours(grid, exact, ax), 3.6)

pl.plots.save(axes[0], sys.argv[1] if sys.argv[1:] else "docs/gallery/guidance.png", dpi=110, colours=256)
