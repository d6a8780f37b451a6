"""Metrics: samples in, a number out."""

from pathline.metrics.distances import energy_distance, memorisation_ratio, nearest_distance
from pathline.metrics.transport import path_straightness, transport_cost

__all__ = ["energy_distance", "memorisation_ratio", "nearest_distance", "path_straightness", "transport_cost"]
