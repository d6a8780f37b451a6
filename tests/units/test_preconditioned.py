"""EDM's preconditioning, against table 1 of Karras et al. 2022 written out: sigma is beta / alpha, the data's 0.5."""

import math

import pytest
import torch
from torch import nn

import pathline as pl
from pathline.noise import Noise

S = 0.5
VE = pl.VarianceExplodingSchedule(0.01, 20.0)


class Seen(nn.Module):
    """Remembers what it is given and answers with something that is not linear in it."""

    def forward(self, x, t, *y):
        self.given = (x, t, *y)
        return torch.tanh(x) + t.reshape(-1, *(1,) * (x.ndim - 1))


def field(schedule=VE, sigma_data=S):
    network = pl.Preconditioned(Seen(), schedule, sigma_data)
    return pl.NetworkField(network, pl.GaussianPath(schedule), pl.EDMPrediction(sigma_data))


@pytest.mark.fast
@pytest.mark.parametrize("shape", [(2,), (4,), (1, 4, 4)], ids=str)
@pytest.mark.parametrize("sigma_data", [0.5, 2.0])
def test_the_network_and_the_denoiser_are_those_of_table_1(shape, sigma_data):
    t = torch.tensor([0.0, 0.2, 0.7, 1.0], dtype=torch.float64)
    f = field(sigma_data=sigma_data)
    x = 3 * Noise(1).normal((4, *shape), dtype=torch.float64)
    denoised = f.data(x, t)
    scaled, c_noise = f.network.network.given
    for i, time in enumerate(t.tolist()):
        sigma = 20.0 * (0.01 / 20.0) ** time
        total = sigma**2 + sigma_data**2
        c_skip, c_out, c_in = sigma_data**2 / total, sigma * sigma_data / math.sqrt(total), 1 / math.sqrt(total)
        assert torch.allclose(scaled[i], c_in * x[i], rtol=1e-12)
        assert float(c_noise[i]) == pytest.approx(math.log(sigma) / 4, rel=1e-12)
        network = torch.tanh(c_in * x[i]) + math.log(sigma) / 4
        assert torch.allclose(denoised[i], c_skip * x[i] + c_out * network, rtol=1e-9, atol=1e-9)


@pytest.mark.fast
def test_a_point_scaled_by_alpha_is_the_same_to_the_network():
    # x = alpha (data + sigma noise): the network sees what it would see of x / alpha, whatever the schedule
    t, x = 0.4, Noise(1).normal((5, 2), dtype=torch.float64)
    for schedule in (pl.LinearSchedule(), pl.CosineSchedule(), pl.VariancePreservingSchedule()):
        c = schedule.at(torch.tensor(t, dtype=torch.float64))
        f, sigma = field(schedule), float(c.beta / c.alpha)
        denoised = f.data(x, t)
        scaled, c_noise = f.network.network.given
        assert torch.allclose(scaled, x / c.alpha / math.sqrt(sigma**2 + S**2), rtol=1e-12)
        assert torch.allclose(c_noise, torch.full_like(c_noise, math.log(sigma) / 4), rtol=1e-12)
        total = sigma**2 + S**2
        network = torch.tanh(scaled) + math.log(sigma) / 4
        expected = S**2 / total * x / c.alpha + sigma * S / math.sqrt(total) * network
        assert torch.allclose(denoised, expected, rtol=1e-9)


@pytest.mark.fast
@pytest.mark.parametrize("t", [0.0, 0.3, 0.8, 1.0])
@pytest.mark.parametrize(
    "schedule",
    [VE, pl.LinearSchedule(), pl.LinearSchedule(0.1), pl.CosineSchedule(), pl.SquareRootSchedule()],
    ids=repr,
)
def test_inputs_and_targets_are_of_unit_size_for_data_of_that_size(schedule, t):
    n = 40_000
    data, noise = S * Noise(1).normal((n, 1), dtype=torch.float64), Noise(2).normal((n, 1), dtype=torch.float64)
    f = field(schedule)
    point = f.path.point(noise, data, t)
    f(point.x, point.t)
    for value in (point.target(pl.EDMPrediction(S)), f.network.network.given[0]):
        assert abs(float((value**2).mean()) - 1) < 5 * math.sqrt(2 / n)


@pytest.mark.fast
def test_on_the_circle_with_data_of_unit_size_it_is_v_turned_around():
    data, noise = Noise(1).normal((2, 5, 2), dtype=torch.float64)
    point = pl.GaussianPath(pl.CosineSchedule()).point(noise, data, 0.3)
    assert torch.allclose(point.target(pl.EDMPrediction(1.0)), -point.target(pl.V), atol=1e-14)


