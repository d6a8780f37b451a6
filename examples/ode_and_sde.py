"""One exact field, any sigma: paths of the ODE and of SDEs over p_t (top), and where they end against p_1 (below)."""

import sys

import torch

import pathline as pl

mixture = pl.GaussianMixture(torch.tensor([[-1.2], [1.4]]), torch.tensor([0.06, 0.16]), torch.tensor([0.4, 0.6]))
field = pl.MixtureField(mixture, pl.GaussianPath(pl.LinearSchedule()))
start, x = pl.Noise(0).normal((5000, 1)), torch.linspace(-3, 3, 121)[:, None]

axes = pl.plots.panels(4, 2, width=2.6, height=2.3, height_ratios=(3, 2), sharey="row")
for sigma, top, below in zip((0.0, 0.5, 1.0, 2.0), axes[:4], axes[4:], strict=True):
    sampler = pl.SDESampler(sigma) if sigma else pl.ODESampler()
    times = sampler.times(field, steps=200)
    states = torch.stack(list(sampler.walk(field, start, times, pl.Noise(1))))[..., 0]
    densities = torch.stack([field.log_prob(x, t).exp() for t in times[::4]])
    pl.plots.density_along(times[::4], x[:, 0], densities, top)
    pl.plots.paths_along(times, states[:, :20], top)
    pl.plots.histogram(states[-1], x[:, 0], densities[-1], below)
    pl.plots.label(top, rf"SDE, $\sigma = {sigma:g}$" if sigma else r"ODE, $\sigma = 0$")
    pl.plots.label(below, "", "$X_1$", "density")

pl.plots.save(axes[0], sys.argv[1] if sys.argv[1:] else "docs/gallery/ode_and_sde.png", dpi=110, colours=256)
