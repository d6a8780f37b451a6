"""Strings and JSON turn into objects here, and nowhere else: `"polynomial:3"` is `PolynomialSchedule(3)`.

A class is named by itself, less the family's name (`CosineSchedule` is `cosine` among schedules); a value by its
UPPER_CASE constant (`HEUN` is `heun` among solvers); another way to make one by its class method
(`GaussianMixture.symmetric` is `symmetric` among distributions). So a new one is known here the moment it is written.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable, Iterable
from dataclasses import is_dataclass
from typing import Any, TypeVar, cast

T = TypeVar("T")


def catalogue(family: type[T]) -> dict[str, Callable[..., T] | T]:
    """Every concrete class, class method and constant of a family, by name: those in the package that defines it."""
    package = importlib.import_module(family.__module__.rpartition(".")[0])
    found: dict[str, Callable[..., T] | T] = {}
    for info in pkgutil.iter_modules(package.__path__):
        for name, value in vars(importlib.import_module(f"{package.__name__}.{info.name}")).items():
            if isinstance(value, family) and name.isupper():
                found.pop(_name(type(value), family), None)  # a class with constants is chosen by them
                found[name.lower().replace("_", "-")] = value
            elif inspect.isclass(value) and issubclass(value, family) and _is_member(value):
                found[_name(value, family)] = value
                made = [method for method, kind in vars(value).items() if isinstance(kind, classmethod)]
                found |= {method.replace("_", "-"): getattr(value, method) for method in made}
    return dict(sorted(found.items()))


def build(family: type[T], spec: str | dict[str, Any]) -> T:
    """The object that a spec names: `"name"`, `"name:argument"`, or `{"name": ..., "arguments": {...}}`.

    Arguments are in their order, or named: `"optimal-transport:false,is_global=true"`.

    Raises:
        ValueError: If the family has no such name (the nearest is suggested), or the arguments do not fit.
    """
    known = catalogue(family)
    name, arguments = _parsed(spec)
    if name not in known:
        raise ValueError(f"unknown {_words(family)} {name!r}{did_you_mean(name, known)}")
    made = known[name]
    if isinstance(made, family):
        if arguments:
            raise ValueError(f"{_words(family)} {name!r} takes no arguments, got {arguments}")
        return made
    make = cast("Callable[..., T]", made)
    try:
        return make(**arguments) if isinstance(arguments, dict) else _made(make, arguments)
    except TypeError as error:
        takes = ", ".join(inspect.signature(make).parameters)
        raise ValueError(f"{_words(family)} {name!r} takes ({takes}), got {arguments or 'nothing'}") from error


def _made(make: Callable[..., T], words: list[Any]) -> T:
    """What the values after a name make; a word `parameter=value` is one for that parameter."""
    takes = inspect.signature(make)
    named: dict[str, Any] = {}
    rest = []
    for word in words:
        name, sign, value = str(word).partition("=")
        if sign and name in takes.parameters:
            named[name] = _value(value)
        else:
            rest.append(word)
    bound = takes.bind(*rest, **named)
    for name, value in bound.arguments.items():
        if isinstance(takes.parameters[name].default, bool):
            bound.arguments[name] = _truth(name, value)
    return make(*bound.args, **bound.kwargs)


def _truth(name: str, value: int | float | str) -> bool:
    known = {"1": True, "true": True, "0": False, "false": False}
    if str(value).lower() not in known:
        raise ValueError(f"{name} must be true or false, got {value!r}")
    return known[str(value).lower()]


def spec_of(family: type[T], value: T) -> dict[str, Any]:
    """What `build` needs to make the value again, fit for JSON.

    Raises:
        ValueError: If it is not in the family's catalogue, or holds more than numbers and words.
    """
    for name, known in catalogue(family).items():
        if known is value:
            return {"name": name, "arguments": {}}
        if known is type(value) and is_dataclass(value):
            takes = inspect.signature(known).parameters.items()
            arguments = {key: getattr(value, key) for key, one in takes if getattr(value, key) != one.default}
            if all(isinstance(argument, str | int | float | None) for argument in arguments.values()):
                return {"name": name, "arguments": arguments}
            raise ValueError(f"{value!r} cannot be written down: its arguments must be numbers or words")
    raise ValueError(f"{value!r} is no {_words(family)} that pathline knows by name; known are {_listed(family)}")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown name: the nearest one, and all that there are."""
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ";"
    return f"{hint} known are {', '.join(known)}"


def _parsed(spec: str | dict[str, Any]) -> tuple[str, list[Any] | dict[str, Any]]:
    if isinstance(spec, dict):
        return str(spec.get("name")), dict(spec.get("arguments", {}))
    name, _, rest = spec.partition(":")
    return name, [_value(part) for part in rest.split(",")] if rest else []


def _value(text: str) -> int | float | str:
    try:
        return int(text) if re.fullmatch(r"[+-]?\d+", text) else float(text)
    except ValueError:
        return text


def _name(made: type, family: type) -> str:
    name = made.__name__.removesuffix(family.__name__)
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name or made.__name__).lower()


def _words(family: type) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", family.__name__).lower()


def _listed(family: type) -> str:
    return ", ".join(catalogue(family))


def _is_member(made: type) -> bool:
    return not inspect.isabstract(made) and not made.__name__.startswith("_")