@pytest.mark.fast
@pytest.mark.parametrize(("t", "end"), [(0.0, 10.0), (1.0, -10.0)])
def test_the_logarithm_of_the_noise_stays_finite_at_the_ends(t, end):
    f = field(pl.LinearSchedule())
    f(torch.ones(2, 1), torch.tensor([t, 0.5]))
    assert f.network.network.given[1].tolist() == [end, 0.0]


@pytest.mark.fast
def test_points_keep_their_dtype_and_times_are_not_rounded_to_it():
    f = field()
    f(torch.ones(3, 2, dtype=torch.bfloat16), torch.full((3,), 0.37))
    x, t = f.network.network.given
    assert x.dtype == torch.bfloat16 and t.dtype == torch.float32
    assert torch.allclose(t, torch.full((3,), math.log(20.0 * (0.01 / 20.0) ** 0.37) / 4))


@pytest.mark.fast
def test_conditions_pass_through():
    y = torch.tensor([2, 0])
    f, x = field(), torch.ones(2, 3)
    f.given(y).velocity(x, 0.5)
    assert torch.equal(f.network.network.given[2], y)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        inner = pl.MLP(3, 16, 1, classes=3)
        nn.init.normal_(inner.last.weight)
    network = pl.Preconditioned(inner, VE, S)
    f = pl.NetworkField(network, pl.GaussianPath(VE), pl.EDMPrediction(S))
    assert network.null == {"class": 3} and torch.equal(f.null["class"], torch.tensor([3]))
    assert not torch.equal(f.given(1).velocity(x, 0.5), f.given(None).velocity(x, 0.5))
    kept = pl.MatchingLoss(f, drop=0.5).dropped(torch.zeros(100).long(), 0, 100)
    assert set(kept["class"].tolist()) == {0, 3}
    guided = pl.ClassifierFree(f.given(1), f.given(None), 2.0).velocity(x, 0.5)
    assert torch.allclose(guided, 2 * f.given(1).velocity(x, 0.5) - f.given(None).velocity(x, 0.5), atol=1e-3)


@pytest.mark.fast
def test_a_network_without_conditions_is_refused_one():
    network = pl.Preconditioned(pl.MLP(3, 16, 1), VE, S)
    with pytest.raises(ValueError, match="takes no condition"):
        pl.NetworkField(network, pl.GaussianPath(VE), pl.EDMPrediction(S)).given(1)


@pytest.mark.fast
@pytest.mark.parametrize("sigma_data", [0.0, -1.0, math.nan])
def test_data_without_a_size_is_refused(sigma_data):
    for make in (lambda: pl.Preconditioned(Seen(), VE, sigma_data), lambda: pl.EDMPrediction(sigma_data)):
        with pytest.raises(ValueError, match="sigma_data must be positive"):
            make()


@pytest.mark.fast
def test_predictions_of_unlike_sizes_are_unlike():
    assert pl.EDMPrediction(0.5) == pl.EDMPrediction() != pl.EDMPrediction(0.25)
    assert repr(pl.EDMPrediction(0.25)) == "EDMPrediction(0.25)"
    assert len({pl.EDMPrediction(0.5), pl.EDMPrediction(0.5), pl.EDMPrediction(0.5 + 1e-12)}) == 2


def test_training_reaches_the_least_loss_and_samples_the_data():
    mixture = pl.GaussianMixture(torch.tensor([[-0.5], [0.4]]), torch.tensor([0.01, 0.04]), torch.tensor([0.3, 0.7]))
    schedule = pl.VarianceExplodingSchedule(0.02, 20.0)
    path, head = pl.GaussianPath(schedule), pl.EDMPrediction(S)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        trained = pl.NetworkField(pl.Preconditioned(pl.MLP(1, 32, 2), schedule, S), path, head)
    loss, ema = pl.MatchingLoss(trained), pl.EMA(trained, 0.98)
    data, held_out = mixture.sample(20_000, seed=0), mixture.sample(20_000, seed=1)
    for _ in pl.train(
        loss, data, steps=500, batch_size=512, learning_rate=5e-3, lr_schedule=pl.warmup_cosine(), ema=ema
    ):
        pass
    with ema.applied():
        after = pl.loss_by_time(loss, held_out, bins=5).double()
        x = pl.sample(trained, (4000, 1), steps=40, seed=2)
    floor = pl.verify.loss_floor_by_time(pl.MixtureField(mixture, path), head, bins=5, draws=40_000).value
    assert ((after - floor).abs() < 0.05 * floor + 0.02).all()
    assert float(pl.energy_distance(x, mixture.sample(4000, seed=3))) < 5e-3
