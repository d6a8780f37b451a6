"""The flags of a command: what they are comes from the fields of a dataclass, what is wrong with them is one sentence.

The parser itself answers with a box of five lines or more, and takes numbers that no machine holds. So words are looked
at first, and what is found is said as all other errors are: one sentence with the name of the flag, exit code 2.
"""

from __future__ import annotations

import dataclasses
import difflib
import io
import math
import os
import re
import types
import typing
from collections.abc import Iterator, Sequence
from contextlib import redirect_stderr
from typing import Any, TypeVar

import tyro

from pathline.quoting import shown

T = TypeVar("T")

BITS, BITS_OF_A_SEED = 63, 64  # whole numbers are below this power of 2
LONG = 60  # characters of a value that a message shows
POSITIONAL = tyro.conf.Positional[int].__metadata__[0]  # type: ignore[attr-defined]
RULE = re.compile("[\u2500-]{5}")
FRAME = re.compile("[|+\u2500-\u257f]|\x1b\\[[0-9;]*m")  # what the parser draws its boxes with


@dataclasses.dataclass(frozen=True)
class Flag:
    """A flag or, if `is_positional`, a word without one.

    Attributes:
        name: As it is written, with two dashes.
        kind: The type of its value: bool for one that has none.
        is_positional: Whether it stands without its name.
        is_required: Whether it must be given.
    """

    name: str
    kind: type
    is_positional: bool = False
    is_required: bool = False


def parsed(
    arguments: type[T], command: str, argv: Sequence[str], default: T | None = None, is_paired: bool = True
) -> T:
    """The arguments of a command.

    Args:
        arguments: A dataclass, a field a flag.
        command: What is called, such as "pathline sample".
        argv: The words after it.
        default: What holds where no flag is given.
        is_paired: Whether there is a --no-flag beside each --flag that has no value.

    Raises:
        ValueError: If a flag is unknown, or its value is missing or not what it takes.
        SystemExit: After --help.
    """
    if not {"-h", "--help"} & {*argv}:
        _check([*flags_of(arguments)], command, argv, is_paired)
    config = () if is_paired else (tyro.conf.FlagCreatePairsOff,)
    told = io.StringIO()
    try:
        with redirect_stderr(told):
            begin: Any = tyro.MISSING_NONPROP if default is None else default
            found: T = tyro.cli(arguments, prog=command, args=list(argv), default=begin, config=config)
    except SystemExit as error:
        if not error.code:
            raise
        raise ValueError(f"{_of_flags(_reason(error, told.getvalue()), arguments)}; see {command} --help") from None
    return found


def flags_of(arguments: type) -> Iterator[Flag]:
    """The flags that a dataclass stands for, those of a dataclass inside it too."""
    hints = typing.get_type_hints(arguments, include_extras=True)
    for field in dataclasses.fields(arguments):
        kind, about = hints[field.name], tuple[Any, ...]()
        if hasattr(kind, "__metadata__"):
            kind, about = kind.__origin__, kind.__metadata__
        if isinstance(kind, types.UnionType):
            kinds = [each for each in typing.get_args(kind) if each is not type(None)]
            kind = str if str in kinds else kinds[0]  # of a word that may be a number, all is taken
        if dataclasses.is_dataclass(kind):
            yield from flags_of(typing.cast("type", kind))
            continue
        name = next((each.name for each in about if getattr(each, "name", None)), field.name)
        is_required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        yield Flag(f"--{name.replace('_', '-')}", kind, POSITIONAL in about, is_required)


def _check(flags: Sequence[Flag], command: str, argv: Sequence[str], is_paired: bool) -> None:
    """Refuse words that the flags cannot take.

    Raises:
        ValueError: If there is such a word.
    """
    named = {flag.name: flag for flag in flags if not flag.is_positional}
    alone = [flag for flag in flags if flag.is_positional]
    words, given = iter(argv), 0
    for word in words:
        if not word.startswith("-"):
            if given == len(alone):
                raise ValueError(f"{_short(word)} is one word too many; see {command} --help")
            _check_value(alone[given], word)
            given += 1
            continue
        name, sign, value = word.partition("=")
        name = "--" + name[2:].replace("_", "-") if name.startswith("--") else name
        flag = named.get(name) or (named.get(f"--{name[5:]}") if is_paired and name.startswith("--no-") else None)
        if flag is None or (name != flag.name and flag.kind is not bool):
            near = difflib.get_close_matches(name, named, n=1)
            hint = f"did you mean {near[0]}? {command} --help tells of all" if near else f"see {command} --help"
            raise ValueError(f"unknown flag {shown(name)}; {hint}")
        if flag.kind is bool:
            if sign:
                raise ValueError(f"{name} takes no value, got {_short(value)}")
            continue
        if not sign:
            value = next(words, "--")
            if value.startswith("--"):
                raise ValueError(f"{name} needs a value, {_need(flag)}, and none was given")
        _check_value(flag, value)
    for flag in alone[given:]:
        if flag.is_required:
            word = flag.name.removeprefix("--").upper()
            raise ValueError(f"{word} is missing: name the run folder, as in {command} runs/digits")


def _check_value(flag: Flag, value: str) -> None:
    """Refuse a value that a flag does not take.

    Raises:
        ValueError: If so.
    """
    name = flag.name.removeprefix("--").upper() if flag.is_positional else flag.name
    try:
        if flag.kind is int:
            is_fine = abs(int(value)) < 2 ** _bits(flag)
        elif flag.kind is float:
            is_fine = not math.isnan(float(value))
        else:
            os.fsencode(value)
            is_fine = flag.kind is str or value != ""
    except ValueError:
        is_fine = False
    if not is_fine:
        raise ValueError(f"{name} must be {_need(flag)}, got {_short(value)}")


def _need(flag: Flag) -> str:
    needs = {int: f"a whole number below 2**{_bits(flag)}", float: "a number", str: "text that can be encoded"}
    return needs.get(flag.kind, "a path, which can be encoded")


def _bits(flag: Flag) -> int:
    return BITS_OF_A_SEED if flag.name == "--seed" else BITS


def _short(value: str) -> str:
    return repr(value) if len(value) <= LONG else f"{value[:LONG]!r}... of {len(value):,} characters"


def _of_flags(said: str, arguments: type) -> str:
    """What is said of a field, said of its flag."""
    names = "|".join(flag.name.removeprefix("--").replace("-", "_") for flag in flags_of(arguments))
    return re.sub(rf"^(unknown )?({names})\b", lambda found: f"{found[1] or ''}--{found[2].replace('_', '-')}", said)


def _reason(error: BaseException, box: str) -> str:
    """Why the parser stopped: what the dataclass refused, or else what the box says above its first rule."""
    cause: BaseException | None = error
    while cause is not None:
        if type(cause) is ValueError:
            return str(cause)
        cause = cause.__context__
    lines = box.splitlines()[1:]
    ends = (k for k, line in enumerate(lines) if RULE.search(line))
    said = " ".join(FRAME.sub("", line).strip() for line in lines[: next(ends, len(lines))])
    return said.strip().rstrip(".") or "the flags cannot be read"
