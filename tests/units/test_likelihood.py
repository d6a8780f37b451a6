"""Log-density: what it is asked with, what it refuses, and what no batch, mode or memory changes."""

import math
import warnings

import pytest
import torch
from torch import nn

import pathline as pl
from pathline.noise import Noise
from pathline.specs import build, catalogue
from pathline.verify.parts import field, mixture

pytestmark = pytest.mark.fast

LINEAR = pl.GaussianPath(pl.LinearSchedule())
ESTIMATORS = (pl.Exact(), pl.Hutchinson(3), pl.Hutchinson(2, is_normal=True), pl.HutchPlusPlus(2, 2))


def network(**kwargs):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        net = pl.MLP(3, 16, 1, **kwargs)
        nn.init.normal_(net.last.weight, std=0.3)
    return pl.NetworkField(net, LINEAR)


def points(count=6):
    return Noise(6).normal((count, 3))


@pytest.mark.parametrize("divergence", ESTIMATORS)
@pytest.mark.parametrize("solver", [pl.GAUSS, pl.MIDPOINT, pl.Dopri5(1e-3, 1e-3)])
@torch.no_grad()
def test_no_sample_depends_on_its_batch(divergence, solver):
    model, x = network(), points()
    whole = pl.log_prob(model, x, solver=solver, steps=5, divergence=divergence, seed=3)
    assert whole.shape == (6,)
    first = pl.log_prob(model, x[:2], solver=solver, steps=5, divergence=divergence, seed=3)
    torch.testing.assert_close(first, whole[:2])


@pytest.mark.parametrize("solver", [pl.GAUSS, pl.Tsit5(1e-4, 1e-4)])
@torch.no_grad()
def test_each_sample_has_its_own_condition(solver):
    model, x, y = network(classes=4), points(), torch.tensor([0, 1, 2, 3, 0, 1])
    nn.init.normal_(model.network.condition.label.table.weight, std=2.0)
    together = pl.log_prob(model.given(y), x, solver=solver, steps=5)
    alone = torch.cat([pl.log_prob(model.given(k), z[None], solver=solver, steps=5) for z, k in zip(x, y, strict=True)])
    torch.testing.assert_close(together, alone, atol=1e-3, rtol=0)  # steps of a tolerance of 1e-4, in float32
    assert (together - pl.log_prob(model.given(0), x, solver=solver, steps=5)).abs().max() > 1e-3
    guided = pl.ClassifierFree(model.given(y), model.given(None), 2.0)
    assert pl.log_prob(guided, x, steps=5).isfinite().all()


def test_modes_are_put_back_and_dropout_is_off():
    net = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.5), nn.SiLU(), nn.Linear(8, 3))

    class Timeless(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, x, t):
            return self.net(x)

    model = pl.NetworkField(Timeless(), LINEAR).train()
    first, second = (pl.log_prob(model, points(), steps=3) for _ in range(2))
    assert torch.equal(first, second)
    assert model.training and net[1].training
    assert first.requires_grad
    with torch.no_grad():
        assert not pl.log_prob(model, points(), steps=3).requires_grad


def test_inference_mode_does_not_make_derivatives_vanish():
    exact, x = field(), mixture().sample(3, seed=0)
    with torch.inference_mode():
        for y in (x, mixture().sample(3, seed=0)):
            torch.testing.assert_close(pl.log_prob(exact, y), mixture().log_prob(x), atol=1e-5, rtol=0)
        y, found = pl.sample_with_log_prob(exact, (3, 2), seed=1)
    torch.testing.assert_close(found, mixture().log_prob(y), atol=1e-5, rtol=0)


@pytest.mark.parametrize("divergence", ESTIMATORS)
def test_images_through_attention_and_normalisation_have_gradients(divergence):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        net = pl.UNet(1, 8, 2).double()
        nn.init.normal_(net.last[-1].weight, std=0.1)
    model, x = pl.NetworkField(net, LINEAR), Noise(8).normal((2, 1, 4, 4), dtype=torch.float64)

    def value(z):
        return pl.log_prob(model, z, solver=pl.EULER, steps=1, divergence=divergence, seed=1).sum()

    z = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(value(z), z)
    direction = Noise(9).like(x)
    with torch.no_grad():
        wanted = (value(x + 1e-5 * direction) - value(x - 1e-5 * direction)) / 2e-5
        assert value(x) == pytest.approx(float(value(z)), rel=1e-12)
    if not isinstance(divergence, pl.HutchPlusPlus):  # which holds its sketch fast
        assert float((slope * direction).sum()) == pytest.approx(float(wanted), rel=1e-5)


def test_a_function_without_a_derivative_has_no_divergence():
    class Constant(pl.Field):
        def __init__(self):
            super().__init__()
            self.path, self.prediction = LINEAR, pl.VELOCITY
            self.shift = nn.Parameter(torch.ones(3))

        def forward(self, x, t):
            return self.shift.expand_as(x)

    x = points()
    for divergence in ESTIMATORS:
        found = pl.log_prob(Constant(), x, steps=2, divergence=divergence, seed=0)
        torch.testing.assert_close(found, pl.Normal(torch.ones(3)).log_prob(x))


@torch.no_grad()
def test_where_memory_runs_out_the_same_is_found_in_smaller_batches():
    model, x = network(), points()
    whole = pl.log_prob(model, x, steps=2, divergence=pl.Hutchinson(2), seed=3)
    sizes = []

    class Small(pl.Field):
        def __init__(self):
            super().__init__()
            self.path, self.prediction, self.inner = LINEAR, pl.VELOCITY, model

        def forward(self, z, t):
            sizes.append(len(z))
            if len(z) > 2:
                raise torch.OutOfMemoryError("out of memory")
            return self.inner(z, t)

    torch.testing.assert_close(pl.log_prob(Small(), x, steps=2, divergence=pl.Hutchinson(2), seed=3), whole)
    assert sizes[:3] == [6, 3, 2]


