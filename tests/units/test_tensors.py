"""A time meets a batch of points along the batch, never along the features."""

import pytest
import torch

from pathline.tensors import mean_per_sample, meet, sum_per_sample, time_of, wide

pytestmark = pytest.mark.fast


@pytest.mark.parametrize(
    ("x", "t"),
    [
        (torch.bfloat16, torch.float32),
        (torch.float16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
@pytest.mark.parametrize("given", [0.3, torch.tensor(0.3).double(), torch.full((4,), 0.3, dtype=torch.float64)])
def test_a_time_is_at_least_float32_and_float64_where_the_points_are(x, t, given):
    found = time_of(torch.zeros(4, 2, dtype=x), given)
    assert found.dtype == t
    assert torch.equal(found, torch.as_tensor(given, dtype=torch.float64).to(t))


def test_a_python_float_keeps_its_64_bits_beside_float64_points():
    assert float(1 - time_of(torch.zeros(1, 2, dtype=torch.float64), 1 - 1e-12)) == pytest.approx(
        1e-12, rel=1e-3, abs=0
    )


@pytest.mark.parametrize("shape", [(3,), (4, 1), (1,), (2, 2)])
def test_a_time_of_any_other_shape_is_refused(shape):
    with pytest.raises(ValueError, match=r"t must have shape \(\) or \(batch,\) = \(4,\)"):
        time_of(torch.zeros(4, 3), torch.zeros(shape))


@pytest.mark.parametrize("shape", [(3, 3), (3, 3, 3), (3, 2, 3, 3), (3,)])
def test_each_sample_meets_its_own_time(shape):
    x, t = torch.randn(shape, generator=torch.Generator().manual_seed(0)), torch.tensor([2.0, 3.0, 5.0])
    assert torch.equal(meet(t, x) * x, torch.stack([time * point for time, point in zip(t, x, strict=True)]))


def test_a_single_time_meets_every_sample():
    x = torch.arange(6.0).reshape(2, 3)
    assert torch.equal(meet(torch.tensor(3.0), x) * x, 3 * x)


def test_sums_and_means_are_of_each_sample():
    x = torch.arange(12.0).reshape(2, 3, 2)
    assert sum_per_sample(x).tolist() == [0 + 1 + 2 + 3 + 4 + 5, 6 + 7 + 8 + 9 + 10 + 11]
    assert mean_per_sample(x).tolist() == [2.5, 8.5]


def test_a_wide_time_is_the_same_number_in_float64():
    t = torch.tensor(0.1)
    assert wide(t).dtype == torch.float64 and float(wide(t)) == float(t)
