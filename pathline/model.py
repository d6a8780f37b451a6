"""A trained model as one object: `pl.load("runs/digits").sample(16, y=3)`.

    what is asked for  ->  batches that fit memory  ->  samples and conditions in the user's own units

Sample i depends on (seed, i) only, so batches have the same noise whatever their size; the last bits of what a network
makes of it (1e-5) may depend on it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pathline.asked import Asked, asked, given_of
from pathline.conditions import TEXT
from pathline.config import Config
from pathline.fields.modes import evaluating
from pathline.fields.network import NetworkField
from pathline.noise import Noise, fresh_seed
from pathline.runs import Run
from pathline.sampling.adaptive import AdaptiveSampler
from pathline.sampling.grids import UNIFORM
from pathline.sampling.sample import sample, start_of
from pathline.sampling.sampler import Sampler
from pathline.sampling.samplers import default_sampler
from pathline.solvers.adaptive import SolverError

MEMORY = 1 << 30  # bytes that a batch may take
HELD = 24  # numbers that a network holds at a time, for each of its width and each pixel: a U-Net 20, an MLP 9
MOST, MOST_ADAPTIVE = 1 << 14, 128  # samples in a batch: more are no faster; those with steps of their own wait


@dataclass(frozen=True)
class Batch:
    """Some samples of all that are asked for.

    Attributes:
        rows: Which they are.
        x: In the units of the data.
        y: Their conditions by kind, as `Run.conditions` takes them; None without any.
        calls: Calls of the network that each took, if they took steps of their own; else None.
    """

    rows: range
    x: Tensor
    y: dict[str, Any] | None
    calls: Tensor | None


def at_once(run: Run) -> int:
    """The samples of a batch whose network fits memory: a power of two."""
    pixels, size = math.prod(run.shape[1:]), math.prod(run.shape)
    numbers = HELD * (run.config.width * pixels + size)
    if TEXT in run.kinds:
        form = run.encoder.form
        numbers += HELD * form.length * max(run.config.width, form.features)
    fitting = max(MEMORY // (4 * numbers), 1)
    return int(min(1 << (fitting.bit_length() - 1), MOST))


def batches(
    wish: Asked,
    network: NetworkField,
    count: int,
    sampler: Sampler,
    steps: int | None = None,
    evaluations: int | None = None,
    seed: int = 0,
    batch_size: int | None = None,
) -> Iterator[Batch]:
    """So many samples of a run's model, a batch at a time.

    Args:
        wish: What they are made under.
        network: The run's field.
        count: How many.
        sampler: The way from noise to data; it is the same for all batches.
        steps: Its steps; 50 unless `evaluations` is given. None for a sampler that lays its own.
        evaluations: Calls of the network at most.
        seed: Sample i depends on it and i only.
        batch_size: Samples in a batch; as many as fit a gigabyte unless given.

    Raises:
        SolverError: If a sample that takes steps of its own cannot be solved, or the evaluations do not suffice.
    """
    run = wish.run
    is_adaptive = isinstance(sampler, AdaptiveSampler)
    size = batch_size or (min(at_once(run), MOST_ADAPTIVE) if is_adaptive else at_once(run))
    for first in range(0, count, size):
        rows = range(first, min(first + size, count))
        field, shape = wish.field(network, rows), (len(rows), *run.shape)
        start, calls = run.start(len(rows), seed, first), None
        if isinstance(sampler, AdaptiveSampler):
            begin = start_of(field, shape, Noise(seed, first)) if start is None else start
            try:
                with torch.no_grad(), evaluating(field):
                    solution = sampler.solve(field, begin, UNIFORM.times(field, 1))
            except SolverError as error:
                what = str(error).partition(": sample")[0]
                raise type(error)(what, first + error.sample, error.t, error.step, error.evaluations) from None
            x, calls = solution.x, solution.counts.evaluations
        else:
            x = sample(field, shape, sampler, steps, seed, evaluations=evaluations, start=start, first=first)
        yield Batch(rows, run.normalisation.back(x), wish.of(rows), calls)


class Model:
    """A trained model: the run's network with its averaged weights, and what brings it to the user's own units.

    Attributes:
        run: The run folder.

    Example:
        >>> import pathline as pl
        >>> model = pl.load("runs/digits")  # doctest: +SKIP
        >>> model.sample(16, y=3, guidance=2.0, seed=0).shape  # doctest: +SKIP
        torch.Size([16, 1, 8, 8])
    """

    def __init__(self, run: Run) -> None:
        self.run = run

    @property
    def config(self) -> Config:
        """The settings that it was trained with."""
        return self.run.config

    @cached_property
    def field(self) -> NetworkField:
        """The field that is sampled, in eval mode with its averaged weights.

        It is in its own units: `run.normalisation.back(x)` are those of the data, and `run.conditions(y)` makes
        conditions of what is in the user's.
        """
        return self.run.field()

    def sample(
        self,
        count: int,
        y: Any = None,
        prompt: str | Sequence[str] | None = None,
        seed: int | None = None,
        *,
        guidance: float | None = None,
        sampler: Sampler | None = None,
        steps: int | None = None,
        evaluations: int | None = None,
        batch_size: int | None = None,
    ) -> Tensor:
        """So many samples in the units of the data, of shape `(count, *shape)`.

        They are those of `pathline sample` with the same seed. Memory is bounded beside the samples themselves.

        Args:
            count: How many.
            y: Their conditions: names or indices of classes, by the rule of `--class`, or numbers in their units; one
                for all, or one per sample. Of several kinds a dictionary with "class", "numbers" and "text". What is
                left out is each class in turn, and numbers and captions of training samples.
            prompt: What they are to show: a caption for all, or one per sample.
            seed: Sample i depends on it and i only; a fresh one where left out.
            guidance: The guidance scale; 1 unless given.
            sampler: The best general method unless given.
            steps: Steps of the sampler; 50 unless `evaluations` is given.
            evaluations: Calls of the network at most, instead of `steps`.
            batch_size: Samples at once; as many as fit a gigabyte unless given.

        Raises:
            ValueError: If the model takes no such condition, or a value is out of range.
        """
        for name, value in (("count", count), ("batch_size", batch_size)):
            if value is not None and (not isinstance(value, int) or value < 1):
                raise ValueError(f"{name} must be a whole number, at least 1, got {value!r}")
        wish = asked(self.run, given_of(self.run, y, prompt, count), guidance)
        sampler, seed = sampler or default_sampler(), fresh_seed() if seed is None else seed
        if isinstance(sampler, AdaptiveSampler) and evaluations is not None:
            sampler = replace(sampler, solver=replace(sampler.solver, evaluations=evaluations))
        made = batches(wish, self.field, count, sampler, steps, evaluations, seed, batch_size)
        return torch.cat([batch.x for batch in made])


def load(folder: str | Path) -> Model:
    """The trained model in a run folder.

    Example:
        >>> import pathline as pl
        >>> pl.load("runs/moons").sample(1000, y="upper")  # doctest: +SKIP

    Raises:
        ValueError: If there is no run, or its config.json is damaged.
    """
    return Model(Run.open(folder))
