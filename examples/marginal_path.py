"""The marginal path p_t: samples alpha_t data + beta_t noise over their exact density."""

import sys

import torch

import pathline as pl

squares = torch.cartesian_prod(torch.arange(4), torch.arange(4))
means = 1.2 * (squares[squares.sum(1) % 2 == 0] - 1.5)  # the dark squares of a board
mixture = pl.GaussianMixture(means, torch.full((8,), 0.06))
field = pl.MixtureField(mixture, pl.GaussianPath(pl.LinearSchedule()))
data, noise = mixture.sample(800, seed=0), pl.Noise(1).normal((800, 2))
line = torch.linspace(-3.2, 3.2, 121)
grid = torch.cartesian_prod(line, line)

times = (0.0, 0.4, 0.6, 0.8, 1.0)
axes = pl.plots.panels(len(times), width=2.0, height=2.2)
for t, ax in zip(times, axes, strict=True):
    samples = field.path.point(noise, data, t).x
    pl.plots.scatter(samples, title=f"$t = {t:g}$", ax=ax, grid=grid, density=field.log_prob(grid, t).exp(), size=3)
    pl.plots.plane(ax, 3.2)

pl.plots.save(axes[0], sys.argv[1] if sys.argv[1:] else "docs/gallery/marginal_path.png", dpi=110, colours=256)
