"""Plots: arrays in, matplotlib Axes out. Nothing here touches pyplot's global state."""
