"""Plots: arrays in, matplotlib Axes out. Nothing here touches pyplot's global state."""

from pathline.plots.animation import save_gif
from pathline.plots.images import image_grid, tile
from pathline.plots.loss import loss, loss_by_time
from pathline.plots.scatter import scatter

__all__ = ["image_grid", "loss", "loss_by_time", "save_gif", "scatter", "tile"]
