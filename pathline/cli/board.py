"""Logging for TensorBoard, beside metrics.jsonl: losses, also by time, the gradient norm, and pictures of samples."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FOLDER = "tensorboard"


class Board:
    """A writer for TensorBoard in the folder of a run, which shows nothing beyond the step that a run goes on from.

    Raises:
        ValueError: If TensorBoard is not installed.
    """

    def __init__(self, run: Path, step: int) -> None:
        check()
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(run / FOLDER), purge_step=step + 1)

    def __call__(self, line: dict[str, Any]) -> None:
        """Write a line of the log."""
        step = line["step"]
        for name, value in line.items():
            if isinstance(value, list):
                for k, each in enumerate(value):
                    self._writer.add_scalar(f"{name}/{(k + 0.5) / len(value):.2f}", each, step)
            elif name != "step" and value is not None:
                self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def show(self, picture: NDArray[np.uint8], step: int) -> None:
        """Write a picture of shape `(height, width, 3)`."""
        self._writer.add_image("samples", picture, step, dataformats="HWC")

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()


def check() -> None:
    """Refuse to go on without TensorBoard.

    Raises:
        ValueError: If it is not installed.
    """
    if importlib.util.find_spec("tensorboard") is None:
        raise ValueError(
            'tensorboard is not installed; pip install "pathline[tensorboard]", or leave out --tensorboard'
        )
