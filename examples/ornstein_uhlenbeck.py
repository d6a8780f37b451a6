"""Ornstein-Uhlenbeck, dX = -theta X dt + sigma dW: exact mean and spread, and at the side the law it settles at."""

import sys

import torch

import pathline as pl

times, x = torch.linspace(0, 6, 601), torch.linspace(-3.8, 3.8, 201)
start = torch.full((4000, 1), 3.0)
axes = pl.plots.panels(6, width=1.7, height=3.0, width_ratios=(3, 1) * 3, sharey=True)
for k, sigma in enumerate((0.25, 0.6, 1.2)):
    process = pl.OrnsteinUhlenbeck(theta=0.8, sigma=sigma)
    states = list(pl.walk(process, pl.EulerMaruyama(), start, times, pl.Noise(k)))
    moments = [process.moments(start[0], float(t)) for t in times]
    mean, spread = torch.cat([m.mean for m in moments]), torch.cat([m.variance for m in moments]).sqrt()
    pl.plots.fan(times, torch.stack(states)[:, :12, 0], mean, spread, axes[2 * k], rf"$\sigma = {sigma:g}$")
    side = axes[2 * k + 1]
    settled = pl.Normal(torch.zeros(1), sigma**2 / (2 * process.theta))  # the law at time infinity
    pl.plots.histogram(states[-1][:, 0], x, settled.log_prob(x[:, None]).exp(), side, is_sideways=True)
    side.set_axis_off()
pl.plots.key(axes[0])

pl.plots.save(axes[0], sys.argv[1] if sys.argv[1:] else "docs/gallery/ornstein_uhlenbeck.png", dpi=110, colours=256)
