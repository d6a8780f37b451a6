"""The exact field of 1,797 digits (a narrow normal at each) takes noise to digits it has seen: the last column."""

import sys

import torch
from sklearn.datasets import load_digits

import pathline as pl

data = torch.from_numpy(load_digits().data).float() / 8 - 1  # pixels from -1 to 1
mixture = pl.GaussianMixture(data, torch.full((len(data),), 0.02))
field = pl.MixtureField(mixture, pl.GaussianPath(pl.LinearSchedule()))

sampler = pl.ODESampler()
times = sampler.times(field, steps=40)
states = torch.stack(list(sampler.walk(field, pl.Noise(5).normal((6, 64)), times)))
nearest = data[torch.cdist(states[-1], data).argmin(1)]

left, right = pl.plots.panels(2, width=3.6, height=3.7, width_ratios=(10, 1.2))
shown = (1 + states[::4]) / 2
pl.plots.strip(times[::4], shown.reshape(11, 6, 1, 8, 8), left, title="along the exact flow")
pl.plots.image_grid((1 + nearest.reshape(6, 1, 8, 8)) / 2, 1, title="nearest", ax=right)

pl.plots.save(left, sys.argv[1] if sys.argv[1:] else "docs/gallery/digits_strip.png", dpi=110, colours=64)
