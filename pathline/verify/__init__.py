"""The laws that hold this library together, as functions: parts in, a figure and its bound out.

The tests and the verify command read one table, `laws()`; nothing is written twice.
"""

from pathline.verify.floors import Floor, loss_floor, loss_floor_by_time
from pathline.verify.table import Figure, Law, laws

__all__ = ["Figure", "Floor", "Law", "laws", "loss_floor", "loss_floor_by_time"]
