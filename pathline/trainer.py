"""The training of a run: the loop, and what must not be lost of it.

    step  ->  log  ->  validate  ->  checkpoint, each at its steps; a checkpoint also when time or a signal says so

A checkpoint holds all that the next step needs, so the run goes on from there bit for bit: with the same number of
threads and processes, the same torch and the same kind of device.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils._pytree import tree_map

from pathline.data.rows import Array, Rows
from pathline.data.source import Samples
from pathline.runs import Run
from pathline.specs import build
from pathline.training import checkpoint
from pathline.training.augment import Augmentation
from pathline.training.checkpoint import Checkpoint
from pathline.training.distributed import ALONE, Group, Signals, shard
from pathline.training.ema import EMA
from pathline.training.loop import TrainStep, adamw, train, warmup_constant, warmup_cosine
from pathline.training.precision import device_of, kind_of, lay_out
from pathline.training.validation import Stopped, loss_by_time

HELD, AT_ONCE = 1024, 64  # held-out samples that a validation looks at, and those between two looks for a signal
LR_SCHEDULES = {"cosine": warmup_cosine, "constant": warmup_constant}
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class Trainer:
    """A run in training.

    Args:
        run: The run.
        training: What it is trained on.
        held_out: What it is validated on.
        group: The processes that train it together: each has a trainer.

    Attributes:
        step: The step that it has reached.
        skipped: The updates that were left out up to there, as their gradient was not finite.
        skipped_in_a_row: Those of them since the last update that was made.
        listeners: What is told of every line of the log, beside the run.
    """

    def __init__(self, run: Run, training: Samples, held_out: Samples, group: Group = ALONE) -> None:
        self.run, self.config, self.group = run, run.config, group
        device = device_of(self.config.device)
        self.data = _seen(run, training.x)
        self.y = group.in_turn(lambda: run.conditions_of(training))  # captions are encoded once
        x, y = run.some(held_out, HELD)
        self.held_out = run.normalisation.into(x).to(device)
        begin = run.held_out_source()
        self.held_out_begin = None if begin is None else begin[held_out.spread(HELD)].to(device)
        self.held_out_y = None if y is None else tree_map(lambda leaf: leaf.to(device), y)
        self.field = run.new_field()
        self.loss = self.config.loss(self.field, run.source()).to(device)
        if group.is_sharded:
            shard(self.field.network)  # takes weights as they lie in memory by default only
        else:
            lay_out(self.loss, self.config.precision)
        if self.config.compile:
            self.field.network.compile()
        self.ema = EMA(self.field, self.config.ema)
        self.optimizer = adamw(self.loss, self.config.learning_rate, self.config.weight_decay)
        self.step = self.skipped = self.skipped_in_a_row = 0
        self.listeners: list[Callable[[dict[str, Any]], None]] = []

    @property
    def size(self) -> int:
        """The number of weights."""
        return sum(p.numel() for p in self.loss.parameters())

    def begin(self) -> None:
        """Begin at step 0, and write its checkpoint. Torch's own random states follow from the seed of the run."""
        torch.manual_seed(self.config.seed + self.group.rank)
        if self.group.is_first:
            self.run.forget_after(0)
        self.save()

    def restore(self, found: Checkpoint) -> list[str]:
        """Go back to a checkpoint.

        Returns:
            What is not as it was then, so that the bits may differ from here on.
        """
        self.run.check(found)
        checkpoint.restore(found, self.field, self.ema, self.optimizer)
        self.step, self.skipped = found.step, found.state.get("skipped", 0)
        self.skipped_in_a_row = found.state.get("skipped_in_a_row", 0)
        if self.group.is_first:
            self.run.forget_after(self.step)
        self.group.wait()
        return [
            f"{name} was {found.state[name]} and is {value} now: training goes on, but no longer bit for bit"
            for name, value in self._circumstances().items()
            if found.state.get(name, value) != value
        ]

    def steps(self, is_asked_to_stop: Callable[[], bool] = lambda: False) -> Iterator[TrainStep]:
        """Train to the end, or until asked to stop; either way the last step's checkpoint is there then.

        A validation that an earlier training broke off, to stop at once, is made up for first.

        Raises:
            ValueError: If too many updates in a row had to be left out.
            OSError: If a checkpoint cannot be written.
        """
        config, signals, start = self.config, Signals(self.group), self.step
        before = self.skipped, self.skipped_in_a_row
        earlier = max((line["seconds"] for line in self.run.metrics() if "seconds" in line), default=0.0)
        if self._lacks_a_validation():
            self.validate(is_asked_to_stop)
            if self.group.size == 1 and is_asked_to_stop():
                return
        began = time.monotonic()
        due = began + config.checkpoint_seconds
        for step in train(
            self.loss,
            self.data,
            self.y,
            steps=config.steps,
            batch_size=config.batch_size,
            optimizer=self.optimizer,
            lr_schedule=LR_SCHEDULES[config.lr_schedule](config.warmup),
            ema=self.ema,
            clip=config.clip,
            start=start,
            seen=self.run.seen(start),
            accumulate=config.accumulate,
            workers=config.workers,
            augmentation=build(Augmentation, config.augmentation),
            precision=PRECISIONS[config.precision],
            group=self.group,
        ):
            self.step = step.step
            is_last, is_logged = self.step == config.steps, self.step == 1 or not self.step % config.log_every
            if is_last or is_logged or not self.step % config.skips:
                self._count_skips(step, before, start)
                self._refuse_to_skip_on(step, min(config.skips, self.step) if is_last else config.skips)
            if is_last or is_logged:
                seconds = time.monotonic() - began
                self._log(step, earlier + seconds, (self.step - start) * config.batch_size / seconds)
            if self._is_to_validate():
                self.validate(is_asked_to_stop)
            is_late = time.monotonic() > due
            if is_late:
                due = time.monotonic() + config.checkpoint_seconds
            is_stopped, is_due = signals.exchange([is_asked_to_stop(), is_late])
            if is_last or is_stopped or is_due or not self.step % config.checkpoint_every:
                self._count_skips(step, before, start)
                self.save()
                due = time.monotonic() + config.checkpoint_seconds
            yield step
            if is_stopped:
                break
        signals.close()

    def save(self) -> None:
        """Write a checkpoint, then remove those that are more than are kept."""
        found = checkpoint.contents(self.field, self.ema, self.optimizer)
        if self.group.is_first:
            state: dict[str, Any] = {name: getattr(self, name) for name in ("skipped", "skipped_in_a_row")}
            state["ema_updates"] = self.ema.updates
            state["meaning"] = self.run.meaning
            checkpoint.write(self.run.folder, self.step, found, self._circumstances(), state)
            checkpoint.prune(self.run.folder, self.config.keep, self.step)
        self.group.wait()

    def validate(self, is_asked_to_stop: Callable[[], bool] = lambda: False) -> None:
        """Log the held-out loss of the averaged weights, unless asked to stop before it is known.

        Raises:
            ValueError: If it is not finite.
        """
        # a process may stop without the others, but not where they wait for its weights, or go on to the pictures
        is_free = self.group.size == 1 or not (self.group.is_sharded or self.step == self.config.steps)
        try:
            with self.ema.applied():
                by_time = loss_by_time(
                    self.loss,
                    self.held_out,
                    self.held_out_y,
                    batch_size=AT_ONCE,
                    begin=self.held_out_begin,
                    is_asked_to_stop=lambda: is_free and is_asked_to_stop(),
                )
        except Stopped:
            return
        if not by_time.isfinite().all():
            raise ValueError(f"the held-out loss is {float(by_time.mean())} at step {self.step}: {self._advice()}")
        self.record(
            step=self.step,
            held_out_loss=float(by_time.mean()),
            held_out_loss_by_t=[round(v, 5) for v in by_time.tolist()],
        )

    def _is_to_validate(self) -> bool:
        return self.step == self.config.steps or not self.step % self.config.evaluate_every

    def _lacks_a_validation(self) -> bool:
        """Whether the log has no held-out loss of the step gone on from, though it should: for all processes alike."""
        has_it = any(line.get("step") == self.step and "held_out_loss" in line for line in self.run.metrics())
        return bool(self.group.of_first(int(self.step > 0 and self._is_to_validate() and not has_it)))

    def record(self, **values: Any) -> None:
        """Add a line to the log of the run."""
        if self.group.is_first:
            self.run.log(**values)
            for listener in self.listeners:
                listener(values)

    def _log(self, step: TrainStep, seconds: float, rate: float) -> None:
        self.record(
            step=step.step,
            loss=_finite(self.group.mean(step.loss)),
            gradient_norm=_finite(step.gradient_norm),
            skipped=self.skipped,
            seconds=round(seconds, 2),
            samples_per_second=round(rate, 1),
            memory_mb=memory(self.held_out.device) >> 20,
        )

    def _count_skips(self, step: TrainStep, before: tuple[int, int], start: int) -> None:
        """Add what the loop counted since it began to what was left out before."""
        in_a_row = int(step.skipped_in_a_row)
        self.skipped = before[0] + int(step.skipped)
        self.skipped_in_a_row = in_a_row + (before[1] if in_a_row == step.step - start else 0)

    def _refuse_to_skip_on(self, step: TrainStep, most: int) -> None:
        if self.skipped_in_a_row >= most:
            raise ValueError(
                f"the gradient was not finite in the last {most} steps up to step {step.step}, where the loss is "
                f"{float(self.group.mean(step.loss))}: {self._advice()}; these updates were left out"
            )

    def _advice(self) -> str:
        return (
            f"the data may be wild, or learning_rate {self.config.learning_rate:g} too high; checkpoints made before "
            f"are kept in {self.run.folder}"
        )

    def _circumstances(self) -> dict[str, Any]:
        """What the bits depend on, beside the settings of the run."""
        return {
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
            "device": kind_of(self.held_out.device),
            "processes": self.group.size,
            **{name: getattr(self.config, name) for name in ("precision", "accumulate", "compile", "shard")},
        }


def memory(device: torch.device) -> int:
    """The most memory that training has held so far, in bytes: the device's, or this process's."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _finite(value: torch.Tensor) -> float | None:
    """A number for the log; JSON has none for infinity."""
    return float(value) if value.isfinite() else None


def _seen(run: Run, x: Array) -> Array:
    """The data as a model sees it: normalised once if that takes no more memory, else as it is read."""
    if isinstance(x, Rows):
        return x.then(run.normalisation.into)
    return run.normalisation.into(x) if x.is_floating_point() else Rows(x, None, run.normalisation.into)
