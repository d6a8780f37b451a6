"""A field learned by flow matching: its loss over the least there is, its velocity and its samples over exact ones."""

import sys

import torch

import pathline as pl

mixture = pl.GaussianMixture.symmetric(components=5, radius=2.0, std=0.35)
exact = pl.MixtureField(mixture, pl.GaussianPath(pl.LinearSchedule()))
torch.manual_seed(0)
learned = pl.NetworkField(pl.MLP(dimension=2, width=64), exact.path)
options = {"steps": 600, "batch_size": 512, "learning_rate": 4e-3, "lr_schedule": pl.warmup_cosine()}
losses = [float(step.loss) for step in pl.train(pl.MatchingLoss(learned), mixture.sample(20000, seed=0), **options)]
least = float(pl.MatchingLoss(exact)(mixture.sample(50000, seed=1)))  # the loss of the exact field
line, coarse = torch.linspace(-3.2, 3.2, 121), torch.linspace(-2.0, 2.0, 11)
grid, points = torch.cartesian_prod(line, line), torch.cartesian_prod(coarse, coarse)

left, middle, right = pl.plots.panels(3, width=3.2, height=3.2)
pl.plots.loss(range(15, 601, 30), torch.tensor(losses).reshape(-1, 30).mean(1).tolist(), ax=left)
pl.plots.key(left.axhline(least, color=pl.plots.EXACT, label="of the exact field").axes)
pl.plots.density(grid, exact.log_prob(grid, 0.6).exp(), middle)
for field, color in ((exact, pl.plots.EXACT), (learned, pl.plots.COMPUTED)):
    velocity = field.velocity(points, 0.6).detach()
    pl.plots.arrows(points, velocity, middle, unit=2.0, color=color)
pl.plots.scatter(pl.sample(learned, (1000, 2), seed=0), ax=right, grid=grid, density=mixture.log_prob(grid).exp())
pl.plots.label(pl.plots.plane(middle, 2.4), "velocity at $t = 0.6$, learned over exact")
pl.plots.label(pl.plots.plane(right, 3.2), "samples over $p_1$")
pl.plots.save(left, sys.argv[1] if sys.argv[1:] else "docs/gallery/learned_field.png", dpi=110, colours=256)
