"""The laws, each for each of its parts: the same table that the verify command shows."""

from __future__ import annotations

import pytest

from pathline.verify import Law, laws

FAST = {3, 4, 13, 17, 18, 21}  # laws whose cases all answer at once
EVERY = {  # of laws with many long cases: which of them every run checks; `make test-slow` checks all
    "density_follows_its_equation": 4,  # nine schedules for each head: each of both is met
    "backwards_data_becomes_noise": 3,
    "log_density_of_a_mixture": 4,
    "multistep_method_has_its_order": 5,  # one of each order, of four families
}


def _cases() -> list[object]:
    found = []
    for law in laws():
        for k, (name, parts) in enumerate(law.cases()):
            is_slow = law.is_slow or k % EVERY.get(law.name, 1)
            marks = [pytest.mark.slow] if is_slow else [pytest.mark.fast] if law.number in FAST else []
            found.append(pytest.param(law, parts, id=f"{law.number}-{law.name}-{name}", marks=marks))
    return found


@pytest.mark.parametrize(("law", "parts"), _cases())
def test_law(law: Law, parts: tuple[object, ...]) -> None:
    figures = list(law.check(*parts))
    assert figures, "a law without figures holds nothing"
    assert all(figure.holds for figure in figures), "; ".join(map(str, figures))
