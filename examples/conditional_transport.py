"""Transport across classes gives a class the noise that is nearest: from all noise, its samples miss their density."""

import sys

import torch

import pathline as pl

means, variance = torch.tensor([[-1.5, 0.0], [1.5, 0.0]]), torch.tensor([0.3, 0.3])
data = pl.GaussianMixture(means, variance)
x, y = data.sample_with_component(8000, seed=0)
line = torch.linspace(-4, 4, 121)
grid = torch.cartesian_prod(line, line)
couplings = {
    "no transport": pl.IndependentCoupling(),
    "transport across classes": pl.OptimalTransportCoupling(is_within_classes=False),
    "transport within classes": pl.OptimalTransportCoupling(),
}
axes = pl.plots.panels(3, width=3.1, height=3.2)
for (name, coupling), ax in zip(couplings.items(), axes, strict=True):
    torch.manual_seed(0)
    field = pl.NetworkField(pl.MLP(2, width=64, depth=2, classes=2), pl.GaussianPath(pl.LinearSchedule()))
    for _ in pl.train(pl.MatchingLoss(field, coupling), x, y, steps=500, batch_size=128, learning_rate=4e-3):
        pass
    right = pl.Normal(means[1], variance[1]).log_prob(grid).exp()
    pl.plots.scatter(
        pl.sample(field.given(1), (1000, 2), steps=20, seed=1), title=name, ax=ax, grid=grid, density=right
    )
    pl.plots.plane(pl.plots.contours(grid, right, ax), 3.5)
pl.plots.save(axes[0], sys.argv[1] if sys.argv[1:] else "docs/gallery/conditional_transport.png", dpi=110, colours=256)
