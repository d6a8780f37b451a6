"""Random processes on a line: a fan of paths, and the mean and spread that are known.

Brownian motion      mean x_0,                spread sigma sqrt(t)
Ornstein-Uhlenbeck   mean exp(-theta t) x_0,  spread sigma sqrt((1 - exp(-2 theta t)) / (2 theta))
"""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from pathline.plots.axes import COMPUTED, EXACT, WARM, checked, demo_path, key, label, new_axes, panels, save


def fan(
    times: ArrayLike, paths: ArrayLike, mean: ArrayLike, spread: ArrayLike, ax: Axes | None = None, name: str = ""
) -> Axes:
    """Paths as thin lines over their exact mean and the bands of one and two standard deviations.

    Args:
        times: Of shape (steps + 1,).
        paths: Of shape (steps + 1, n).
        mean: Of the process at each time, of shape (steps + 1,).
        spread: Its standard deviation at each time, of shape (steps + 1,).
        ax: Where to draw; new axes if left out.
        name: A title.

    Raises:
        ValueError: If a shape does not fit, or a spread is negative.
    """
    times = checked("times", times, "steps + 1")
    paths = checked("paths", paths, len(times), "n", hint="pass states[..., 0] for one coordinate")
    mean, spread = checked("mean", mean, len(times)), checked("spread", spread, len(times))
    if not (spread >= 0).all():
        raise ValueError(f"spread must be 0 or more, got {spread.min():g}; it is a standard deviation")
    ax = new_axes(5.4, 3.4) if ax is None else ax
    for reach, depth in ((2, 0.25), (1, 0.5)):
        low, high = mean - reach * spread, mean + reach * spread
        ax.fill_between(times, low, high, color=WARM(depth), lw=0, label=rf"mean $\pm$ {reach} sd")
    ax.plot(times, paths, color=COMPUTED, lw=0.6, alpha=0.55)
    ax.plot(times, mean, color=EXACT, lw=2.0, label="exact mean")
    ax.set_xlim(times.min(), times.max())
    return label(ax, name, "$t$", "$X_t$")


def demo() -> Axes:
    """Brownian motion and an Ornstein-Uhlenbeck process from 2, by their exact steps."""
    rng = np.random.default_rng(0)
    times = np.linspace(0, 3, 301)
    h, theta, sigma = times[1], 1.2, 0.8
    kept = np.exp(-theta * h)
    fresh = rng.normal(size=(300, 24))
    brownian, ou = np.zeros((301, 24)), np.full((301, 24), 2.0)
    for k, z in enumerate(fresh):
        brownian[k + 1] = brownian[k] + sigma * np.sqrt(h) * z
        ou[k + 1] = kept * ou[k] + sigma * np.sqrt((1 - kept**2) / (2 * theta)) * z
    left, right = panels(2, width=4.4, height=3.2)
    fan(times, brownian, 0 * times, sigma * np.sqrt(times), left, "Brownian motion")
    spread = sigma * np.sqrt(-np.expm1(-2 * theta * times) / (2 * theta))
    fan(times, ou, 2 * np.exp(-theta * times), spread, right, "Ornstein-Uhlenbeck process")
    key(right, loc="upper right")
    return left


if __name__ == "__main__":
    save(demo(), path := demo_path("processes.png"))
    print(path)
