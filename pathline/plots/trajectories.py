"""Trajectories: where points go, in the plane, or on a line against time.

Source: Holderrieth & Erives 2025, https://arxiv.org/abs/2506.02070, section 2 (flows and their trajectories)
"""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from numpy.typing import ArrayLike

from pathline.plots.axes import COMPUTED, INK, checked, demo_path, key, label, new_axes, plane, save


def trajectories(
    states: ArrayLike, ax: Axes | None = None, *, color: str = COMPUTED, ends: tuple[str, str] = ("", "")
) -> Axes:
    """Paths in the plane, each with a ring where it starts and a dot where it ends.

    Args:
        states: Of shape (steps + 1, n, 2), as from `torch.stack(list(sampler.walk(...)))`.
        ax: Where to draw; new axes if left out.
        color: Of the lines.
        ends: Names of start and end, for a legend.

    Raises:
        ValueError: If the states have another shape.
    """
    states = checked("states", states, "steps + 1", "n", 2, hint="pass torch.stack(list(walk))[..., :2]")
    ax = new_axes(4.6, 4.4) if ax is None else ax
    ax.add_collection(LineCollection(list(states.swapaxes(0, 1)), colors=color, lw=0.8, alpha=0.6))
    first, last = states[0], states[-1]
    ax.scatter(
        first[:, 0], first[:, 1], s=11, facecolors="white", edgecolors=INK, lw=0.8, zorder=3, label=ends[0] or None
    )
    ax.scatter(last[:, 0], last[:, 1], s=11, color=INK, lw=0, zorder=4, label=ends[1] or None)
    ax.autoscale_view()
    ax.set_aspect("equal")
    return key(ax, loc="upper right") if any(ends) else ax


def paths_along(times: ArrayLike, states: ArrayLike, ax: Axes | None = None, *, color: str = COMPUTED) -> Axes:
    """Paths on a line against time: t to the right, x upwards.

    Args:
        times: Of shape (steps + 1,).
        states: Of shape (steps + 1, n).
        ax: Where to draw; new axes if left out.
        color: Of the lines.

    Raises:
        ValueError: If a shape does not fit.
    """
    times = checked("times", times, "steps + 1")
    states = checked("states", states, len(times), "n", hint="pass states[..., 0] for one coordinate")
    ax = new_axes(5.4, 3.4) if ax is None else ax
    ax.plot(times, states, color=color, lw=0.8, alpha=0.6)
    ax.set_xlim(times.min(), times.max())
    return label(ax, x="$t$", y="$x$")


def demo() -> Axes:
    """A spiral flow, dx = A x dt, by its exact solution x_t = exp(-t) R(3 t) x_0."""
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    start = 2 * np.column_stack((np.cos(angle), np.sin(angle)))
    times = np.linspace(0, 1, 101)
    cos, sin, shrunk = np.cos(3 * times), np.sin(3 * times), np.exp(-times)
    turns = shrunk[:, None, None] * np.moveaxis(np.array([[cos, -sin], [sin, cos]]), -1, 0)
    states = np.einsum("kij,nj->kni", turns, start)
    ax = plane(trajectories(states, ends=("$X_0$", "$X_1$")), 2.6)
    return label(ax, "trajectories of a spiral flow")


if __name__ == "__main__":
    save(demo(), path := demo_path("trajectories.png"))
    print(path)
