"""Whether samples are finite, and where on their way they ceased to be.

Looking at every state of a walk would make the device wait after each step. So samples are looked at once, at the end;
where one is not finite its walk is repeated, alone: samples depend on (seed, index) only, and so go wrong again.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from pathline.fields.field import Field
from pathline.noise import Noise
from pathline.sampling.sampler import Sampler
from pathline.tensors import is_eager


def checked_samples(made: Tensor, field: Field, begin: Tensor, sampler: Sampler, times: Tensor, noise: Noise) -> None:
    """Tell of samples that are not finite: how many, and the step in which the first of them ceased to be.

    Args:
        made: The samples, one or more.
        field: What they were made by.
        begin: Where they began.
        sampler: How.
        times: Its grid.
        noise: Of the first sample.

    Raises:
        ValueError: If no sample is finite. A warning says it of some.
    """
    if not is_eager(made) or made.is_meta or bool(made.isfinite().all()):
        return
    bad = ~made.flatten(1).isfinite().all(1)
    first, count = int(bad.nonzero()[0]), int(bad.sum())
    row = slice(first, first + 1)
    told = (
        f"{count} of {len(made)} samples are not finite: sample {first} "
        f"{_place(field.take(row), begin[row], sampler, times, noise.at(first))}; take more steps, or less guidance or "
        "sigma; if it stays so, the field itself is not finite there"
    )
    if count == len(made):
        raise ValueError(told)
    warnings.warn(told, RuntimeWarning, stacklevel=3)


def _place(field: Field, x: Tensor, sampler: Sampler, times: Tensor, noise: Noise) -> str:
    """The step in which one sample ceases to be finite."""
    if not bool(x.isfinite().all()):
        return "began so"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # all of them were said the first time
        for step, state in enumerate(sampler.walk(field, x, times, noise)):
            if not bool(torch.isfinite(state).all()):
                return (
                    f"became so in step {step} of {len(times) - 1}, from t = {times[step - 1]:.6g} to {times[step]:.6g}"
                )
    return f"became so after the last step, at t = {times[-1]:.6g}, where it was rounded"
