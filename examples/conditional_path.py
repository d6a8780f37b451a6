"""The conditional path N(alpha_t z, beta_t^2 I): noise that shrinks onto one data point z."""

import sys

import torch

import pathline as pl

path = pl.GaussianPath(pl.LinearSchedule())
z, noise = torch.tensor([1.6, 1.1]), pl.Noise(0).normal((500, 2))
line = torch.linspace(-3.2, 3.2, 121)
grid = torch.cartesian_prod(line, line)

times = (0.0, 0.2, 0.4, 0.6, 0.8)
axes = pl.plots.panels(len(times), width=2.0, height=2.2)
for t, ax in zip(times, axes, strict=True):
    samples = path.point(noise, z.expand_as(noise), t).x
    alpha, beta = t, 1 - t
    density = torch.exp(-((grid - alpha * z) ** 2).sum(1) / (2 * beta**2)) / (2 * torch.pi * beta**2)
    pl.plots.scatter(samples, title=f"$t = {t:g}$", ax=ax, grid=grid, density=density)
    pl.plots.contours(grid, density, ax)
    ax.plot(*z, "*", color=pl.plots.INK, ms=10, mec="white", mew=0.6)
    pl.plots.plane(ax, 3.2)

pl.plots.save(axes[0], sys.argv[1] if sys.argv[1:] else "docs/gallery/conditional_path.png", dpi=110, colours=256)
