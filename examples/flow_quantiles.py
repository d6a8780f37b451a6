"""On a line a flow keeps the order of points, so its paths are the quantiles of p_t: F_t(x_t) stays what it was."""

import sys

import torch

import pathline as pl

mixture = pl.GaussianMixture(torch.tensor([[-1.4], [0.4], [1.7]]), torch.tensor([0.04, 0.02, 0.09]))
field = pl.MixtureField(mixture, pl.GaussianPath(pl.LinearSchedule()))
x, share = torch.linspace(-4, 4, 4001, dtype=torch.float64)[:, None], torch.linspace(0.025, 0.975, 20).double()

sampler = pl.ODESampler()
times = sampler.times(field, steps=100)
densities = torch.stack([field.log_prob(x, t).exp() for t in times])
below = densities.cumsum(1) * 8 / 4000  # F_t at each time
quantiles = torch.stack([x[torch.searchsorted(row, share), 0] for row in below])
paths = torch.stack(list(sampler.walk(field, quantiles[0][:, None], times)))[..., 0]

left, right = pl.plots.panels(2, width=5.4, height=3.4, width_ratios=(4, 1), sharey=True)
pl.plots.density_along(times, x[::10, 0], densities[:, ::10], left)
left.plot(times, quantiles, color=pl.plots.EXACT, lw=2.4, alpha=0.6)
left.plot(times[::5], paths[::5], "o", color=pl.plots.COMPUTED, ms=2.6)
pl.plots.curve(x[:, 0], densities[-1], right, is_sideways=True)
right.plot(0 * share, paths[-1], "o", color=pl.plots.COMPUTED, ms=3.5, clip_on=False)
left.set_ylim(-2.6, 2.6)
right.set_axis_off()
pl.plots.save(left, sys.argv[1] if sys.argv[1:] else "docs/gallery/flow_quantiles.png", dpi=110, colours=256)
