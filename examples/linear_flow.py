"""The course's first flow, dx = -theta x dt: Euler's steps beside the exact flow exp(-theta t) x_0."""

import sys

import torch

import pathline as pl

process, fine = pl.LinearODE(theta=2.0), torch.linspace(0, 2, 201)
start = torch.linspace(-2, 2, 7)[:, None]
exact = torch.stack([process.flow(start[:, 0], t) for t in fine])

axes = pl.plots.panels(3, width=3.0, height=2.8, sharey=True)
for steps, ax in zip((3, 6, 24), axes, strict=True):
    times = torch.linspace(0, 2, steps + 1)
    states = torch.stack(list(pl.walk(process, pl.EULER, start, times)))[..., 0]
    ax.plot(fine, exact, color=pl.plots.EXACT, lw=2.2, alpha=0.7)
    ax.plot(times, states, "o-", color=pl.plots.COMPUTED, ms=3.5, lw=0.9)
    pl.plots.label(ax, f"Euler, ${steps}$ steps of $h = {2 / steps:.2g}$", "$t$", "$x_t$")

pl.plots.save(axes[0], sys.argv[1] if sys.argv[1:] else "docs/gallery/linear_flow.png", dpi=110, colours=256)
