"""The discrete-step bound: what it takes and refuses, and what it must not depend on."""

import pytest
import torch
from torch import nn

import pathline as pl
from pathline.likelihood import bound
from pathline.noise import Noise
from pathline.sampling.grids import share_of

pytestmark = pytest.mark.fast
LINEAR = pl.GaussianPath(pl.LinearSchedule())
NORMAL = pl.Normal(torch.tensor([0.5, -1.0, 0.0, 2.0]), torch.tensor([0.1, 0.5, 1.0, 2.0]))


def exact(head=pl.DATA, path=LINEAR):
    return pl.MixtureField(NORMAL, path, head)


def points(count=6, dtype=torch.float64):
    return Noise(1).normal((count, 4), dtype=dtype)


class Toward(nn.Module):
    """A network whose guess of the data is the condition; it counts its calls and looks at its mode."""

    null = torch.zeros(())

    def __init__(self):
        super().__init__()
        self.centre = nn.Parameter(torch.zeros((), dtype=torch.float64))
        self.calls, self.modes = [], set()

    def forward(self, x, t, y=None):
        self.calls.append(len(x))
        self.modes.add(self.training)
        shift = torch.zeros(len(x)) if y is None else y
        return torch.zeros_like(x) + self.centre + shift.to(x.dtype).reshape(-1, *(1,) * (x.ndim - 1))


def test_value_and_error_of_each_point():
    value, error = pl.elbo(exact(), points(dtype=torch.float32), seed=0)
    assert value.shape == error.shape == (6,)
    assert value.dtype == error.dtype == torch.float32
    assert (error > 0).all()


