"""The exact field of 1,797 digits takes noise to digits that it has seen: the last column."""

import sys

import torch
from sklearn.datasets import load_digits

import pathline as pl

data = torch.from_numpy(load_digits().images).float()[:, None] / 8 - 1  # pixels from -1 to 1
field = pl.EmpiricalField(data, pl.GaussianPath(pl.LinearSchedule()))

sampler = pl.ODESampler()
times = sampler.times(field, steps=40)
states = torch.stack(list(sampler.walk(field, pl.Noise(5).normal((6, 1, 8, 8)), times)))
nearest = data[torch.cdist(states[-1].flatten(1), data.flatten(1)).argmin(1)]

left, right = pl.plots.panels(2, width=3.6, height=3.7, width_ratios=(10, 1.2))
pl.plots.strip(times[::4], (1 + states[::4]) / 2, left, title="along the exact flow", is_ink=True)
pl.plots.image_grid((1 + nearest) / 2, 1, title="nearest", ax=right, is_ink=True)

pl.plots.save(left, sys.argv[1] if sys.argv[1:] else "docs/gallery/digits_strip.png", dpi=110, colours=64)
