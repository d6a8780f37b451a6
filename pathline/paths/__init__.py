"""Probability paths from noise to data: schedules, kinds of prediction, couplings."""
