"""EDM's preconditioning: a network that sees points of unit size and the logarithm of their noise.

    network(c_in x, c_noise),   c_in = 1 / sqrt(beta^2 + alpha^2 sigma_data^2),   c_noise = log(beta / alpha) / 4

What the network then makes is an `EDMPrediction(sigma_data)`: c_skip and c_out are that row.

Source: Karras et al. 2022, https://arxiv.org/abs/2206.00364, table 1
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from pathline.fields.network import takes_condition
from pathline.paths.schedules import Schedule
from pathline.tensors import meet

MOST = 10.0  # of |c_noise|, infinite at pure noise and at pure data: 10 is a ratio of e^40, as good as either


class Preconditioned(nn.Module):
    """A network between EDM's input scalings.

    Args:
        network: Called as `network(x, t)` or `network(x, t, y)`, its second argument being c_noise.
        schedule: Of the path that points are on.
        sigma_data: The standard deviation of the data.

    Raises:
        ValueError: If sigma_data is not positive.
    """

    def __init__(self, network: nn.Module, schedule: Schedule, sigma_data: float = 0.5) -> None:
        super().__init__()
        if not sigma_data > 0:
            raise ValueError(f"sigma_data must be positive, got {sigma_data}; it is the data's standard deviation")
        self.network, self.schedule, self.sigma_data = network, schedule, sigma_data
        self.classes = getattr(network, "classes", takes_condition(network))
        self.numbers = getattr(network, "numbers", None)
        self.text = getattr(network, "text", None)
        self.null = getattr(network, "null", None)

    def forward(self, x: Tensor, t: Tensor, *y: Any) -> Any:
        """What the network makes of the scaled point and time."""
        alpha, beta = self.schedule.alpha(t), self.schedule.beta(t)
        c_in = (beta**2 + (alpha * self.sigma_data) ** 2).rsqrt()
        c_noise = ((beta.log() - alpha.log()) / 4).clamp(-MOST, MOST)
        return self.network(meet(c_in, x).to(x.dtype) * x, c_noise, *y)
