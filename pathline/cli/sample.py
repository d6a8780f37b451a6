"""`pathline sample`: samples of a trained model, as a picture or as numbers."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import tyro
from torch import Tensor

from pathline.cli.pictures import points
from pathline.fields.field import Field
from pathline.plots.axes import save
from pathline.plots.images import image_grid
from pathline.runs import Run, guided
from pathline.sampling.sample import STEPS, sample
from pathline.sampling.sampler import Sampler
from pathline.sampling.samplers import DDIM, ODESampler, SDESampler, default_sampler
from pathline.sampling.sigmas import Sigma
from pathline.solvers.runge_kutta import RungeKutta
from pathline.solvers.solver import Solver
from pathline.solvers.stochastic import EulerMaruyama
from pathline.specs import build, catalogue, did_you_mean


@dataclass(frozen=True)
class Arguments:
    """Make samples with a trained model."""

    run: tyro.conf.Positional[Path]
    """The run folder."""
    count: int = 100
    """How many."""
    label: Annotated[str | None, tyro.conf.arg(name="class")] = None
    """The class of all of them, by name or index; each class in turn unless given."""
    numbers: str | None = None
    """The numbers of all of them, in the units of the data, separated by commas; those of training samples unless
    given."""
    steps: int | None = None
    """Steps of the solver; 50 unless --evaluations is given."""
    evaluations: int | None = None
    """Calls of the network at most, instead of --steps."""
    sampler: str | None = None
    """heun, midpoint, euler, rk4, euler-maruyama, stochastic-heun, ddim, or ddim:ETA."""
    sigma: str | None = None
    """Diffusion of an SDE: a number, beta:SCALE for proportional to the noise left, or memoryless."""
    guidance: float | None = None
    """Guidance scale: 0 ignores the class or numbers, 1 is the model itself, more exaggerates them."""
    seed: int = 0
    """Sample i depends on the seed and i only."""
    out: Path | None = None
    """A .png; an .npz with x in the units of the data, and y; or a .csv of vectors, with the names of its columns, and
    their class or numbers. RUN/samples/sample.png unless given."""


def main(argv: list[str]) -> int:
    """Run the command."""
    arguments = tyro.cli(Arguments, prog="pathline sample", args=argv)
    if arguments.count < 1:
        raise ValueError(f"--count must be at least 1, got {arguments.count}")
    run = Run.open(arguments.run)
    out = arguments.out or run.samples_folder / "sample.png"
    if out.suffix.lower() not in (".png", ".npz", ".csv"):
        raise ValueError(f"--out must end in .png, .npz or .csv, got {out}")
    if out.suffix.lower() == ".csv" and len(run.shape) != 1:
        raise ValueError(f"--out must end in .png or .npz for samples of shape {run.shape}, got {out}")
    sampler = sampler_of(arguments.sampler, arguments.sigma)
    field, y = _bound(run, arguments)
    x = sample(
        field,
        (arguments.count, *run.shape),
        sampler,
        arguments.steps,
        arguments.seed,
        evaluations=arguments.evaluations,
        start=run.start(arguments.count, arguments.seed),
    )
    _write(run, run.normalisation.back(x), y, out)
    steps = len(sampler.times(field, *_steps(arguments))) - 1
    calls = steps * len(sampler.nodes)
    print(f"{arguments.count} samples by {sampler}, {steps} steps, at most {calls} calls of the network: {out}")
    return 0


def sampler_of(name: str | None, sigma: str | None) -> Sampler:
    """The sampler that the flags name.

    Raises:
        ValueError: If there is none of that name, or sigma goes with none that has noise.
    """
    solvers = catalogue(Solver)
    if name is not None and name.partition(":")[0] == "ddim":
        if sigma is not None:
            raise ValueError("--sigma is for SDE samplers; ddim has its own noise, ddim:1 being the most")
        return build_ddim(name)
    if name is not None and name not in solvers:
        raise ValueError(f"unknown sampler {name!r}{did_you_mean(name, [*solvers, 'ddim'])}")
    solver = None if name is None else build(Solver, name)
    if isinstance(solver, RungeKutta):
        if sigma is not None:
            raise ValueError(f"--sigma is for SDE samplers, such as euler-maruyama; {name} solves the ODE")
        return ODESampler(solver)
    if sigma is not None:
        return SDESampler(sigma_from(sigma), solver or EulerMaruyama())
    if solver is not None:
        raise ValueError(f"--sampler {name} solves an SDE: give its --sigma, a number, beta:SCALE or memoryless")
    return default_sampler()


def build_ddim(name: str) -> DDIM:
    """DDIM from `ddim` or `ddim:ETA`."""
    made = build(Sampler, name)
    assert isinstance(made, DDIM)
    return made


def sigma_from(text: str) -> Sigma:
    """A diffusion from `0.5`, `beta:1.5` or `memoryless`."""
    try:
        float(text)
    except ValueError:
        return build(Sigma, text)
    return build(Sigma, f"constant:{text}")


def _steps(arguments: Arguments) -> tuple[int | None, int | None]:
    return (
        STEPS if arguments.steps is None and arguments.evaluations is None else arguments.steps
    ), arguments.evaluations


def _bound(run: Run, arguments: Arguments) -> tuple[Field, Tensor | None]:
    field, y = run.field(), _conditions(run, arguments)
    if y is None:
        return field, None
    if arguments.guidance not in (None, 0.0, 1.0) and not run.config.drop:
        raise ValueError(f"--guidance needs a model trained with labels dropped, and {run.folder} was with --drop 0")
    w = 1.0 if arguments.guidance is None else arguments.guidance
    return guided(field, run.conditions(y), w), y


def _conditions(run: Run, arguments: Arguments) -> Tensor | None:
    """The class of each sample, or its numbers in the units of the data."""
    for flag, value, need, known in (
        ("--guidance", arguments.guidance, "classes or numbers", run.classes or run.numbers),
        ("--class", arguments.label, "classes", run.classes),
        ("--numbers", arguments.numbers, "numbers", run.numbers),
    ):
        if value is not None and not known:
            raise ValueError(f"{flag} needs a model with {need}, and {run.folder} was trained without any")
    index = torch.arange(arguments.count)
    if run.numbers:
        rows = run.kept_numbers() if arguments.numbers is None else numbers_from(arguments.numbers, run.numbers)
        return rows[index % len(rows)]
    if run.classes:
        k = None if arguments.label is None else class_index(arguments.label, run.classes)
        return index % len(run.classes) if k is None else torch.full_like(index, k)
    return None


def numbers_from(text: str, names: tuple[str, ...]) -> Tensor:
    """Numbers to condition on from `3.5,120`, of shape `(1, numbers)`."""
    try:
        found = torch.tensor([[float(part) for part in text.split(",")]], dtype=torch.float64)
    except ValueError:
        found = torch.empty(0)
    if found.shape != (1, len(names)) or not found.isfinite().all():
        raise ValueError(
            f"--numbers must be finite numbers, one for each of {', '.join(names)}, with commas between, got {text!r}; "
            "pathline info tells their ranges"
        )
    return found


def class_index(label: str, classes: tuple[str, ...]) -> int:
    """The index of a class, from its name or itself."""
    if label in classes:
        return classes.index(label)
    if label.isdecimal() and int(label) < len(classes):
        return int(label)
    raise ValueError(
        f"--class must be one of {', '.join(classes)}, or an index from 0 to {len(classes) - 1}, got {label!r}"
    )


def _write(run: Run, raw: Tensor, y: Tensor | None, out: Path) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.suffix.lower() == ".npz":
        arrays = {"x": raw.numpy()} if y is None else {"x": raw.numpy(), "y": y.numpy()}
        with out.open("wb") as file:  # a name would be given a second .npz after an .NPZ
            np.savez(file, **arrays)  # type: ignore[arg-type]
    elif out.suffix.lower() == ".csv":
        _write_table(run, raw, y, out)
    elif len(run.shape) == 3:
        low, high = run.normalisation.back(torch.tensor([-1.0, 1.0])).tolist()
        save(image_grid((raw.numpy() - low) / (high - low), columns=min(10, len(raw))), out)
    else:
        save(points(run, raw, y), out)


def _write_table(run: Run, raw: Tensor, y: Tensor | None, out: Path) -> None:
    """Rows as they were trained on, the class or the numbers last."""
    header = list(run.columns or (str(i + 1) for i in range(run.shape[0])))
    rows = raw.numpy().astype(str).tolist()  # as many digits as tell a number from its neighbours
    if y is not None and run.numbers:
        header += run.numbers
        rows = [[*row, *numbers] for row, numbers in zip(rows, y.numpy().astype(str).tolist(), strict=True)]
    elif y is not None:
        header.append(run.config.label or "class")
        rows = [[*row, run.classes[k]] for row, k in zip(rows, y.tolist(), strict=True)]
    with out.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])
