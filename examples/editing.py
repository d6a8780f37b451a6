"""To noise and on again: between two digits on an arc of noise, and part of the way, where what is fine is lost."""

import sys

import torch
from sklearn.datasets import load_digits

import pathline as pl

digits = load_digits()
data = torch.from_numpy(digits.images).float()[:, None] / 8 - 1  # pixels from -1 to 1
mixture = pl.GaussianMixture(
    torch.stack([data[digits.target == k].flatten(1).mean(0) for k in range(10)]),
    torch.stack([data[digits.target == k].flatten(1).T.cov() + 1e-2 * torch.eye(64) for k in range(10)]),
)  # a normal for each class, whose field is exact
field = pl.MixtureField(mixture, pl.GaussianPath(pl.LinearSchedule()))

first, last = data[[1, 3, 7, 5]], data[[4, 8, 2, 0]]
way = pl.interpolate(field, first, last, 9).swapaxes(0, 1)
strengths = [k / 8 for k in range(9)]
edits = torch.stack([pl.edit(field, first, strength, seed=1) for strength in strengths])

left, right = pl.plots.panels(2, width=4.4, height=2.5)
pl.plots.image_grid((1 + way.flatten(0, 1)) / 2, 9, title="from one digit to another", ax=left, is_ink=True)
pl.plots.label(pl.plots.strip(strengths, (1 + edits) / 2, right, title="edited by noise", is_ink=True), x="strength")
pl.plots.save(left, sys.argv[1] if sys.argv[1:] else "docs/gallery/editing.png", dpi=110, colours=64)
