"""Metrics: samples in, a number out."""

from pathline.metrics.distances import energy_distance, memorisation_ratio, nearest_distance

__all__ = ["energy_distance", "memorisation_ratio", "nearest_distance"]
