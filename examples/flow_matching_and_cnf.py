"""Why flow matching won: one network, trained in about the same time by maximum likelihood (CNF) and by matching."""

import sys
import time

import torch

import pathline as pl

mixture = pl.GaussianMixture.symmetric(components=5, radius=2.0, std=0.35)
data, held, line = mixture.sample(20000, seed=0), mixture.sample(500, seed=1), torch.linspace(-3.2, 3.2, 121)
grid = torch.cartesian_prod(line, line)
left, middle, right = pl.plots.panels(3, width=3.2, height=3.2)
left.axhline(-float(mixture.log_prob(held).mean()), color=pl.plots.EXACT, label="of the mixture itself")
for ax, name, steps, color in ((middle, "CNF", 40, 3), (right, "flow matching", 1600, 0)):
    torch.manual_seed(0)
    field = pl.NetworkField(pl.MLP(dimension=2, width=64, depth=2), pl.GaussianPath(pl.LinearSchedule()))
    loss = pl.MatchingLoss(field) if ax is right else pl.MaximumLikelihood(field, steps=6, divergence=pl.Exact())
    seconds, nats, begin = [], [], time.process_time()
    for step in pl.train(loss, data, steps=steps, learning_rate=1e-2, lr_schedule=pl.warmup_cosine()):
        if step.step in (steps // 8, steps // 4, steps // 2, steps):
            seconds.append((now := time.process_time()) - begin)
            nats.append(-float(pl.log_prob(field, held, solver=pl.RK4, steps=20).mean().detach()))
            begin += time.process_time() - now  # looking is no training
    left.plot(seconds, nats, ".-", color=pl.plots.COLOURS[color], label=name)
    pl.plots.scatter(pl.sample(field, (1000, 2), seed=0), ax=ax, grid=grid, density=mixture.log_prob(grid).exp())
    pl.plots.label(pl.plots.plane(ax, 3.2), f"{name}, {steps} steps")
left.set(ylim=(2.2, 3.6))
pl.plots.key(pl.plots.label(left, "held-out NLL, nats a point", "seconds of one core"), loc="upper right")
pl.plots.save(left, sys.argv[1] if sys.argv[1:] else "docs/gallery/flow_matching_and_cnf.png", dpi=110, colours=256)
