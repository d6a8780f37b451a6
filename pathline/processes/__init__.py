"""Processes with known laws: Brownian motion, Ornstein-Uhlenbeck, Langevin, and any other ODE or SDE."""
