"""Noise to data, moving: samples along the flow of an exact field, over the exact density p_t at each time."""

import sys

import torch

import pathline as pl

angle = torch.linspace(4.0, 50.0, 20).sqrt()  # even steps along the arm
arm = 0.38 * angle[:, None] * torch.stack((angle.cos(), angle.sin()), 1)
mixture = pl.GaussianMixture(torch.cat((arm, -arm)), torch.full((40,), 0.025))  # two arms of a spiral
field = pl.MixtureField(mixture, pl.GaussianPath(pl.LinearSchedule()))
line = torch.linspace(-3.2, 3.2, 81)
grid = torch.cartesian_prod(line, line)

sampler = pl.ODESampler()
times = sampler.times(field, steps=75)
states = torch.stack(list(sampler.walk(field, pl.Noise(0).normal((1000, 2)), times)))[::3]
densities = torch.stack([field.log_prob(grid, t).exp() for t in times[::3]])

film = pl.plots.film_of_samples(times[::3], states, 3.2, grid=grid, densities=densities)
pl.plots.save_animation(film, sys.argv[1] if sys.argv[1:] else "docs/gallery/noise_to_data.webp", seconds=4.0)
