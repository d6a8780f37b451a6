"""Bridges between two mixtures, neither of them noise: straight (sigma = 0) and Brownian, over their exact p_t."""

import sys

import torch

import pathline as pl

source = pl.GaussianMixture(torch.tensor([[-1.6], [1.2]]), torch.tensor([0.08, 0.05]))
target = pl.GaussianMixture(torch.tensor([[-1.8], [0.1], [1.9]]), torch.tensor([0.03, 0.06, 0.03]))
start, x = source.sample(4000, seed=0), torch.linspace(-3, 3, 121)[:, None]

axes = pl.plots.panels(4, width=2.6, height=3.0, width_ratios=(3, 1) * 2, sharey=True)
for sigma, ax, side in zip((0.0, 1.0), axes[::2], axes[1::2], strict=True):
    field = pl.MixtureBridgeField(source, target, pl.BridgePath(sigma))
    sampler = pl.SDESampler(sigma) if sigma else pl.ODESampler()
    times = sampler.times(field, steps=120)
    states = torch.stack(list(sampler.walk(field, start, times, pl.Noise(1))))[..., 0]
    pl.plots.density_along(times[::3], x[:, 0], torch.stack([field.log_prob(x, t).exp() for t in times[::3]]), ax)
    pl.plots.paths_along(times, states[:, :24], ax)
    pl.plots.histogram(states[-1], x[:, 0], target.log_prob(x).exp(), side, is_sideways=True)
    pl.plots.label(ax, rf"$\sigma = {sigma:g}$")
    side.set_axis_off()

pl.plots.save(axes[0], sys.argv[1] if sys.argv[1:] else "docs/gallery/bridges.png", dpi=110, colours=256)
