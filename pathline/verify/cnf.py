"""Laws of training by maximum likelihood: 14."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn

from pathline.fields.network import NetworkField
from pathline.likelihood.divergence import Divergence, Exact, Hutchinson
from pathline.likelihood.gradients import Adjoint, Gradient, Recomputation
from pathline.likelihood.maximum import MaximumLikelihood
from pathline.networks.mlp import MLP
from pathline.noise import Noise
from pathline.paths.path import GaussianPath
from pathline.paths.schedules import LinearSchedule
from pathline.solvers.runge_kutta import RK4
from pathline.tensors import meet
from pathline.verify.table import Figure, law

SHIFT = 1e-4  # of a difference: its own error is then about 1e-8
SIZES = (("vectors", (8, 3)), ("images", (4, 1, 4, 4)))


def _cases() -> Iterable[tuple[str, tuple[tuple[int, ...], Divergence]]]:
    for name, shape in SIZES:
        yield f"{name}, exact", (shape, Exact())
        yield f"{name}, Hutchinson", (shape, Hutchinson(2))


@law(14, _cases, seconds=1.5)
def gradients_agree(shape: tuple[int, ...], divergence: Divergence) -> Iterator[Figure]:
    """The gradient of the log-density by backpropagation is that of differences, and of the other ways to find it."""
    field, x = _field(shape), Noise(71).normal(shape, dtype=torch.float64)

    def loss(gradient: Gradient | None = None) -> MaximumLikelihood:
        return MaximumLikelihood(field, RK4, 20, divergence, gradient, seed=3)

    def gradient_of(model: MaximumLikelihood) -> list[Tensor]:
        points = x.clone().requires_grad_()
        of_x, *found = torch.autograd.grad(
            model(points, index=0), [points, *model.parameters()], materialize_grads=True
        )
        return [of_x.flatten(), torch.cat([part.flatten() for part in found])]

    direct = gradient_of(loss())
    for name, found, slope in zip(("x", "parameters"), direct, _slopes(loss(), x, direct), strict=True):
        yield Figure(
            f"relative error of the slope along the gradient, {name}", abs(float(found.norm()) / slope - 1), 1e-6
        )
    for way, most in ((Recomputation(), 1e-10), (Adjoint(), 1e-4)):
        for name, found, true in zip(("x", "parameters"), gradient_of(loss(way)), direct, strict=True):
            yield Figure(f"relative error, {way}, {name}", float((found - true).norm() / true.norm()), most)


def _slopes(loss: MaximumLikelihood, x: Tensor, gradient: Sequence[Tensor]) -> list[float]:
    """The slopes of a loss along its gradient in x, then in the parameters, by central differences."""
    parameters = list(loss.parameters())
    along_x, along = (part / part.norm() for part in gradient)
    found = []
    with torch.no_grad():
        whole = nn.utils.parameters_to_vector(parameters)
        for of_x, of_parameters in ((along_x, 0 * along), (0 * along_x, along)):
            ends = []
            for shift in (SHIFT, -SHIFT):
                nn.utils.vector_to_parameters(whole + shift * of_parameters, parameters)
                ends.append(float(loss(x + shift * of_x.view_as(x), index=0)))
            found.append((ends[0] - ends[1]) / (2 * SHIFT))
        nn.utils.vector_to_parameters(whole, parameters)
    return found


class _Convolutions(nn.Module):
    """A small network for images, as smooth as its activation: the adjoint is as good as the solver's steps."""

    def __init__(self, channels: int, width: int = 8) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels + 1, width, 3, padding=1)
        self.last = nn.Conv2d(width, channels, 3, padding=1)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        h = torch.cat((x, meet(t, x).expand_as(x[:, :1])), 1)
        return self.last(nn.functional.silu(self.first(h)))  # type: ignore[no-any-return]


def _field(shape: tuple[int, ...]) -> NetworkField:
    """A network with weights that are not those of its start, where it says nothing."""
    network = MLP(shape[1], 16, 1) if len(shape) == 2 else _Convolutions(shape[1])
    for k, p in enumerate(network.parameters()):
        p.data = 0.2 * Noise(72, draw=k).normal((1, *p.shape), dtype=torch.float64)[0]
    return NetworkField(network.double(), GaussianPath(LinearSchedule()))
