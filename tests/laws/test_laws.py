"""The laws, each for each of its parts: the same table that the verify command shows."""

from __future__ import annotations

import pytest

from pathline.verify import Law, laws

SECONDS = 3.0  # of each law, so that `make test` answers in eight minutes; `make test-slow` checks all other cases
FAST = {3, 4, 13, 17, 18, 21}  # laws whose cases all answer at once


def _cases() -> list[object]:
    found = []
    for law in laws():
        chosen = law.chosen(SECONDS)  # by the rule of `pathline verify`, which takes 8 seconds of each
        for name, parts in law.cases():
            marks = [pytest.mark.slow] if name not in chosen else [pytest.mark.fast] if law.number in FAST else []
            found.append(pytest.param(law, parts, id=f"{law.number}-{law.name}-{name}", marks=marks))
    return found


@pytest.mark.parametrize(("law", "parts"), _cases())
def test_law(law: Law, parts: tuple[object, ...]) -> None:
    figures = list(law.check(*parts))
    assert figures, "a law without figures holds nothing"
    assert all(figure.holds for figure in figures), "; ".join(map(str, figures))