@torch.no_grad()
def test_a_standard_error_is_that_of_the_probes():
    model, x = network(), points()
    value, error = pl.estimate_log_prob(model, x, steps=3)
    assert torch.equal(error, torch.zeros(6))
    torch.testing.assert_close(value, pl.log_prob(model, x, steps=3))
    value, error = pl.estimate_log_prob(model, x, steps=3, divergence=pl.Hutchinson(5), seed=1)
    torch.testing.assert_close(value, pl.log_prob(model, x, steps=3, divergence=pl.Hutchinson(5), seed=1))
    assert (error > 0).all()
    with pytest.raises(ValueError, match="divergence must make at least 2 estimates for a standard error, got Hutch"):
        pl.estimate_log_prob(model, x, divergence=pl.Hutchinson(1))


@torch.no_grad()
def test_half_precision_of_a_point_and_double_agree():
    x = mixture().sample(20, seed=2)
    torch.testing.assert_close(
        pl.log_prob(field().float(), x.float()).double(), mixture().log_prob(x), atol=1e-4, rtol=0
    )


@torch.no_grad()
def test_a_start_that_is_not_quite_noise_is_told():
    with pytest.warns(UserWarning, match=r"begins at t = 0 with 0.00657 data in it.* 0.0066 nats for each unit"):
        pl.log_prob(field(pl.VariancePreservingSchedule()), mixture().sample(2, seed=0), steps=3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pl.log_prob(field(pl.CosineSchedule()), mixture().sample(2, seed=0), steps=3)


@torch.no_grad()
def test_the_density_of_an_earlier_time():
    x = mixture().sample(20, seed=4)
    for t in (0.3, 0.8):
        torch.testing.assert_close(pl.log_prob(field(), x, stop=t), field().log_prob(x, t), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"x": torch.zeros(3, dtype=torch.int64)},
            r"x must be floating-point numbers of shape \(batch, \*shape\), got",
        ),
        (
            {"x": torch.zeros(3)},
            r"x must be floating-point numbers of shape \(batch, \*shape\), got torch.float32 \(3,",
        ),
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"stop": 0.0}, "times must go strictly one way"),
        ({"stop": 1.5}, "times must stay in"),
        ({"solver": pl.EulerMaruyama()}, "solver must be one for ODEs"),
        ({"divergence": pl.HutchPlusPlus(4, 1)}, "sketch must be at most the 3 numbers of a point, got 4"),
    ],
)
def test_what_does_not_fit_is_named(change, said):
    arguments = {"field": network(), "x": points()} | change
    with pytest.raises(ValueError, match=said):
        pl.log_prob(**arguments)


def test_a_path_from_samples_has_no_density_to_begin_at():
    exact = pl.MixtureBridgeField(mixture(), mixture(), pl.BridgePath())
    with pytest.raises(ValueError, match="field must be on a path from noise, whose density is known, got BridgePath"):
        pl.log_prob(exact, mixture().sample(2, seed=0))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: pl.Exact(0), "at_once must be at least 1"),
        (lambda: pl.Hutchinson(0), "probes must be at least 1"),
        (lambda: pl.HutchPlusPlus(0, 1), "sketch and probes must be at least 1"),
    ],
)
def test_counts_are_checked(make, said):
    with pytest.raises(ValueError, match=said):
        make()


def test_ways_to_a_divergence_have_names():
    assert list(catalogue(pl.Divergence)) == ["exact", "hutch-plus-plus", "hutchinson"]
    assert build(pl.Divergence, "hutchinson:16") == pl.Hutchinson(16)
    assert build(pl.Divergence, "hutch-plus-plus:4,8") == pl.HutchPlusPlus(4, 8)


def test_signs_are_even():
    signs = Noise(3).signs((1000, 40))
    assert set(signs.unique().tolist()) == {-1.0, 1.0}
    assert abs(float(signs.mean())) < 4.5 / math.sqrt(signs.numel())
    assert torch.equal(Noise(3).at(10).signs((5, 40)), signs[10:15])


@torch.no_grad()
def test_an_exact_divergence_draws_nothing():
    before = torch.get_rng_state()
    pl.log_prob(network(), points(), steps=2)
    assert torch.equal(torch.get_rng_state(), before)
    pl.log_prob(network(), points(), steps=2, divergence=pl.Hutchinson())
    assert not torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("divergence", [pl.Exact(), pl.Exact(1), pl.Hutchinson(3)])
def test_gradients_with_respect_to_points_weights_and_both_times_are_true(divergence):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        net = pl.MLP(2, 8, 1).double()
        nn.init.normal_(net.last.weight)
    model, x = pl.NetworkField(net, LINEAR), Noise(6).normal((3, 2), dtype=torch.float64).requires_grad_()
    start, stop = (torch.tensor(t, dtype=torch.float64, requires_grad=True) for t in (0.02, 0.97))

    def value(x, start, stop, *weights):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*takes for noise")
            return pl.log_prob(
                model, x, solver=pl.MIDPOINT, steps=3, divergence=divergence, seed=0, start=start, stop=stop
            )

    assert torch.autograd.gradcheck(value, (x, start, stop, net.first.weight, net.last.weight, net.last.bias))
