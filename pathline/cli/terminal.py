"""The terminal: whatever is printed stands there as it is, be it the name of a class or a file.

Rich would read `[red]` in a name as a colour and `:smile:` as a picture, and a terminal obeys control characters.
All that the commands print goes through here, so that neither happens.
"""

from __future__ import annotations

import sys
from typing import Any

from rich.console import Console
from rich.status import Status
from rich.text import Text

from pathline.quoting import listed, shown


class Terminal(Console):
    """Rich's console for plain words: styles come as `Text`, and strings have no markup."""

    def __init__(self, **about: Any) -> None:
        super().__init__(**about | {"markup": False, "emoji": False, "highlight": False})

    def render_str(self, text: str, **about: Any) -> Text:
        """A string, with characters that a terminal would obey shown as escapes."""
        return super().render_str(shown(text), **about | {"markup": False, "emoji": False, "highlight": False})

    def waiting(self, words: str) -> Status:
        """Say what goes on beside a wheel, on a terminal alone: it is gone in the end."""
        return self.status(Text(shown(words)))

    def say(self, *lines: object) -> None:
        """Print lines, as long as they are: they are not broken where the terminal ends."""
        for line in lines:
            self.print(str(line), soft_wrap=True)


def say(*lines: object) -> None:
    """Print lines to stdout."""
    for line in lines:
        print(shown(line))


def warn(command: str, words: object) -> None:
    """Print one line to stderr, or a list, after the name of the command that has to say it."""
    print(f"pathline {command}: {listed(words)}", file=sys.stderr)
