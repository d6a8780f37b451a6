"""Plots: arrays in, matplotlib Axes out. Nothing here touches pyplot's global state.

What was computed (samples, paths) is drawn in cool colours, what is exact (densities, means, spreads) in warm ones.
Every module shows itself: `python -m pathline.plots.trajectories` writes a picture of its own.
"""

import sys
from types import ModuleType

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


class _Plots(ModuleType):
    """Here a module and its function may share a name, which is the function's: an import would else hide it."""

    def __setattr__(self, name: str, value: object) -> None:
        super().__setattr__(name, getattr(value, name, value) if isinstance(value, ModuleType) else value)


sys.modules[__name__].__class__ = _Plots
