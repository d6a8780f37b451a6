"""Ctrl-C and SIGTERM, while something is going on that must not be cut in two."""

from __future__ import annotations

import signal
import time

AT_ONCE = 1.0  # seconds; `timeout` and others tell a process and its whole group, which is the same wish twice


class Interruption:
    """Notes that the program is asked to stop, for the loop to see between two steps; a second time is not waited for.

    Attributes:
        number: Of the signal that came, or 0.
    """

    def __init__(self) -> None:
        self.number = 0
        self._since = 0.0

    def __enter__(self) -> Interruption:
        self._before = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def __bool__(self) -> bool:
        return self.number != 0

    def _note(self, number: int, frame: object) -> None:
        if not self:
            self.number, self._since = number, time.monotonic()
        elif time.monotonic() - self._since > AT_ONCE:
            self.__exit__()
            signal.raise_signal(number)
