"""Sampling where numbers grow too large, or times too near to an end: said, with the step and the time, or right."""

import math
import warnings

import pytest
import torch

import pathline as pl
from pathline.fields.field import Field
from pathline.noise import Noise


def mixture_field(head=pl.VELOCITY, dtype=torch.float32):
    means = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    mixture = pl.GaussianMixture(means, torch.tensor([0.1, 0.1]), torch.tensor([0.5, 0.5]))
    return pl.MixtureField(mixture, pl.GaussianPath(pl.LinearSchedule()), head).to(dtype)


@pytest.mark.parametrize("sigma", [1e7, 1e20, 1e100])  # before: OverflowError, "cannot convert float infinity"
def test_a_sigma_too_large_for_its_steps_is_warned_of(sigma):
    with pytest.warns(UserWarning, match="sigma renews the spread of data .* take a smaller sigma"):
        x = pl.sample(mixture_field(), (50, 2), pl.SDESampler(sigma), steps=20, seed=1)
    assert x.isfinite().all()


@pytest.mark.parametrize("sigma", [1e200, lambda t: 1e200 * (1 - t)], ids=["number", "function"])
def test_a_sigma_whose_square_overflows_is_refused(sigma):  # before: OverflowError, "Numerical result out of range"
    with pytest.raises(ValueError, match=r"sigma must be at most 1e\+150"):
        pl.sample(mixture_field(), (5, 2), pl.SDESampler(sigma), steps=5, seed=1)


@pytest.mark.parametrize(
    "sigma",
    [lambda t: math.sqrt(1 - t), lambda t: math.exp(-float(t)) * (1 - t) ** 0.5 if t > 0.5 else 0.7, lambda t: 0.5],
    ids=["math", "if", "constant"],
)
@pytest.mark.parametrize("sampler", [pl.SDESampler, pl.ExponentialSDE], ids=lambda s: s.__name__)
def test_a_sigma_of_one_time_at_a_time_works(sigma, sampler):  # before: "only one element tensors can be converted"
    assert pl.sample(mixture_field(), (5, 2), sampler(sigma), steps=5, seed=1).isfinite().all()


def test_a_sigma_of_math_is_the_same_as_one_of_torch():
    one, other = (
        pl.sample(mixture_field(), (5, 2), pl.SDESampler(sigma), steps=9, seed=1)
        for sigma in (lambda t: math.sqrt(1 - t), lambda t: (1 - t).sqrt())
    )
    assert torch.allclose(one, other)


class Bursting(Field):
    """A field that is NaN from a time on, for the samples that begin above a height."""

    def __init__(self, height, time=0.5):
        super().__init__()
        self.path, self.prediction = pl.GaussianPath(pl.LinearSchedule()), pl.VELOCITY
        self.height, self.time = height, time

    def forward(self, x, t):
        return torch.where((x[:, :1] > self.height) & (t >= self.time), torch.nan, 0.0 * x)


@pytest.mark.parametrize("sampler", [pl.ODESampler(pl.EULER), pl.DDIM(), pl.default_sampler()], ids=str)
def test_all_samples_not_finite_are_an_error_that_names_step_and_time(sampler):  # before: NaN without a word
    times = sampler.times(Bursting(-9), 10)
    step = int((times[:-1] < 0.5).sum()) + (1 if sampler != pl.default_sampler() else 0)
    with pytest.raises(
        ValueError, match=rf"20 of 20 samples are not finite: sample 0 became so in step {step} of 10, "
    ):
        pl.sample(Bursting(-9), (20, 2), sampler, steps=10, seed=1)


def test_some_samples_not_finite_are_a_warning_that_names_the_first():
    start = torch.zeros(20, 2)
    start[7], start[11] = 1.0, 1.0
    told = r"2 of 20 samples are not finite: sample 7 became so in step 6 of 10, from t = 0.5 to 0.6"
    with pytest.warns(RuntimeWarning, match=told):
        x = pl.sample(Bursting(0.5), (20, 2), pl.ODESampler(pl.EULER), steps=10, seed=1, start=start)
    assert x[0].isfinite().all() and x[7].isnan().all()


