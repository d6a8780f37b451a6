"""Couplings: noise paired with data at random crosses; paired by optimal transport it does not. Ends have one law."""

import sys

import torch

import pathline as pl

mixture = pl.GaussianMixture.symmetric(components=8, radius=2.4, std=0.2)
path = pl.GaussianPath(pl.LinearSchedule())
noise, data = pl.Noise(0).normal((160, 2)), mixture.sample(160, seed=1)
line = torch.linspace(-3.4, 3.4, 121)
grid = torch.cartesian_prod(line, line)
prior = pl.Normal(torch.zeros(2))

axes = pl.plots.panels(2, width=4.0, height=4.2)
couplings = {"at random": pl.IndependentCoupling(), "by optimal transport": pl.OptimalTransportCoupling()}
for (name, coupling), ax in zip(couplings.items(), axes, strict=True):
    paired = coupling(noise, data)
    cost = (data - paired).square().sum(1).mean()
    pl.plots.density(grid, mixture.log_prob(grid).exp(), ax)
    pl.plots.contours(grid, prior.log_prob(grid).exp(), ax)
    pl.plots.trajectories(torch.stack([path.point(paired, data, t).x for t in (0.0, 1.0)]), ax)
    pl.plots.label(pl.plots.plane(ax, 3.4), f"{name}: mean $|z - \\epsilon|^2$ {cost:.2f}")

pl.plots.save(axes[0], sys.argv[1] if sys.argv[1:] else "docs/gallery/optimal_transport.png", dpi=110, colours=256)
