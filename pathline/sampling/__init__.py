"""From a field to samples: its ODE and its SDEs, grids of times, samplers."""
