"""Schedules: alpha_t and beta_t (top), and the exact densities p_t along time that follow from them (below)."""

import sys

import torch

import pathline as pl

mixture = pl.GaussianMixture(torch.tensor([[-1.3], [1.3]]), torch.tensor([0.04, 0.12]))
schedules = {
    "linear (CondOT)": pl.LinearSchedule(),
    "cosine": pl.CosineSchedule(),
    "square root": pl.SquareRootSchedule(),
    "variance preserving": pl.VariancePreservingSchedule(),
}
times, x = torch.linspace(0, 1, 101), torch.linspace(-3, 3, 121)[:, None]

axes = pl.plots.panels(4, 2, width=2.6, height=2.1, sharey="row", sharex=True)
for (name, schedule), top, below in zip(schedules.items(), axes[:4], axes[4:], strict=True):
    top.plot(times, schedule.alpha(times), color=pl.plots.COLOURS[0], lw=2, label=r"$\alpha_t$ (data)")
    top.plot(times, schedule.beta(times), color=pl.plots.COLOURS[2], lw=2, label=r"$\beta_t$ (noise)")
    field = pl.MixtureField(mixture, pl.GaussianPath(schedule))
    densities = torch.stack([field.log_prob(x, t).exp() for t in times])
    pl.plots.density_along(times, x[:, 0], densities, below)
    pl.plots.label(top, name)
pl.plots.key(axes[3], loc="center left")  # where neither curve runs

pl.plots.save(axes[0], sys.argv[1] if sys.argv[1:] else "docs/gallery/schedules.png", dpi=110, colours=256)
