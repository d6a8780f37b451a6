"""Numbers far outside those that a model was trained on are warned of: before, samples came without a word."""

import warnings
from types import SimpleNamespace

import pytest
import torch

from pathline.asked import _warn_of_far_numbers


@pytest.fixture
def run(tmp_path):
    (tmp_path / "conditions.safetensors").touch()
    kept = {"numbers": torch.tensor([[20.0, 1.0], [176.0, 3.0], [90.0, 2.0]])}
    return SimpleNamespace(folder=tmp_path, numbers=("dose", "age"), kept=lambda: kept)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        pytest.param(
            [[1e6, 2.0]], "--numbers has dose = 1e+06, and the model was trained on 20 to 176", id="a million"
        ),
        pytest.param([[-500.0, 2.0]], "dose = -500", id="below"),
        pytest.param([[30.0, 2.0], [30.0, 40.0]], "age = 40, and the model was trained on 1 to 3", id="one of several"),
    ],
)
def test_far_numbers_are_warned_of_with_the_range(run, values, words):
    with pytest.warns(UserWarning) as told:
        _warn_of_far_numbers(run, torch.tensor(values, dtype=torch.float64), "--")
    assert len(told) == 1 and words in str(told[0].message)


@pytest.mark.parametrize("values", [[20.0, 1.0], [176.0, 3.0], [200.0, 3.4], [0.0, 0.6]])
def test_numbers_within_or_close_by_are_not(run, values):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _warn_of_far_numbers(run, torch.tensor([values], dtype=torch.float64), "--")
