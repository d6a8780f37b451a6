"""`pathline edit`: samples noised part of the way back, and made anew from there by a trained model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro
from torch import Tensor

from pathline.asked import check_guidance
from pathline.cli.conditions import bound, prompts_from
from pathline.cli.flags import parsed
from pathline.cli.outputs import Outputs
from pathline.cli.pictures import look_of, points, sheet, value_range
from pathline.cli.samplers import sampler_of, words_of
from pathline.cli.scored import Points, field_of, others, own
from pathline.cli.terminal import say, warn
from pathline.data.pictures import Unusable, picture_of
from pathline.fields.field import Field
from pathline.fields.network import NetworkField
from pathline.plots.axes import label, panels, save
from pathline.runs import Run
from pathline.sampling.adaptive import AdaptiveSampler
from pathline.sampling.editing import edit
from pathline.sampling.inversion import STEPS as STEPS_OF_INVERSION
from pathline.sampling.inversion import invert, round_trip_sampler
from pathline.sampling.sample import sample
from pathline.sampling.sampler import STEPS

STRENGTH = 0.5
COLUMNS = 10
PICTURES = (".png", ".jpg", ".jpeg")


@dataclass(frozen=True)
class Arguments:
    """Make samples like given ones: they are noised part of the way back, and a trained model goes on from there.

    Without a condition each is edited under its own; with another it becomes one of that, as far as the noise lets it.
    Of a model of several kinds of condition, those that are not named stay its own.
    """

    run: tyro.conf.Positional[Path]
    """The run folder."""
    data: str | None = None
    """What is edited: a file or data set, named as in training, or one picture, .png or .jpg, whose black is the lowest
    value. The run's own held-out samples unless given."""
    strength: float | None = None
    """How far back to noise, from 0 (the samples themselves) to 1 (fresh ones); 0.5 unless given."""
    invert: bool = False
    """Go all the way back along the flow, under the own condition, and not by noise: under another condition what it
    does not settle is kept."""
    count: int = 20
    """Samples at most, chosen evenly."""
    label: Annotated[str | None, tyro.conf.arg(name="class")] = None
    """The class that all of them are to have, by name or index."""
    numbers: str | None = None
    """The numbers that all of them are to have, in the units of the data, separated by commas."""
    prompt: str | None = None
    """What all of them are to show."""
    unconditional: bool = False
    """Edit under the null condition."""
    guidance: float | None = None
    """Guidance scale: 0 ignores all conditions, 1 is the model itself, more exaggerates them."""
    steps: int | None = None
    """Steps of the sampler from noise to data, of which an edit takes its share; 50, or 100 with --invert, unless
    given."""
    sampler: str | None = None
    """As of pathline sample; the best general method, or rk4 with --invert, unless given."""
    sigma: str | None = None
    """Diffusion of an SDE: a number, beta:SCALE for proportional to the noise left, or memoryless."""
    seed: int = 0
    """Edit i depends on the seed, i and its sample only."""
    out: Path | None = None
    """A .png of each sample and its edit, or an .npz with x, the edits in the units of the data, and y.
    RUN/samples/edit.png unless given."""
    overwrite: bool = False
    """Replace a file at --out that pathline edit of this run did not write, or that has changed since. The run's own
    files and the data that it was trained on are never replaced."""


def main(argv: list[str]) -> int:
    """Run the command."""
    arguments = parsed(Arguments, "pathline edit", argv)
    run = Run.open(arguments.run)
    _check(run, arguments)
    default = run.samples_folder / "edit.png"
    out = arguments.out or default
    read = [arguments.data] if arguments.data else []
    outputs = Outputs(run, "edit", [out], default, arguments.overwrite, read)
    if out.suffix.lower() not in (".png", ".npz"):
        raise ValueError(f"--out must end in .png or .npz, got {out}")
    sampler = sampler_of(arguments.sampler, arguments.sigma)
    is_open = arguments.sampler is None and arguments.sigma is None
    if arguments.invert and is_open:
        sampler = round_trip_sampler()
    if arguments.steps is not None and isinstance(sampler, AdaptiveSampler):
        raise ValueError(f"--steps is for samplers of steps that are settled beforehand, got {arguments.steps}")
    steps = arguments.steps or (STEPS_OF_INVERSION if arguments.invert else STEPS)
    given = _given(run, arguments)
    network = run.field()
    field, y = _target(run, network, given, arguments)
    x = run.normalisation.into(given.x).float()
    if arguments.invert:
        noise = invert(field_of(run, network, given, None), x, sampler, steps)
        made = sample(field, tuple(x.shape), sampler, steps, seed=arguments.seed, start=noise)
        way = "by inversion"
    else:
        strength = STRENGTH if arguments.strength is None else arguments.strength
        made = edit(field, x, strength, sampler, steps, arguments.seed)
        way = f"at strength {strength:g}"
    with outputs.opened() as parts:
        _write(run, given.x, run.normalisation.back(made), y, parts[out])
    far = float((made - x).square().mean().sqrt())
    say(
        f"{len(x)} samples, {given.name}, edited {way}, by {words_of(sampler, steps)}, {steps} steps: {out}",
        f"{far:.3g} away from the originals (root mean square, in the units of the model)",
    )
    return 0


