"""The laws that hold this library together, as functions: parts in, a figure and its bound out.

The tests and the verify command read one table, `laws()`; nothing is written twice.
"""

from pathline.verify.checks import (
    Checked,
    Report,
    check_field,
    check_guidance,
    check_path,
    check_prediction,
    check_sampler,
    check_schedule,
    check_solver,
)
from pathline.verify.floors import Floor, Gap, loss_floor, loss_floor_by_time, marginalisation_gap
from pathline.verify.marginals import Apart, same_marginals
from pathline.verify.residuals import Residual, asymmetry, continuity_residual, fokker_planck_residual
from pathline.verify.table import Figure, Law, laws

__all__ = [
    "Apart",
    "Checked",
    "Figure",
    "Floor",
    "Gap",
    "Law",
    "Report",
    "Residual",
    "asymmetry",
    "check_field",
    "check_guidance",
    "check_path",
    "check_prediction",
    "check_sampler",
    "check_schedule",
    "check_solver",
    "continuity_residual",
    "fokker_planck_residual",
    "laws",
    "loss_floor",
    "loss_floor_by_time",
    "marginalisation_gap",
    "same_marginals",
]
