"""Brownian motion, X_t ~ N(x_0, sigma^2 t I): on a line with its exact spread, in the plane with its exact rings."""

import sys

import torch

import pathline as pl

times = torch.linspace(0, 1, 501)
left, right = pl.plots.panels(2, width=4.2, height=3.4, width_ratios=(4, 3))

process = pl.BrownianMotion(sigma=1.0)
states = torch.stack(list(pl.walk(process, pl.EulerMaruyama(), torch.zeros(200, 2), times, pl.Noise(0))))
spread = torch.cat([process.moments(torch.zeros(1), float(t)).variance for t in times]).sqrt()
pl.plots.fan(times, states[:, :16, 0], torch.zeros_like(times), spread, left, r"$X_t \sim N(0, \sigma^2 t)$")
pl.plots.key(left, loc="upper left")

line = torch.linspace(-3.4, 3.4, 121)
grid = torch.cartesian_prod(line, line)
density = pl.Normal(torch.zeros(2), 1.0).log_prob(grid).exp()  # at time 1
pl.plots.density(grid, density, right)
pl.plots.contours(grid, density, right)
pl.plots.trajectories(states[:, :8], right)
pl.plots.label(pl.plots.plane(right, 3.4), "in the plane, until $t = 1$")

pl.plots.save(left, sys.argv[1] if sys.argv[1:] else "docs/gallery/brownian_motion.png", dpi=110, colours=256)
