"""What may change when a run goes on: `pathline train --resume RUN --steps 2000 --learning-rate 1e-3`.

    beside the model    device, log_every, ...          for this call alone: the model does not depend on it
    how it is found     steps, learning_rate, ema, ...  a leg of its own from here on, kept in config.json
    what it is          data, network, prediction, ...  never: that is another model

The learning rate of a leg is that of its schedule over all steps of the run: at step k of n it is
learning_rate * factor(k / n), as if the run had been meant to be that long from its begin.
"""

from __future__ import annotations

from dataclasses import fields, replace

from pathline.config import BESIDE_THE_MODEL, OF_A_LEG, OF_THE_MODEL, Config
from pathline.runs import Run
from pathline.trainer import LR_SCHEDULES

OF_THE_DATA = "data label numbers text pairs size skip_bad held_out start seed paired kind columns drop_columns".split()


def check(run: Run, wanted: Config) -> None:
    """Refuse settings that cannot change when a run goes on.

    Raises:
        ValueError: If there are any; all are named, with the reason.
    """
    fixed = [f"{flag(name)} ({_why(name)})" for name in _changed(run.config, wanted) if not _may_change(name)]
    if fixed:
        raise ValueError(
            f"--resume cannot change {', '.join(fixed)} of {run.folder}; train a new run for that, with --out FOLDER. "
            f"What may be another: {', '.join(map(flag, (*OF_A_LEG, *BESIDE_THE_MODEL)))}"
        )


def changed(run: Run, wanted: Config) -> list[str]:
    """The settings that a leg of its own would have from here on, in place of those of the run."""
    return [name for name in _changed(run.config, wanted) if name in OF_A_LEG]


def check_steps(run: Run, step: int, wanted: Config) -> None:
    """Refuse a leg without a step.

    Raises:
        ValueError: If the steps that are wanted are made already.
    """
    names = changed(run, wanted)
    if not names or wanted.steps > step:
        return
    if "steps" in names:
        raise ValueError(
            f"--steps must be more than the {step:,} that {run.folder} has made, got {wanted.steps:,}; it counts from "
            "the begin of the run"
        )
    raise ValueError(
        f"{run.folder} has made all of its {step:,} steps; to go on with {', '.join(map(flag, names))}, give more of "
        f"them: --steps {2 * step}"
    )


def begun(run: Run, step: int, wanted: Config, is_first: bool = True) -> Run:
    """The run as it goes on from a step with the settings that are wanted, which the first process keeps."""
    config = replace(run.config, **{name: getattr(wanted, name) for name in changed(run, wanted)})
    return replace(run.going_on(step, config, is_first), config=wanted)


def told(run: Run, step: int) -> str:
    """What is new in the last leg, and where its learning rate begins."""
    config = run.config
    now = config.learning_rate * LR_SCHEDULES[config.lr_schedule](config.warmup)(step / config.steps)
    return (
        f"leg {len(run.legs) + 1} {run.legs[-1]}; the learning rate goes on as the {config.lr_schedule} schedule of "
        f"{config.steps:,} steps has it, {now:.3g} here"
    )


def flag(name: str) -> str:
    """A setting as the command line calls it."""
    return f"--{name.replace('_', '-')}"


def _changed(before: Config, after: Config) -> list[str]:
    return [each.name for each in fields(Config) if getattr(before, each.name) != getattr(after, each.name)]


def _may_change(name: str) -> bool:
    return name in OF_A_LEG or name in BESIDE_THE_MODEL


def _why(name: str) -> str:
    if name in OF_THE_DATA:
        return "what is trained on and held out follows from it"
    return "the weights are of that model" if name in OF_THE_MODEL else "what the weights learn follows from it"
