"""The front door: it knows the commands by name, and loads one only when it is called."""

from __future__ import annotations

import difflib
import importlib
import os
import re
import sys
import warnings
from collections.abc import Sequence

from pathline.quoting import listed, shown

COMMANDS = {
    "train": "train a model: pathline train digits",
    "sample": "make samples with a trained model: pathline sample runs/digits --class 3",
    "edit": "make samples like given ones: pathline edit runs/digits --class 3 --strength 0.5",
    "tune": "fit a solver to a trained model, for samples in few calls: pathline tune runs/digits --evaluations 8",
    "compare": "which sampler is nearest in how many calls of a trained model: pathline compare runs/digits",
    "likelihood": "how likely samples are under a trained model: pathline likelihood runs/digits --data my.npz",
    "verify": "check the laws that all of this rests on: pathline verify --quick",
    "info": "what a run folder holds: pathline info runs/digits",
}

TOO_MUCH = re.compile("memory|overflow|too large", re.IGNORECASE)  # in what torch says of sizes that it cannot make

HELP = """pathline: flow matching and diffusion models, from noise to data

usage: pathline COMMAND ...

commands:
{commands}

pathline COMMAND --help tells more; pathline --version the version.
Time runs from noise (t = 0) to data (t = 1), everywhere.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command. Returns its exit code: 0, 2 for bad input, 130 if interrupted."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(HELP.format(commands="\n".join(f"  {name:10} {text}" for name, text in COMMANDS.items())), end="")
        return 0
    if arguments[0] == "--version":
        from importlib.metadata import version

        print(version("pathline"))
        return 0
    name, *rest = arguments
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"commands are {', '.join(COMMANDS)}"
        print(shown(f"pathline: unknown command {name!r}; {hint}"), file=sys.stderr)
        return 2
    warnings.showwarning = lambda text, *_: _tell(name, text)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # what a terminal has no letters for is shown as an escape, and is no error
            stream.reconfigure(errors="backslashreplace")
    try:
        return int(importlib.import_module(f"pathline.cli.{name}").main(rest))
    except KeyboardInterrupt:
        _tell(name, "interrupted")
        return 130
    except BrokenPipeError:  # who read the output has had enough
        return 1
    except (ValueError, OSError, MemoryError, RecursionError, OverflowError, RuntimeError) as error:
        is_known = isinstance(error, ValueError | OSError)
        if "PATHLINE_TRACEBACK" in os.environ or not (is_known or _is_too_much(error)):
            raise
        _tell(name, error if is_known else _too_much(error))
        return 2


def _tell(name: str, words: object) -> None:
    """Print one line to stderr, or a list."""
    print(f"pathline {name}: {listed(words)}", file=sys.stderr)


def _is_too_much(error: Exception) -> bool:
    """Whether a command asked for more than the machine has: torch says so in a RuntimeError, as it says all else."""
    return not isinstance(error, RuntimeError) or isinstance(error, RecursionError) or bool(TOO_MUCH.search(str(error)))


def _too_much(error: Exception) -> str:
    said = str(error).partition("\n")[0].partition(". ")[0].rstrip(".")
    return (
        f"this is more than the machine can hold: {type(error).__name__}{said and ': '}{said}; ask for less "
        "(PATHLINE_TRACEBACK=1 shows where it was)"
    )


if __name__ == "__main__":
    sys.exit(main())
