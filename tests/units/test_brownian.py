"""A Brownian path that is the same whatever the steps taken along it."""

import pytest
import torch

import pathline as pl
from pathline.noise import Noise

pytestmark = pytest.mark.fast

X = torch.zeros(500, 2, dtype=torch.float64)


def grid(steps, start=0.0, stop=1.0):
    return torch.linspace(start, stop, steps + 1, dtype=torch.float64)


def walked(times, x=X, path=None, sigma=1.0):
    path = path or pl.BrownianPath(Noise(3))
    return torch.stack(list(pl.walk(pl.BrownianMotion(sigma), pl.EulerMaruyama(), x, times, path)))


def test_short_steps_meet_the_path_of_long_ones():
    whole = walked(grid(96))
    for steps in (3, 48, 32):
        assert torch.allclose(walked(grid(steps)), whole[:: 96 // steps], atol=1e-12)
    assert torch.allclose(walked(grid(5, 0.25, 0.75))[-1], whole[72] - whole[24], atol=1e-12)


def test_a_walk_down_undoes_the_walk_up():
    field = pl.MixtureField(pl.Normal(torch.zeros(2, dtype=torch.float64), 1.0), pl.GaussianPath(pl.LinearSchedule()))
    path = pl.BrownianPath(Noise(3))
    up, down = path.along(grid(8)), path.along(grid(8).flip(0))
    for k in range(8):
        assert torch.allclose(up(X, k), -down(X, 7 - k), atol=1e-12)
    *_, end = pl.SDESampler(1.0).walk(field, X, grid(8).flip(0), path)
    assert end.isfinite().all()


@pytest.mark.parametrize("sampler", [pl.SDESampler(1.0), pl.ExponentialSDE(1.0), pl.DDIM(1.0)], ids=repr)
def test_a_sampler_takes_a_path_and_nears_its_own_limit_along_it(sampler):
    field = pl.MixtureField(pl.Normal(torch.ones(2, dtype=torch.float64), 0.25), pl.GaussianPath(pl.LinearSchedule()))
    start = Noise(5).normal((500, 2), dtype=torch.float64)

    def end(steps, path):
        *_, x = sampler.walk(field, start, grid(steps, 0.1, 0.8), path)
        return x

    path, limit = pl.BrownianPath(Noise(3)), end(400, pl.BrownianPath(Noise(3)))
    errors = [float((end(steps, path) - limit).norm()) for steps in (10, 40)]
    assert errors[1] < errors[0] / 2 < float((end(400, pl.BrownianPath(Noise(4))) - limit).norm())


def test_a_value_is_the_same_however_it_is_reached():
    path = pl.BrownianPath(Noise(3), depth=6)
    drawn, last = path.along(grid(100)), X
    for k in range(100):
        last = last + drawn(X, k) * 0.1
        assert torch.allclose(last, path(X, float(grid(100)[k + 1])), atol=1e-12)


def test_a_sample_is_its_own_and_the_dtype_that_of_the_points():
    path = pl.BrownianPath(Noise(3))
    assert torch.equal(path.at(70)(X[:9], 0.3), path(X, 0.3)[70:79])
    assert path(X.float(), 0.3).dtype == torch.float32
    assert torch.allclose(path(X.float(), 0.3).double(), path(X, 0.3), atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"start": 1.0}, "start must be below stop, got 1 and 1"),
        ({"depth": 0}, "depth must be from 1 to 30 levels, got 0"),
        ({"depth": 31}, "depth must be from 1 to 30 levels, got 31"),
    ],
)
def test_what_is_no_path_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        pl.BrownianPath(Noise(0), **arguments)


def test_times_beyond_the_path_are_refused():
    with pytest.raises(ValueError, match=r"times must lie in \[0, 1\].*got 0 to 2"):
        list(pl.walk(pl.BrownianMotion(), pl.EulerMaruyama(), X, grid(4, 0, 2), pl.BrownianPath(Noise(0))))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_points_of_few_bits_meet_the_path_of_wide_ones(dtype):
    times = torch.linspace(0, 1, 4001, dtype=torch.float64)
    x = torch.zeros(50, 1)
    few, wide = (pl.BrownianPath(Noise(3)).along(times) for _ in range(2))
    for draw in (0, 1500, 3999):
        found = few(x.to(dtype), draw)
        assert found.dtype == dtype and torch.equal(found, wide(x, draw).to(dtype))
    assert torch.equal(pl.BrownianPath(Noise(3))(x.to(dtype), 0.3), pl.BrownianPath(Noise(3))(x, 0.3).to(dtype))
