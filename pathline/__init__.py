"""pathline: generative models that turn noise into data along a path of probability distributions.

    x_t = alpha_t data + beta_t noise,   t from 0 (noise) to 1 (data)

Names load when they are first used: `import pathline as pl` costs nothing.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