@pytest.mark.parametrize("w", [1e6, 1e9, 1e30])  # before: NaN without a word
@pytest.mark.parametrize("sampler", [pl.ODESampler(), pl.default_sampler(), pl.DDIM(1.0)], ids=str)
def test_guidance_that_overflows_is_said(w, sampler):
    field = pl.ClassifierFree(mixture_field(), Far(), w)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        try:
            x = pl.sample(field, (20, 2), sampler, steps=50, seed=1)
        except ValueError as error:
            assert "samples are not finite" in str(error) and "t = " in str(error)
        else:
            assert x.isfinite().all() or any("not finite" in str(warning.message) for warning in told)


class Far(Field):
    """A velocity that pulls ever harder."""

    def __init__(self):
        super().__init__()
        self.path, self.prediction = pl.GaussianPath(pl.LinearSchedule()), pl.VELOCITY

    def forward(self, x, t):
        return -3 * x


def test_edit_and_invert_say_it_too():
    x = torch.ones(4, 2)
    with pytest.raises(ValueError, match="4 of 4 samples are not finite"):
        pl.invert(Bursting(-9), x, pl.DDIM(), 5)


NEAR = [(0.0, 1 - 1e-9), (1e-9, 1.0), (1e-8, 1 - 1e-10)]
SAMPLERS = [
    pl.ODESampler(),
    pl.DDIM(),
    pl.default_sampler(),
    pl.SDESampler(1.0),
    pl.ExponentialSDE(1.0),
    pl.AdaptiveSampler(),
]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:sigma renews")
@pytest.mark.parametrize("ends", NEAR, ids=str)
@pytest.mark.parametrize("head", [pl.DATA, pl.NOISE, pl.VELOCITY, pl.SCORE], ids=repr)
@pytest.mark.parametrize("sampler", SAMPLERS, ids=str)
def test_grids_that_almost_reach_an_end_are_right_in_float32(sampler, head, ends):
    """As in float64, or as the grid that reaches the end, up and down; before, up to 1e2 away from both."""
    whole = torch.linspace(0, 1, 11, dtype=torch.float64)
    almost = whole.clone()
    almost[0], almost[-1] = ends
    for is_down in (False, True):
        found = []
        for times, dtype in ((almost, torch.float32), (whole, torch.float32), (almost, torch.float64)):
            x = Noise(1).normal((20, 2), dtype=dtype)
            with torch.no_grad():
                *_, x = sampler.walk(mixture_field(head, dtype), x, times.flip(0) if is_down else times, Noise(2))
            found.append(x.double())
        assert min((found[0] - other).abs().max() for other in found[1:]) < 0.1  # they are other methods near the end


# before: 2.0 x at 50 and 2.1 x at 200 steps, as the last step, to pure data, was of order 1; on diffusers' own times,
# which end before, the two agree to three digits
@pytest.mark.parametrize(("steps", "most"), [(50, 1.5), (200, 0.8)])
def test_deis_errs_no_more_than_that_of_diffusers(steps, most):
    diffusers = pytest.importorskip("diffusers")
    angles = torch.tensor([0.0, 0.7, 1.7, 2.4, 3.5, 4.3, 5.5], dtype=torch.float64)
    weights = torch.tensor([1.0, 2.0, 3.0, 1.0, 4.0, 2.0, 3.0], dtype=torch.float64) / 16
    means = torch.stack((angles.cos(), angles.sin()), 1)
    schedule = pl.DiscreteSchedule((1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)).cumprod(0))
    field = pl.MixtureField(pl.GaussianMixture(means, torch.full((7,), 0.01), weights), pl.GaussianPath(schedule))
    x = Noise(0).normal((256, 2), dtype=torch.float64)

    def ours(sampler, steps):
        *_, end = sampler.walk(field, x, sampler.times(field, steps=steps))
        return end

    scheduler = diffusers.DEISMultistepScheduler(beta_start=1e-4, beta_end=0.02)
    scheduler.set_timesteps(steps)
    theirs = x.float()
    for k in scheduler.timesteps:
        noise = field.noise(theirs.double(), float(schedule.time_of_step(float(k))))
        theirs = scheduler.step(noise.float(), k, theirs).prev_sample
    truth = ours(pl.default_sampler(), 400)
    errors = [(end - truth).square().mean().sqrt() for end in (ours(pl.Multistep.deis(2), steps), theirs.double())]
    assert errors[0] < most * errors[1]
