"""Samplers by the words of the command line: `heun`, `dpm:3`, `churn:40`, `dopri5:1e-6`, each on a `--grid`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import torch

from pathline.fields.field import Field
from pathline.sampling.adaptive import AdaptiveSampler
from pathline.sampling.curvature import curvature_grid
from pathline.sampling.exponential import ExponentialSDE
from pathline.sampling.fitted import FittedSampler
from pathline.sampling.grids import Grid
from pathline.sampling.multistep import Multistep
from pathline.sampling.sampler import Sampler
from pathline.sampling.samplers import ODESampler, SDESampler, default_sampler
from pathline.sampling.sigmas import Sigma, sigma_of
from pathline.solvers.adaptive import AdaptiveSolver
from pathline.solvers.runge_kutta import RungeKutta
from pathline.solvers.solver import Solver
from pathline.solvers.stochastic import EulerMaruyama
from pathline.specs import build, catalogue, did_you_mean, spec_of

OBJECTS = {"solver", "sampler", "sigma", "kind", "grid"}  # parameters that no word after a colon stands for
PARTS = {"adaptive", "fitted", "multistep", "ode", "sde"}  # samplers that are made of such, and have names of their own
CURVATURE = "curvature"  # the grid that is measured on the model


def sampler_of(spec: str | None, sigma: str | None) -> Sampler:
    """The sampler that the flags name; the best general method unless they do.

    Raises:
        ValueError: If there is none of that name, or sigma goes with none that has noise.
    """
    if spec is None:
        return default_sampler() if sigma is None else SDESampler(sigma_from(sigma), EulerMaruyama())
    name = spec.partition(":")[0]
    if name not in names():
        raise ValueError(f"unknown sampler {name!r}{did_you_mean(name, names())}")
    takes_sigma = name == "exponential-sde" or (name in _solvers() and _solvers()[name].is_stochastic)
    if sigma is None and takes_sigma:
        raise ValueError(f"--sampler {name} solves an SDE: give its --sigma, a number, beta:SCALE or memoryless")
    if sigma is not None and not takes_sigma:
        way = "has its own noise, ddim:1 being the most" if name == "ddim" else "takes none"
        raise ValueError(f"--sigma is for SDE samplers, such as euler-maruyama; {name} {way}")
    if name in catalogue(AdaptiveSolver):
        return AdaptiveSampler(_adaptive(spec))
    if name in _solvers():
        solver = build(Solver, spec)
        return ODESampler(solver) if isinstance(solver, RungeKutta) else SDESampler(sigma_from(sigma or ""), solver)
    made = build(Sampler, _named(spec, catalogue(Sampler)[name], "sigma=0" if takes_sigma else ""))
    return replace(made, sigma=sigma_from(sigma)) if isinstance(made, ExponentialSDE) and sigma else made


def names() -> list[str]:
    """What a sampler can be called."""
    return sorted({*_solvers(), *catalogue(AdaptiveSolver), *catalogue(Sampler)} - PARTS)


def sigma_from(text: str) -> Sigma:
    """A diffusion from `0.5`, `beta:1.5` or `memoryless`."""
    return build(Sigma, f"constant:{text}" if _is_number(text) else text)


def check_grid(sampler: Sampler, spec: str) -> None:
    """Refuse a grid of an unknown name, or one for a sampler that has none.

    Raises:
        ValueError: If so.
    """
    if isinstance(sampler, AdaptiveSampler):
        raise ValueError(
            f"--grid is for samplers that stop where it says; {words_of(sampler)} chooses its own steps, "
            "finer by a smaller tolerance"
        )
    name = spec.partition(":")[0]
    known = sorted({*catalogue(Grid), CURVATURE} - {"fitted", "quantile"})
    if name not in known:
        raise ValueError(f"unknown grid {name!r}{did_you_mean(name, known)}")
    if spec != CURVATURE:
        if name == CURVATURE:
            raise ValueError(f"grid 'curvature' takes no arguments, got {spec!r}; it is measured on the model")
        build(Grid, spec)


def on_grid(sampler: Any, spec: str, field: Field, start: torch.Tensor) -> Sampler:
    """The sampler on the grid of that name; `curvature` is measured on the field, from the points of start."""
    found = curvature_grid(field, start) if spec == CURVATURE else build(Grid, spec)
    changed: Sampler = replace(sampler, grid=found)
    return changed


def words_of(sampler: Sampler, steps: int = 1) -> str:
    """A sampler in the words that --sampler, --sigma and --grid take, as it is for so many steps."""
    chosen = sampler.settled(steps)
    if isinstance(chosen, AdaptiveSampler):
        solver = chosen.solver
        rtol, atol = f"{solver.rtol:g}", f"{solver.atol:g}"
        return f"{_name(AdaptiveSolver, solver)} at a tolerance of {rtol if rtol == atol else f'{rtol} and {atol}'}"
    if isinstance(chosen, FittedSampler):
        return "the solver fitted to this model"
    if isinstance(chosen, Multistep):
        said = _multistep(chosen)
    elif isinstance(chosen, ODESampler | SDESampler):
        said = _name(Solver, chosen.solver)
    else:
        said = _with_numbers(_name(Sampler, chosen), chosen)
    if isinstance(chosen, SDESampler | ExponentialSDE):
        sigma = sigma_of(chosen.sigma)
        said += f" with sigma {_with_numbers(_name(Sigma, sigma), sigma)}".replace("constant:", "")
    grid = _grid_words(chosen.grid)
    best = "the best general method, " if sampler == default_sampler() else ""
    return f"{best}{said}" + ("" if grid == "uniform" else f" on a {grid} grid")


def _multistep(sampler: Multistep) -> str:
    for name, made in catalogue(Sampler).items():
        if inspect.ismethod(made) and replace(made(sampler.order), grid=sampler.grid) == sampler:
            return f"{name}:{sampler.order}" + (f" (order {sampler.order + 1})" if sampler.is_corrected else "")
    return str(sampler)


def _grid_words(grid: Grid) -> str:
    try:
        spec = spec_of(Grid, grid)
    except ValueError:
        return CURVATURE  # the only one without a spec that a flag can choose
    return str(spec["name"]) + ":" * bool(spec["arguments"]) + ",".join(f"{v:g}" for v in spec["arguments"].values())


def _name(family: type[Any], value: object) -> str:
    return next(name for name, made in catalogue(family).items() if made in (value, type(value)))


def _with_numbers(name: str, value: Any) -> str:
    """A name, and after a colon the numbers that are not as they are unless given."""
    numbers = [one for one in fields(value) if one.name not in OBJECTS or name == "constant"]
    given = [(one, getattr(value, one.name)) for one in numbers if getattr(value, one.name) != one.default]
    is_first = len(given) == 1 and given[0][0] is numbers[0]
    said = ",".join(f"{number:g}" if is_first else f"{one.name}={number:g}" for one, number in given)
    return f"{name}:{said}" if said else name


def _solvers() -> dict[str, Any]:
    return catalogue(Solver)


def _adaptive(spec: str) -> AdaptiveSolver:
    """An adaptive solver; one number after its name is both tolerances."""
    name, _, rest = spec.partition(":")
    both = f"{name}:rtol={rest},atol={rest}" if rest and "," not in rest and "=" not in rest else spec
    return build(AdaptiveSolver, _named(both, catalogue(AdaptiveSolver)[name]))


def _named(spec: str, made: Callable[..., object] | object, more: str = "") -> str:
    """A spec with the name of a parameter before each word: the numbers that it takes, in their order.

    Raises:
        ValueError: If there are more words than numbers, or one that must be whole is not.
    """
    assert callable(made)
    name, _, rest = spec.partition(":")
    takes = {key: one for key, one in inspect.signature(made).parameters.items() if key not in OBJECTS}
    named = []
    for place, word in enumerate(rest.split(",") if rest else []):
        key, _, value = word.rpartition("=")
        key = key or ([*takes][place] if place < len(takes) else "")
        if key not in takes:
            listed = ", ".join(takes) or "nothing"
            raise ValueError(f"--sampler {name} takes {listed} after the colon, got {rest!r}")
        if not _is_number(value):
            raise ValueError(f"{key} of --sampler {name} must be a number, got {value!r}")
        if isinstance(takes[key].default, int) and not value.lstrip("+-").isdecimal():
            raise ValueError(f"{key} of --sampler {name} must be a whole number, got {value!r}")
        named.append(f"{key}={value}")
    return ":".join(filter(None, (name, ",".join(filter(None, (*named, more))))))


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