def _check(run: Run, arguments: Arguments) -> None:
    """Refuse what a run cannot be asked.

    Raises:
        ValueError: If so.
    """
    if run.config.is_bridge:
        raise ValueError(
            f"edit needs a model that begins at noise, and {run.folder} is a bridge from {run.config.start}; train one "
            "without --start"
        )
    if arguments.strength is not None and not 0 <= arguments.strength <= 1:
        raise ValueError(
            f"--strength must be from 0, the samples themselves, to 1, fresh ones, got {arguments.strength:g}"
        )
    if arguments.strength is not None and arguments.invert:
        raise ValueError(
            f"--strength is of edits by noise, got {arguments.strength:g}, and --invert goes all the way back without; "
            "leave out one of them"
        )
    for name in ("count", "steps"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            raise ValueError(f"--{name} must be at least 1, got {value}")
    if arguments.unconditional and (_has_new(arguments) or arguments.guidance is not None):
        raise ValueError("--unconditional goes without --class, --numbers, --prompt or --guidance; leave out one")
    check_guidance(run, arguments.guidance)


def _has_new(arguments: Arguments) -> bool:
    """Whether edits are to have a condition that the flags name."""
    return any(value is not None for value in (arguments.label, arguments.numbers, arguments.prompt))


def _given(run: Run, arguments: Arguments) -> Points:
    """The samples to edit, with their own conditions where these are needed."""
    is_free = arguments.unconditional or (_has_new(arguments) and not arguments.invert and len(run.kinds) < 2)
    if arguments.data is None:
        return own(run, arguments.count, is_free)[0]
    if Path(arguments.data).suffix.lower() in PICTURES:
        return _picture(run, Path(arguments.data))
    return others(run, arguments.data, arguments.count, is_free)


def _picture(run: Run, path: Path) -> Points:
    """One picture, in the units of the run's data: black and white are the ends of what the model is trained on.

    Raises:
        ValueError: If it cannot be read, or has another shape than the run's samples.
    """
    try:
        picture = picture_of(path, run.config.size)
        levels = torch.from_numpy(picture / np.iinfo(picture.dtype).max)
    except Unusable as error:
        raise ValueError(f"{path} {error}") from None
    if len(run.shape) == 3 and len(levels) == 1:
        levels = levels.expand(run.shape[0], -1, -1)
    if levels.shape != run.shape:
        raise ValueError(
            f"--data must have samples of shape {run.shape}, as {run.folder} was trained on, got a picture of shape "
            f"{tuple(levels.shape)} from {path}"
        )
    low, high = value_range(run.normalisation)
    return Points(
        path.stem,
        torch.from_numpy(low + (high - low) * levels.numpy()).float()[None],
        None,
        torch.zeros(1, dtype=torch.long),
    )


def _target(run: Run, network: NetworkField, given: Points, arguments: Arguments) -> tuple[Field, Any]:
    """The field that makes the edits, and the conditions that they are made under.

    Raises:
        ValueError: If there are none, and the model needs some; or it takes no such condition.
    """
    if arguments.invert and given.y is None and run.kinds and not run.config.drop:
        raise ValueError(
            f"--invert goes back under the conditions of what is edited, {given.name} comes without, and {run.folder} "
            "was trained with --drop 0, so that it knows no way without; leave --invert out"
        )
    if arguments.invert and given.y is None and _has_new(arguments):
        warn("edit", f"{given.name} comes without conditions, and is inverted under none")
    if _has_new(arguments) or (not run.kinds and arguments.guidance is not None):
        return bound(
            run=run,
            field=network,
            count=len(given),
            guidance=arguments.guidance,
            label=arguments.label,
            numbers=arguments.numbers,
            prompts=prompts_from(arguments.prompt, None),
            own=given.y if len(run.kinds) > 1 else None,
        )
    if given.y is None and run.kinds:
        if not run.config.drop:
            raise ValueError(
                f"--class, --numbers or --prompt must be given, as {run.folder} was trained with --drop 0, and "
                f"{given.name} comes without conditions"
            )
        if arguments.guidance is not None:
            raise ValueError(
                f"--guidance leads to a condition, and {given.name} comes without; give --class, --numbers or --prompt"
            )
        if not arguments.unconditional:
            warn(
                "edit",
                f"{given.name} comes without conditions, and is edited under none; --class, --numbers "
                "and --prompt give one",
            )
    y = None if arguments.guidance == 0 else given.y  # with guidance 0 no condition is claimed
    return field_of(run, network, given, arguments.guidance), y


def _write(run: Run, before: Tensor, after: Tensor, y: Any, out: Path) -> None:
    if out.suffix.lower() == ".npz":
        arrays = {"x": after.numpy()} if y is None else {"x": after.numpy(), "y": run.codec.array(y)}
        with out.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
    elif len(run.shape) == 3:
        save(_pairs(run, before, after), out)
    else:
        left, right = panels(2, width=4.2, height=4.0, sharex=True, sharey=True)
        label(points(run, before, y, has_key=False, ax=left), "original")
        save(label(points(run, after, y, has_key=False, ax=right), "edit"), out)


def _pairs(run: Run, before: Tensor, after: Tensor) -> Any:
    """Rows of pictures, each with their edits below."""
    columns = min(COLUMNS, len(before))
    low, high = value_range(run.normalisation)
    paper = torch.from_numpy(low if look_of(run)["is_ink"] else high)
    blank = paper.expand(-len(before) % columns, *run.shape).double()
    rows = [torch.cat((x.double(), blank)).reshape(-1, columns, *run.shape) for x in (before, after)]
    return sheet(run, torch.stack(rows, 1).flatten(0, 2), columns, ["original", "edit"] * len(rows[0]))