def test_a_sample_does_not_depend_on_its_batch(monkeypatch):
    x = points(7)
    value, error = pl.elbo(exact(), x, steps=50, draws=32, seed=3)
    for rows in (1, 3):
        alone = pl.elbo(exact(), x[:rows], steps=50, draws=32, seed=3)
        torch.testing.assert_close(alone[0], value[:rows], rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(alone[1], error[:rows], rtol=1e-12, atol=1e-12)
    monkeypatch.setattr(bound, "AT_ONCE", 1)  # one draw at a time
    torch.testing.assert_close(pl.elbo(exact(), x, steps=50, draws=32, seed=3)[0], value, rtol=1e-12, atol=1e-12)


def test_samples_draw_apart():
    x = points(1).repeat(200, 1)
    value, error = pl.elbo(exact(), x, steps=50, draws=64, seed=4)
    assert len(value.unique()) == 200
    assert float(value.std() / (error**2).mean().sqrt()) == pytest.approx(1, abs=0.25)


def test_images_are_vectors_of_another_shape():
    x = points(5)
    flat = pl.elbo(exact(), x, steps=20, draws=16, seed=5)
    image = pl.elbo(exact(), x.reshape(5, 1, 2, 2), steps=20, draws=16, seed=5)
    for a, b in zip(flat, image, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_out_of_memory_halves_the_batch(monkeypatch):
    x, whole = points(8), pl.elbo(exact(), points(8), steps=20, draws=16, seed=6)
    true = bound._bound

    def small(field, x, *rest):
        if len(x) > 2:
            raise torch.OutOfMemoryError
        return true(field, x, *rest)

    monkeypatch.setattr(bound, "_bound", small)
    torch.testing.assert_close(pl.elbo(exact(), x, steps=20, draws=16, seed=6), whole, rtol=1e-12, atol=1e-12)


def test_each_sample_has_its_condition():
    network = Toward()
    field = pl.NetworkField(network, LINEAR, pl.DATA)
    x = torch.tensor([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]], dtype=torch.float64)
    right, _ = pl.elbo(field.given(torch.tensor([0.0, 1.0, 2.0])), x, seed=7)
    torch.testing.assert_close(
        right, right[:1].expand(3), rtol=0, atol=1e-3
    )  # no guess errs: all that is left is log SNR
    wrong, _ = pl.elbo(field.given(torch.tensor([0.0, 2.0, 2.0])), x, seed=7)
    assert wrong[1] < right[1] - 1e5
    assert wrong[0] == right[0]


def test_calls_are_no_more_than_the_draws_and_in_eval_mode():
    network = Toward()
    field = pl.NetworkField(network, LINEAR, pl.DATA).train()
    pl.elbo(field, points(3), draws=100, seed=8)
    assert sum(network.calls) <= 3 * 100
    assert network.modes == {False}
    assert network.training


def test_gradients_are_kept_in_grad_mode_only():
    network = Toward()
    field = pl.NetworkField(network, LINEAR, pl.DATA)
    x = points(3).requires_grad_()
    value, _ = pl.elbo(field, x, steps=10, draws=20, seed=9)
    value.sum().backward()
    assert network.centre.grad.isfinite() and network.centre.grad.abs() > 0
    torch.testing.assert_close(x.grad.sum(), -network.centre.grad, rtol=0, atol=20)  # but for the pull to the start
    with torch.no_grad():
        assert not pl.elbo(field, x, steps=10, draws=20, seed=9)[0].requires_grad
    with torch.inference_mode():
        torch.testing.assert_close(pl.elbo(field, x, steps=10, draws=20, seed=9)[0], value.detach())


def test_a_tighter_chain_costs_no_more():
    network = Toward()
    pl.elbo(pl.NetworkField(network, LINEAR, pl.DATA), points(2), steps=100_000, draws=64, seed=1)
    assert sum(network.calls) <= 2 * 64


def test_grid_is_even_in_information():
    for schedule in (pl.LinearSchedule(), pl.CosineSchedule(), pl.VarianceExplodingSchedule()):
        field = exact(path=pl.GaussianPath(schedule))
        times = pl.information_grid(field, 10)
        information = bound.snr(schedule, times).log1p()
        torch.testing.assert_close(information.diff(), information.diff().mean().expand(10), rtol=1e-6, atol=0)
        assert times[0] == 0
        assert float(1 - share_of(schedule, times[-1])) == pytest.approx(
            max(1e-3 / 1.001, schedule.ends[1][1]), rel=1e-2
        )


def test_grid_begins_inside_where_noise_is_all_that_is_predicted():
    field = pl.NetworkField(Toward(), LINEAR, pl.NOISE)
    times = pl.information_grid(field, 10)
    assert float(times[0] / (1 - times[0])) == pytest.approx(1e-3)
    assert pl.elbo(field, points(2), seed=1)[0].isfinite().all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"draws": 3}, "draws must be at least 4, .* got 3"),
        (
            {"x": torch.zeros(3)},
            r"x must be floating-point numbers of shape \(batch, \*shape\), got torch.float32 \(3,\)",
        ),
        ({"x": torch.zeros(3, 4, dtype=torch.int64)}, "x must be floating-point numbers"),
        ({"steps": torch.tensor([0.0, 1.0])}, "noise left, got 0 to 1; information_grid"),
        ({"steps": torch.tensor([0.9, 0.1])}, "rise within .* got 0.9 to 0.1"),
        ({"steps": torch.tensor([-0.1, 0.5])}, "rise within .* got -0.1 to 0.5"),
        ({"steps": torch.tensor([0.5, 0.5])}, "strictly one way"),
        (
            {"field": pl.NetworkField(Toward(), LINEAR, pl.NOISE), "steps": torch.tensor([0.0, 0.5])},
            "data can be read from the noise prediction of this field on .* got t = 0; begin inside",
        ),
        (
            {"field": pl.NetworkField(Toward(), pl.BridgePath())},
            "field must be on a path from noise, .* got BridgePath",
        ),
    ],
)
def test_refusals_name_the_argument(change, words):
    arguments = {"field": exact(), "x": points(2)} | change
    with pytest.raises(ValueError, match=words):
        pl.elbo(arguments.pop("field"), arguments.pop("x"), **arguments)


def test_a_grid_finer_than_none_is_refused():
    with pytest.raises(ValueError, match=r"finest must be positive, .* got 0"):
        pl.information_grid(exact(), 10, finest=0.0)
    with pytest.raises(ValueError, match=r"finest must be positive, .* got 100 for VarianceExploding"):
        pl.information_grid(exact(path=pl.GaussianPath(pl.VarianceExplodingSchedule())), 10, finest=100.0)
