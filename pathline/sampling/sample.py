"""`sample`: noise in, data out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from typing import TypeVar

import torch
from torch import Tensor

from pathline import arguments
from pathline.fields.compiled import CompiledField
from pathline.fields.field import Field, checked_field
from pathline.fields.modes import evaluating
from pathline.fields.network import NetworkField
from pathline.noise import Noise, fresh_seed
from pathline.paths.path import GaussianPath
from pathline.sampling.finite import checked_samples
from pathline.sampling.sampler import Sampler, checked_sampler
from pathline.sampling.samplers import default_sampler
from pathline.sampling.scale import warn_of_scale
from pathline.tensors import is_eager

T = TypeVar("T")


def sample(
    field: Field,
    shape: tuple[int, ...],
    sampler: Sampler | None = None,
    steps: int | None = None,
    seed: int | None = None,
    *,
    evaluations: int | None = None,
    start: Tensor | None = None,
    compile: bool = False,
    first: int = 0,
) -> Tensor:
    """Samples of a field, of `shape` (count, *point), in its own units, dtype and device.

    The field is in eval mode meanwhile, and no gradient is kept. Sample i depends on (seed, i) only: where memory runs
    out, the same samples are made in smaller batches.

    Grids are laid for data of about unit size, or of the scale that the field's path knows. Where samples turn out to
    be far from it, and the grid too coarse for them, a warning says so.

    Args:
        field: What is sampled, under its condition if it has one.
        shape: The number of samples, then the shape of each.
        sampler: `default_sampler()` unless another is given.
        steps: Steps of the sampler, 50 unless `evaluations` is given; as many as it was fitted to, of a fitted one.
        seed: A whole number; a fresh one where left out.
        evaluations: Calls of the field at most, instead of `steps`.
        start: Where samples begin, of the same shape: noise unless given. A bridge needs it.
        compile: Whether the field is compiled first, which takes some seconds and pays for many calls of it.
        first: The index of the first sample, for one batch of many: `first=100` goes on where a hundred ended.

    Raises:
        ValueError: If the field, the shape, the sampler or a count is something else, the shape is not that of at least
            one point, the start has another or is not finite; or if no sample is finite in the end. Where only some
            are not, a warning names the first, its step and its time.
    """
    checked_field(field)
    shape = arguments.shape("shape", shape)
    sampler = default_sampler() if sampler is None else checked_sampler(sampler)
    times = sampler.times(field, sampler.usual_steps if steps is None and evaluations is None else steps, evaluations)
    noise = Noise(fresh_seed() if seed is None else seed, arguments.whole("first", first))
    begin = start_of(field, shape, noise) if start is None else _checked_start(start, shape).to(_own(field).device)
    solved = CompiledField(field) if compile else field

    def end_of(part: Field, rows: slice) -> Tensor:
        for end in sampler.walk(part, begin[rows], times, noise.at(rows.start)):  # noqa: B007 - the others are freed
            pass
        return end

    with torch.no_grad(), evaluating(field):
        ends = [*in_batches(solved, len(begin), end_of)]
        made = ends[0] if len(ends) == 1 else torch.cat(ends)
        made = made.to(_own(field).dtype) if start is None else made
        checked_samples(made, solved, begin, sampler, times, noise)
    if sampler.is_laid_for_unit_size:
        warn_of_scale(field, made, times, "samples", stacklevel=3)
    return made


def in_batches(field: Field, count: int, run: Callable[[Field, slice], T]) -> Iterator[T]:
    """What is made of all samples in turn: of all at once, or in batches of half the size where memory runs out.

    `run` is called with the field for some of the samples, and which they are.
    """
    first, size = 0, count
    while first < count:
        rows = slice(first, min(first + size, count))
        made = None
        try:
            made = run(field if size == count else field.take(rows), rows)
        except RuntimeError as error:
            if size == 1 or not is_out_of_memory(error):
                raise
        if made is None:  # here, where the error holds no tensors any more
            size = -(-(rows.stop - first) // 2)
        else:
            yield made
            first = rows.stop


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether an error says that memory ran out, on a device or on the host, or may have, as oneDNN says it."""
    told = ("can't allocate memory", "could not create a primitive")
    return isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in told)


def _checked_start(start: Tensor, shape: tuple[int, ...]) -> Tensor:
    start = arguments.numbers("start", start)
    if tuple(start.shape) != shape:
        raise ValueError(f"start must have the shape of the samples, {shape}, got {tuple(start.shape)}")
    if is_eager(start) and not start.isfinite().all():
        raise ValueError("start must be finite, and some of it is NaN or infinite")
    return start


def start_of(field: Field, shape: tuple[int, ...], noise: Noise) -> Tensor:
    """Where a walk begins: pure noise, in the dtype and on the device of the field's own numbers.

    From a network of half precision it is in float32, so that what is rounded in a call does not add up over steps.

    Raises:
        ValueError: If the field's path does not begin at noise.
    """
    if not isinstance(field.path, GaussianPath):
        raise ValueError(
            f"start must be given for {field.path}: it begins at samples of its own, not at noise; "
            "sample(field, x.shape, start=x)"
        )
    own = _own(field)
    takes_finer = any(isinstance(part, NetworkField) for part in field.modules())
    dtype = torch.promote_types(own.dtype, torch.float32) if takes_finer else own.dtype
    pure = noise.normal(shape, dtype=dtype, device=own.device)
    return pure if field.path.start_scale == 1 else field.path.start_scale * pure


def _own(field: Field) -> Tensor:
    """One of the field's own numbers, whose dtype and device samples have."""
    return next((p for p in chain(field.parameters(), field.buffers()) if p.is_floating_point()), torch.empty(0))
