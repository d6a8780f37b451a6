"""Solvers that were fitted to a run's model: RUN/tuned/evaluations-8.json, evaluations-8-guidance-2.json.

Each is good for the very weights that it was fitted to, at one scale of guidance.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from pathline.runs import Run, write_whole
from pathline.sampling.fitted import FittedSampler, fitted_from
from pathline.training.checkpoint import Checkpoint

FAR = 0.1  # an error from which on a sample ended elsewhere


@dataclass(frozen=True)
class Errors:
    """The errors of a sampler, one a trajectory, in the units of the model.

    Attributes:
        median: Of all.
        rms: The root of their mean square.
        far: The share of them above 0.1.
    """

    median: float
    rms: float
    far: float

    @classmethod
    def of(cls, errors: Tensor) -> Errors:
        """They, summed up."""
        return cls(float(errors.median()), float(errors.square().mean().sqrt()), float((errors > FAR).double().mean()))


@dataclass(frozen=True)
class Tuned:
    """A solver that was fitted to a run's model, and what it was found to be worth.

    Attributes:
        sampler: The solver.
        evaluations: Calls of the network.
        guidance: The scale that the model was guided with.
        step: Of the checkpoint.
        digest: Of its weights.
        fitted: Its errors on trajectories that it was not fitted to.
        general: Those of the best general method.
        about: How both were measured.
    """

    sampler: FittedSampler
    evaluations: int
    guidance: float
    step: int
    digest: str
    fitted: Errors
    general: Errors
    about: dict[str, Any]

    def fits(self, found: Checkpoint) -> bool:
        """Whether a checkpoint holds the weights that it was fitted to."""
        return self.digest == found.digest


def path_of(run: Run, evaluations: int, guidance: float | None = None) -> Path:
    """Where a solver is kept, if one was fitted."""
    return run.tuned_folder / _name(evaluations, 1.0 if guidance is None else guidance)


def store(run: Run, tuned: Tuned) -> Path:
    """Write a solver down, whole or not at all."""
    path = path_of(run, tuned.evaluations, tuned.guidance)
    path.parent.mkdir(exist_ok=True)
    about = {name: value for name, value in asdict(tuned).items() if name != "sampler"}
    write_whole(path, json.dumps(about | tuned.sampler.to_dict(), indent=1) + "\n")
    return path


def load(path: Path) -> Tuned:
    """Read a solver.

    Raises:
        ValueError: If the file is damaged, or was given another name.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        tuned = Tuned(
            fitted_from(values),
            int(values["evaluations"]),
            float(values["guidance"]),
            int(values["step"]),
            str(values["digest"]),
            Errors(**values["fitted"]),
            Errors(**values["general"]),
            dict(values["about"]),
        )
        if path.name != _name(tuned.evaluations, tuned.guidance) or len(tuned.sampler.weights) != tuned.evaluations:
            raise ValueError(
                f"it holds {len(tuned.sampler.weights)} rows of weights for {tuned.evaluations} evaluations, "
                f"guidance {tuned.guidance:g}"
            )
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        way_out = "remove it, and fit again with pathline tune"
        raise ValueError(f"{path} is damaged: {type(error).__name__} {error}; {way_out}") from None
    return tuned


def all_of(run: Run) -> Iterator[Path]:
    """The files of the solvers of a run, those of fewer evaluations first."""
    return iter(sorted(run.tuned_folder.glob("evaluations-*.json"), key=lambda path: (len(path.name), path.name)))


def _name(evaluations: int, guidance: float) -> str:
    return f"evaluations-{evaluations}{'' if guidance == 1 else f'-guidance-{guidance:.12g}'}.json"
