"""Somebody else's network as a field: the steps of its own samplers, and the truth where that is known."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"

import copy
import math
import re
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import diffusers
import numpy as np
import pytest
import torch
from diffusers.models.transformers.dit_transformer_2d import DiTTransformer2DModel
from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel
from diffusers.models.transformers.transformer_sd3 import SD3Transformer2DModel
from diffusers.models.unets.unet_2d import UNet2DModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from flow_matching.path import scheduler as theirs
from flow_matching.solver import ODESolver
from flow_matching.utils import ModelWrapper
from scipy.interpolate import CubicSpline
from torch import nn

import pathline as pl
from pathline.fields.adapters import schedule_of, times_of
from pathline.fields.discrete import DiscreteSchedule, EDMSchedule, StraightVariancePreservingSchedule
from pathline.fields.foreign import ForeignField
from pathline.verify import check_field, check_schedule

STATES = ("alphas_cumprod", "final_alpha_cumprod", "alphas", "betas", "one", "sigmas")
UNET = {
    "sample_size": 8,
    "layers_per_block": 1,
    "block_out_channels": (8, 8),
    "norm_num_groups": 4,
    "attention_head_dim": 4,
}
DIT = {"num_attention_heads": 2, "attention_head_dim": 4, "num_layers": 1, "sample_size": 4, "norm_num_groups": 4}


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def trained(make, **config):
    """A tiny random network of diffusers; what begins at zero is drawn too, so that nothing is left out."""
    torch.manual_seed(0)
    model = make(**config).double().eval()
    with torch.no_grad():
        for p in model.parameters():
            if not p.any():
                p.normal_(std=0.3)
    return model


@pytest.fixture(scope="module")
def unet():
    blocks = {"down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2}
    return trained(UNet2DModel, in_channels=1, out_channels=1, **UNET, **blocks)


@pytest.fixture(scope="module")
def prompted():
    blocks = {
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    }
    return trained(UNet2DConditionModel, in_channels=2, out_channels=2, cross_attention_dim=6, **UNET, **blocks)


@pytest.fixture(scope="module")
def dit():
    return trained(DiTTransformer2DModel, in_channels=2, out_channels=4, num_embeds_ada_norm=5, **DIT)


@pytest.fixture(scope="module")
def sd3():
    sizes = {"joint_attention_dim": 6, "caption_projection_dim": 8, "pooled_projection_dim": 5, "pos_embed_max_size": 4}
    config = {key: value for key, value in DIT.items() if key != "norm_num_groups"}
    return trained(SD3Transformer2DModel, in_channels=2, out_channels=2, **config, **sizes)


def double(scheduler):
    """A scheduler whose tables, made in float32, are calculated with in float64."""
    for name in STATES:
        if isinstance(value := getattr(scheduler, name, None), torch.Tensor):
            setattr(scheduler, name, value.double())
    return scheduler


def peer(scheduler, model, x, *extra, **conditions):
    """Their own loop, as in their pipelines."""
    with torch.no_grad():
        for t in scheduler.timesteps:
            point = scheduler.scale_model_input(x, t) if hasattr(scheduler, "scale_model_input") else x
            answer = model(point, timestep=t.expand(len(x)), **conditions).sample
            x = scheduler.step(answer[:, : x.shape[1]], t, x, *extra).prev_sample
    return x


def ours(field, x, times, sampler=None):
    with torch.no_grad():
        *_, end = (sampler or pl.DDIM()).walk(field, x, times)
    return end


def near(a, b, tolerance):
    error = float((a - b).detach().abs().max())
    assert error <= tolerance * max(1.0, float(b.detach().abs().max())), error


# Their samplers


@pytest.mark.parametrize("kind", ["epsilon", "sample", "v_prediction"])
@pytest.mark.parametrize("betas", ["linear", "scaled_linear", "squaredcos_cap_v2"])
@pytest.mark.parametrize("spacing", ["leading", "trailing"])
@pytest.mark.parametrize("to_one", [True, False])
def test_ddim_of_diffusers(unet, kind, betas, spacing, to_one):
    scheduler = diffusers.DDIMScheduler(
        beta_schedule=betas,
        prediction_type=kind,
        timestep_spacing=spacing,
        set_alpha_to_one=to_one,
        clip_sample=False,
        steps_offset=int(spacing == "leading"),
    )
    double(scheduler).set_timesteps(5)
    x = draw(2, 1, 8, 8)
    field = ForeignField.from_diffusers(unet, scheduler)
    near(ours(field, x, times_of(scheduler)), peer(scheduler, unet, x), 1e-10)


def test_ddim_as_it_comes_in_float32(unet):
    model, scheduler = copy.deepcopy(unet).float(), diffusers.DDIMScheduler(clip_sample=False)
    scheduler.set_timesteps(10)
    x = draw(2, 1, 8, 8, dtype=torch.float32)
    near(ours(ForeignField.from_diffusers(model, scheduler), x, times_of(scheduler)), peer(scheduler, model, x), 1e-5)


def test_ddim_of_a_table_that_ends_at_no_data(unet):
    scheduler = diffusers.DDIMScheduler(
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        rescale_betas_zero_snr=True,
        clip_sample=False,
    )
    double(scheduler).set_timesteps(5)
    x = draw(2, 1, 8, 8)
    field = ForeignField.from_diffusers(unet, scheduler)
    assert field.path.schedule.ends == ((0.0, 1.0), (1.0, 0.0))
    near(ours(field, x, times_of(scheduler)), peer(scheduler, unet, x), 1e-10)


@pytest.mark.parametrize("eta", [0.5, 1.0])
def test_ddim_with_noise_and_ancestral_sampling(unet, eta, monkeypatch):
    scheduler = diffusers.DDIMScheduler(clip_sample=False, timestep_spacing="trailing")
    double(scheduler).set_timesteps(5)
    x, field = draw(2, 1, 8, 8), ForeignField.from_diffusers(unet, scheduler)
    drawn = []
    monkeypatch.setattr(
        "pathline.sampling.renewal.renewed",
        lambda to, kept, data, old, noise, gap: _renewed(to, kept, data, old, drawn),
    )
    end = ours(field, x, times_of(scheduler), pl.DDIM(eta))
    it = iter([*drawn, torch.zeros_like(x)])  # nothing is drawn in the last step
    point = x
    with torch.no_grad():
        for t in scheduler.timesteps:
            point = scheduler.step(unet(point, t).sample, t, point, eta, variance_noise=next(it)).prev_sample
    near(end, point, 1e-10)


def _renewed(to, kept, data, old, drawn):
    if to.beta:
        drawn.append(draw(*old.shape, seed=len(drawn) + 1))
        old = kept * old + (1 - kept**2) ** 0.5 * drawn[-1]
    return to.alpha * data + to.beta * old


def test_ddpm_is_ddim_that_renews_all_noise(unet, monkeypatch):
    scheduler = diffusers.DDPMScheduler(clip_sample=False, timestep_spacing="linspace")
    double(scheduler).set_timesteps(7)  # of no even gaps
    x, drawn = draw(2, 1, 8, 8), []
    monkeypatch.setattr(
        "pathline.sampling.renewal.renewed",
        lambda to, kept, data, old, noise, gap: _renewed(to, kept, data, old, drawn),
    )
    end = ours(ForeignField.from_diffusers(unet, scheduler), x, times_of(scheduler), pl.DDIM(1.0))
    it = iter(drawn)
    monkeypatch.setattr("diffusers.schedulers.scheduling_ddpm.randn_tensor", lambda *a, **b: next(it))
    near(end, peer(scheduler, unet, x), 1e-10)


def test_euler_in_the_ratio_of_noise_to_data(unet):
    scheduler = diffusers.EulerDiscreteScheduler(timestep_spacing="trailing", beta_schedule="scaled_linear")
    field = ForeignField.from_diffusers(unet, scheduler)
    scheduler.set_timesteps(5)
    model, x = copy.deepcopy(unet).float(), draw(2, 1, 8, 8, dtype=torch.float32)  # its step is in float32
    alpha = field.path.schedule.ends[0][0]
    field = ForeignField.from_diffusers(model, scheduler)
    near(ours(field, x, times_of(scheduler)), peer(scheduler, model, x / alpha), 1e-5)


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_flow_of_diffusers_in_a_unet(unet, shift):
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(6)
    model, x = copy.deepcopy(unet).float(), draw(2, 1, 8, 8, dtype=torch.float32)  # its step is in float32
    field, times, truth = ForeignField.from_diffusers(model, scheduler), times_of(scheduler), peer(scheduler, model, x)
    for sampler in (pl.DDIM(), pl.ODESampler(pl.EULER)):
        near(ours(field, x, times, sampler), truth, 1e-5)


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_flow_of_diffusers_in_a_transformer(sd3, shift):
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(6)
    model, x = copy.deepcopy(sd3).float(), draw(2, 2, 4, 4, dtype=torch.float32)
    y = {"encoder_hidden_states": draw(2, 3, 6).float(), "pooled_projections": draw(2, 5).float()}
    field = ForeignField.from_diffusers(model, scheduler).given(y)
    near(ours(field, x, times_of(scheduler), pl.ODESampler(pl.EULER)), peer(scheduler, model, x, **y), 1e-5)


def test_flow_network_that_is_asked_by_the_noise_level():
    sizes = {"attention_head_dim": 8, "num_attention_heads": 2, "joint_attention_dim": 6, "pooled_projection_dim": 5}
    model = trained(
        FluxTransformer2DModel, in_channels=4, num_layers=1, num_single_layers=1, axes_dims_rope=(2, 2, 4), **sizes
    )
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
    ids = {"img_ids": torch.arange(12.0).reshape(4, 3), "txt_ids": torch.zeros(3, 3)}
    y = {"encoder_hidden_states": draw(2, 3, 6), "pooled_projections": draw(2, 5)}
    field = ForeignField.from_diffusers(model, scheduler, keywords=ids).given(y)
    x = draw(2, 4, 4)
    with torch.no_grad():  # their pipeline divides the scheduler's timestep by 1000
        truth = -model(x, timestep=torch.full((2,), 700.0).double() / 1000, **y, **ids).sample
        near(field.velocity(x, 0.3), truth, 1e-12)


def test_class_labels_and_a_learned_variance(dit):
    scheduler = diffusers.DDIMScheduler(clip_sample=False)
    double(scheduler).set_timesteps(5)
    x, labels = draw(3, 2, 4, 4), torch.tensor([0, 4, 2])
    field = ForeignField.from_diffusers(dit, scheduler)
    truth = peer(scheduler, dit, x, class_labels=labels)
    near(ours(field.given({"class_labels": labels}), x, times_of(scheduler)), truth, 1e-10)
    near(ours(field.given({"class_labels": labels.tolist()}), x, times_of(scheduler)), truth, 1e-10)
    free = peer(scheduler, dit, x, class_labels=torch.full((3,), 5))  # theirs has a row for no class
    for null in (field, field.given(None), field.given({"class_labels": 5})):
        near(ours(null, x, times_of(scheduler)), free, 1e-10)


@pytest.mark.parametrize("one", [True, False])
def test_guidance_is_their_pipelines(prompted, one):
    scheduler = diffusers.DDIMScheduler(beta_schedule="scaled_linear", clip_sample=False, steps_offset=1)
    double(scheduler).set_timesteps(5)
    x, text, empty, w = draw(2, 2, 8, 8), draw(2, 3, 6, seed=1), draw(1, 3, 6, seed=2), 4.0
    text = text[:1] if one else text
    field = ForeignField.from_diffusers(prompted, scheduler)
    known = ForeignField.from_diffusers(prompted, scheduler, null={"encoder_hidden_states": empty[0]})
    point = x
    with torch.no_grad():
        for t in scheduler.timesteps:
            free, given = (prompted(point, t, encoder_hidden_states=h.expand(2, 3, 6)).sample for h in (empty, text))
            point = scheduler.step(free + w * (given - free), t, point).prev_sample
    bound = field.given({"encoder_hidden_states": text})
    calls = []
    hook = prompted.register_forward_pre_hook(lambda module, args, kwargs: calls.append(1), with_kwargs=True)
    for null in (field.given({"encoder_hidden_states": empty}), known.given(None)):
        calls.clear()
        pair = pl.ClassifierFree(bound, null, w)
        near(ours(pair, x, times_of(scheduler)), point, 1e-10)
        if null.field is bound.field:
            assert len(calls) == 5  # both conditions in one call of the network
    hook.remove()
    near(pair.take(torch.tensor([1])).noise(x[1:], 0.4), pair.noise(x, 0.4)[1:], 1e-10)
    near(pair.repeat(2).noise(torch.cat((x, x)), 0.4), pair.noise(x, 0.4).repeat(2, 1, 1, 1), 1e-10)


class Net(ModelWrapper):
    """A small random model of flow_matching; y is a condition."""

    def __init__(self):
        super().__init__(None)
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 2)).double()

    def forward(self, x, t, y=0.0, **extras):
        y = torch.as_tensor(y, dtype=x.dtype).expand(len(x))
        return self.layers(torch.cat((x, t.expand(len(x))[:, None], y[:, None]), 1))


@pytest.mark.parametrize("method, solver", [("euler", pl.EULER), ("midpoint", pl.MIDPOINT)])
@pytest.mark.parametrize("y", [None, 1.0, [0.0, 1.0, 2.0]])
def test_flow_matching(method, solver, y):
    model, x = Net(), draw(3, 2)
    extra = {} if y is None else {"y": torch.tensor(y, dtype=torch.float64)}
    grid = torch.tensor([0.0, 1.0], dtype=torch.float64)
    truth = ODESolver(model).sample(x, step_size=0.125, method=method, time_grid=grid, **extra)
    field = ForeignField.from_flow_matching(model)
    field = field if y is None else field.given({"y": y})
    near(ours(field, x, torch.linspace(0, 1, 9, dtype=torch.float64), pl.ODESampler(solver)), truth, 1e-10)


@pytest.mark.parametrize(
    "scheduler, schedule",
    [
        (theirs.CondOTScheduler(), pl.LinearSchedule()),
        (theirs.CosineScheduler(), pl.CosineSchedule()),
        (theirs.PolynomialConvexScheduler(3), pl.PolynomialSchedule(3)),
        (theirs.PolynomialConvexScheduler(1.0), pl.LinearSchedule()),
        (theirs.VPScheduler(), pl.VariancePreservingSchedule()),
        (theirs.VPScheduler(0.2, 9.0), pl.VariancePreservingSchedule(0.2, 9.0)),
        (theirs.LinearVPScheduler(), StraightVariancePreservingSchedule()),
    ],
)
def test_schedulers_of_flow_matching(scheduler, schedule):
    t = torch.linspace(0.01, 0.99, 50, dtype=torch.float64)
    assert schedule_of(scheduler) == schedule
    row = scheduler(t)
    for a, b in zip(schedule.at(t), (row.alpha_t, row.sigma_t, row.d_alpha_t, row.d_sigma_t), strict=True):
        near(a, b, 1e-10)


def test_a_scheduler_that_we_do_not_have_is_read_as_it_is():
    class Squared(theirs.CondOTScheduler):
        def __call__(self, t):
            return theirs.SchedulerOutput(alpha_t=t**2, sigma_t=(1 - t) ** 2, d_alpha_t=2 * t, d_sigma_t=-2 * (1 - t))

    t = torch.linspace(0, 1, 11, dtype=torch.float64)
    c = ForeignField.from_flow_matching(Net(), Squared()).path.schedule.at(t)
    for a, b in zip(c, (t**2, (1 - t) ** 2, 2 * t, 2 * t - 2), strict=True):
        near(a, b, 1e-12)


class Denoiser(nn.Module):
    """A small random denoiser between EDM's scalings, D = c_skip x + c_out F(c_in x, log(sigma) / 4)."""

    def __init__(self, sigma_data=0.5):
        super().__init__()
        torch.manual_seed(0)
        self.sigma_data = sigma_data
        self.inner = nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Linear(16, 2)).double()

    def forward(self, x, sigma, class_labels=None):
        s, d = sigma[:, None], self.sigma_data
        total = s**2 + d**2
        noise = s.log() / 4 + (0 if class_labels is None else class_labels[:, None])
        raw = self.inner(torch.cat((x / total.sqrt(), noise), 1))
        return d**2 / total * x + s * d / total.sqrt() * raw


def karras_heun(denoise, x, sigmas):
    """Algorithm 1 of https://arxiv.org/abs/2206.00364 for sigma(t) = t, s(t) = 1; `x` holds its noise already."""
    for t, s in pairwise(sigmas):
        d = (x - denoise(x, t)) / t
        ahead = x + (s - t) * d
        x = ahead if s == 0 else x + (s - t) * (d + (ahead - denoise(ahead, s)) / s) / 2
    return x


@pytest.mark.parametrize("high", [80.0, 20.0])
@pytest.mark.parametrize("labels", [None, torch.tensor([0.0, 1.0, 2.0])])
def test_heun_of_edm(high, labels):
    network, steps = Denoiser(), 12
    i = torch.arange(steps, dtype=torch.float64)
    sigmas = (high ** (1 / 7) + i / (steps - 1) * (0.002 ** (1 / 7) - high ** (1 / 7))) ** 7  # equation 5
    sigmas = torch.cat((sigmas, torch.zeros(1)))
    x = high * draw(3, 2)
    with torch.no_grad():
        truth = karras_heun(lambda x, sigma: network(x, sigma.expand(len(x)), labels), x, sigmas)
    field = ForeignField.from_edm(network, high)
    field = field if labels is None else field.given({"class_labels": labels})
    near(ours(field, x, 1 - sigmas / high, pl.ODESampler(pl.HEUN)), truth, 1e-10)
    sampler = pl.ODESampler(pl.HEUN, grid=pl.KarrasGrid(7.0, 0.002, high))  # and so from the grid alone
    near(pl.sample(field, tuple(x.shape), sampler, steps=steps, start=x), truth, 1e-8)


class Raw(nn.Module):
    """Asked as diffusers asks: its point scaled, its time given."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.config = inner, {"in_channels": 2, "out_channels": 2}

    def forward(self, sample, timestep):
        return SimpleNamespace(sample=self.inner(torch.cat((sample, timestep.expand(len(sample))[:, None]), 1)))


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("end", ["zero", "sigma_min"])
def test_edm_of_diffusers(kind, end):
    scheduler = diffusers.EDMEulerScheduler(prediction_type=kind, sigma_max=20.0, final_sigmas_type=end)
    scheduler.set_timesteps(8)
    model = Raw(Denoiser().inner.float())
    field, x = ForeignField.from_diffusers(model, scheduler), 20 * draw(3, 2).float()  # its step is in float32
    near(ours(field, x, times_of(scheduler), pl.ODESampler(pl.EULER)), peer(scheduler, model, x), 1e-5)


def test_a_denoiser_on_another_path_is_the_same_field():
    network, x = Denoiser(), draw(3, 2)
    field, other = ForeignField.from_edm(network), ForeignField.from_edm(network, schedule=pl.LinearSchedule())
    for t in (0.2, 0.5, 0.9):  # the point x of one is x / t of the other, where the noise is (1 - t) / t
        at = 1 - (1 - t) / t / 80
        near(other.data(x, t), field.data(x / t, at), 1e-12)
        near(other.score(x, t), field.score(x / t, at) / t, 1e-10)


# The table of discrete steps


def tables():
    linear = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    zero = diffusers.DDIMScheduler(beta_schedule="scaled_linear", rescale_betas_zero_snr=True).alphas_cumprod
    cosine = diffusers.DDIMScheduler(beta_schedule="squaredcos_cap_v2").alphas_cumprod
    return {"linear": (1 - linear).cumprod(0), "cosine": cosine, "zero": zero, "few": [0.99, 0.9, 0.5, 0.1]}


@pytest.mark.parametrize("name", ["linear", "cosine", "zero", "few"])
def test_a_discrete_schedule_is_its_table(name):
    bars = torch.as_tensor(tables()[name], dtype=torch.float64)
    schedule = DiscreteSchedule(bars)
    t = schedule.time_of_step(torch.arange(len(bars)))
    near(schedule.alpha(t) ** 2, bars, 1e-12)
    near(schedule.beta(t) ** 2, 1 - bars, 1e-12)
    near(t, torch.tensor([1 - (k + 1) / len(bars) for k in range(len(bars))], dtype=torch.float64), 1e-12)
    ends = torch.tensor([0.0, 1.0], dtype=torch.float64)
    near(torch.stack((schedule.alpha(ends), schedule.beta(ends)), 1), torch.tensor(schedule.ends, dtype=t.dtype), 1e-15)
    assert float(schedule.beta(ends[1])) == 0
    fine = torch.linspace(0, 1, 20 * len(bars) + 1, dtype=torch.float64)
    assert (schedule.alpha(fine).diff() > 0).all() and (schedule.beta(fine).diff() < 0).all()
    assert schedule.variance_slope(ends).isfinite().all()


@pytest.mark.slow
def test_a_discrete_schedule_keeps_the_laws():
    check_schedule(DiscreteSchedule(tables()["linear"])).raise_if_broken()


@pytest.mark.parametrize("name", ["zero", "cosine", "few", "EDM", "straight"])
def test_the_others_keep_those_that_are_quick(name):
    other = {"EDM": EDMSchedule(80.0), "straight": StraightVariancePreservingSchedule()}
    schedule = other[name] if name in other else DiscreteSchedule(tables()[name])
    check_schedule(schedule, only=(1, 4, 5, 6, 7, 12)).raise_if_broken()


def test_between_the_steps_it_is_smooth():
    rates = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    log = torch.cat((torch.zeros(1), (1 - rates).log().cumsum(0)))
    k = torch.linspace(-1, 999, 7777, dtype=torch.float64)
    truth = torch.from_numpy(np.exp(CubicSpline(np.arange(-1, 1000), log)(k.numpy()) / 2))
    assert float((DiscreteSchedule(tables()["linear"]).alpha(1 - (k + 1) / 1000) - truth).abs().max()) < 1e-6


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_the_steps_are_asked_at_exactly(dtype):
    seen = []

    class Watch(nn.Module):
        config = SimpleNamespace(in_channels=1, out_channels=1)

        def forward(self, sample, timestep):
            seen.append(timestep)
            return sample

    scheduler = diffusers.DDIMScheduler()
    field = ForeignField.from_diffusers(Watch(), scheduler)
    t = field.path.schedule.time_of_step(torch.arange(1000))
    field.noise(torch.zeros(1000, 1, dtype=dtype), t)
    assert seen[0].tolist() == list(range(1000)) and seen[0].dtype == torch.promote_types(dtype, torch.float32)
    between = field.path.schedule.timestep(torch.tensor([0.12345, 1.0], dtype=torch.float64))
    near(between, torch.tensor([875.55, -1.0], dtype=torch.float64), 1e-12)


@pytest.mark.parametrize("steps", [3, 10, 1000])
@pytest.mark.parametrize("to_one", [True, False])
def test_times_of_a_scheduler(steps, to_one):
    scheduler = diffusers.DDIMScheduler(set_alpha_to_one=to_one, timestep_spacing="trailing")
    scheduler.set_timesteps(steps)
    times = times_of(scheduler)
    last = [1.0] if to_one else [0.999]
    near(times, torch.tensor([1 - (int(k) + 1) / 1000 for k in scheduler.timesteps] + last).double().unique(), 1e-7)
    assert times.dtype == torch.float64 and (times.diff() > 0).all()


def test_times_of_schedulers_that_stand_twice_at_a_step():
    for make in (diffusers.HeunDiscreteScheduler, diffusers.FlowMatchHeunDiscreteScheduler):
        scheduler = make()
        scheduler.set_timesteps(6)
        times = times_of(scheduler)
        assert len(times) == 7 and (times.diff() > 0).all() and times[-1] == 1


# A model whose truth is known

MEANS = torch.tensor([[1.0, 0.5], [-1.0, -0.5], [0.3, -1.2]], dtype=torch.float64)
SCALES = torch.tensor([0.3, 0.4, 0.2], dtype=torch.float64)
WEIGHTS = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
TRUTH = pl.GaussianMixture(MEANS, SCALES**2, WEIGHTS)


def expected(x, alpha, beta):
    """E[data | x] and E[noise | x] of the mixture, for scales of shape `(batch, 1)`."""
    variance = (alpha * SCALES) ** 2 + beta**2
    off = x[:, None] - alpha[..., None] * MEANS
    joint = WEIGHTS.log() - (off**2).sum(-1) / variance / 2 - variance.log()
    r = joint.softmax(-1)[..., None]
    data = MEANS + (alpha * SCALES**2 / variance)[..., None] * off
    return (r * data).sum(1), (r * (beta / variance)[..., None] * off).sum(1)


def log_density(x, alpha, beta):
    """log p of alpha data + beta noise, in nats."""
    return pl.GaussianMixture(alpha * MEANS, (alpha * SCALES) ** 2 + beta**2, WEIGHTS).log_prob(x)


class Exact(nn.Module):
    """A peer's network that predicts exactly: what a trained one would be without error."""

    def __init__(self, kind, bars=None):
        super().__init__()
        self.kind, self.config = kind, SimpleNamespace(in_channels=2, out_channels=2)
        self.register_buffer("own", torch.zeros(1, dtype=torch.float64))
        if bars is not None:
            log = np.concatenate(([0], np.log(np.asarray(bars, dtype=float))))
            self.log = CubicSpline(np.arange(-1, len(bars)), log)

    def scales(self, time):
        if self.kind == "flow":
            return 1 - time / 1000, time / 1000
        alpha = torch.from_numpy(np.exp(self.log(time.detach().numpy()) / 2))
        return alpha, (1 - alpha**2).sqrt()

    def forward(self, sample, timestep, return_dict=True):
        alpha, beta = (value[:, None] for value in self.scales(timestep.expand(len(sample))))
        data, noise = expected(sample, alpha, beta)
        made = {"epsilon": noise, "sample": data, "v_prediction": alpha * noise - beta * data, "flow": noise - data}
        return SimpleNamespace(sample=made[self.kind])


class ExactDenoiser(nn.Module):
    """The same for EDM: D(x, sigma)."""

    def __init__(self):
        super().__init__()
        self.register_buffer("own", torch.zeros(1, dtype=torch.float64))

    def forward(self, x, sigma, class_labels=None):
        return expected(x, torch.ones_like(sigma)[:, None], sigma[:, None])[0]


class ExactVelocity(nn.Module):
    """The same for flow_matching, on the path of a scheduler."""

    def __init__(self, scheduler):
        super().__init__()
        self.scheduler = scheduler
        self.register_buffer("own", torch.zeros(1, dtype=torch.float64))

    def forward(self, x, t):
        c = self.scheduler(t.expand(len(x))[:, None])
        data, noise = expected(x, c.alpha_t, c.sigma_t)
        return c.d_alpha_t * data + c.d_sigma_t * noise


def exact(kind):
    """A field of an exact network, and what it may be off by between steps."""
    if kind == "edm":
        return ForeignField.from_edm(ExactDenoiser())
    if kind == "edm, even in log":
        return ForeignField.from_edm(ExactDenoiser(), schedule=pl.VarianceExplodingSchedule())
    if kind == "flow_matching":
        return ForeignField.from_flow_matching(ExactVelocity(theirs.CosineScheduler()), theirs.CosineScheduler())
    if kind == "flow":
        scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
        return ForeignField.from_diffusers(Exact(kind), scheduler, time=lambda t: 1000 * (1 - t))
    scheduler = double(diffusers.DDIMScheduler(prediction_type=kind))
    return ForeignField.from_diffusers(Exact(kind, scheduler.alphas_cumprod), scheduler)


COUNT, STEPS = 4000, 100
KINDS = ["epsilon", "sample", "v_prediction", "flow", "flow_matching", "edm"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_score_is_the_gradient_of_the_log_density(kind):
    field = exact(kind)
    for t, tolerance in ((0.25, 1e-8), (0.8, 1e-8), (0.99, 1e-8), (0.50037, 1e-8)):
        c = field.path.schedule.at(torch.tensor(t, dtype=torch.float64))
        x = (c.alpha * TRUTH.sample(20, seed=1).double() + c.beta * draw(20, 2)).requires_grad_()
        (truth,) = torch.autograd.grad(log_density(x, c.alpha, c.beta).sum(), x)
        near(field.score(x, t), truth, tolerance)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sigma", [0.0, 1.0], ids=["ode", "sde"])
def test_samples_have_the_law_of_the_data(kind, sigma):
    if kind.startswith("edm"):
        sampler = pl.SDESampler(pl.BetaSigma(sigma), grid=pl.KarrasGrid(low=0.01))
    else:
        sampler = pl.SDESampler(pl.BetaSigma(2 * sigma))
    samples = pl.sample(exact(kind), (COUNT, 2), sampler, steps=STEPS, seed=3)
    mean = WEIGHTS @ MEANS
    off = MEANS - mean
    covariance = torch.diag((WEIGHTS * SCALES**2).sum().expand(2)) + (off.T * WEIGHTS) @ off
    _, vectors = torch.linalg.eigh(covariance)
    variances = (vectors.T @ covariance @ vectors).diagonal()
    white = (samples.double() - mean) @ vectors / variances.sqrt()
    # 5.3 standard errors of each of 48 normal figures: a false alarm in 6e-6 of all; 0.01 is for the steps
    assert (white.mean(0).abs() < 5.3 / math.sqrt(COUNT) + 0.01).all(), white.mean(0)
    fourth = (white**4).mean(0)
    assert ((white.var(0) - 1).abs() < 5.3 * ((fourth - 1) / COUNT).sqrt() + 0.01).all(), white.var(0)


@pytest.mark.parametrize("kind", [*KINDS, "edm, even in log"])
def test_the_log_likelihood_is_the_truth(kind):
    field, x = exact(kind), TRUTH.sample(20, seed=2).double()
    settings = {"solver": pl.Dopri5(rtol=1e-6, atol=1e-6)} if kind == "edm" else {"steps": 100}
    if kind in ("flow", "flow_matching"):
        found = pl.log_prob(field, x, **settings)
    else:
        with pytest.warns(UserWarning, match="begins at t = 0 with"):
            found = pl.log_prob(field, x, **settings)
    alpha, beta = field.path.schedule.ends[1]
    tolerance = 1e-5 if kind.startswith("flow") else 4e-3 if kind.startswith("edm") else 2e-3
    near(found, log_density(x, torch.tensor(alpha).double(), torch.tensor(beta).double()), tolerance)


def test_a_likelihood_through_a_transformer(sd3):
    y = {"encoder_hidden_states": draw(1, 3, 6), "pooled_projections": draw(1, 5)}
    field, x = ForeignField.from_diffusers(sd3, diffusers.FlowMatchEulerDiscreteScheduler()).given(y), draw(2, 2, 4, 4)
    with torch.no_grad():
        truth = pl.log_prob(field, x, steps=5)
        estimate, error = pl.estimate_log_prob(field, x, steps=5, divergence=pl.Hutchinson(64), seed=0)
    assert ((estimate - truth).abs() < 6 * error).all()  # Student's t of 63: a false alarm in 2e-7


def test_the_package_imports_none_of_them():
    peers = re.compile(r"^\s*(import|from) (diffusers|flow_matching|torchdiffeq)\b", re.MULTILINE)
    assert not [path for path in Path(pl.__file__).parent.rglob("*.py") if peers.search(path.read_text())]


def test_a_field_of_a_network_keeps_the_laws_of_fields(unet):
    field = ForeignField.from_diffusers(unet, diffusers.DDIMScheduler())
    check_field(field, shape=(1, 8, 8), only=(3, 19)).raise_if_broken()
    names = [name for name, _ in field.named_parameters()]
    assert len(names) == len(list(unet.parameters())) and field.module is unet


def test_a_module_of_any_convention():
    class Odd(nn.Module):
        def forward(self, when, *, where, gain=1.0):
            return (gain * torch.cat((where * when[:, None], where), 1), "and more")

    field = ForeignField(
        Odd(),
        pl.GaussianPath(pl.CosineSchedule()),
        pl.NOISE,
        time=lambda t: 10 * t,
        scale=lambda t: 1 + t,
        sign=-1.0,
        names=("where", "when"),
        keywords={"gain": 2.0},
        has_variance=True,
    )
    x, t = draw(4, 3), torch.tensor([0.1, 0.2, 0.3, 0.4])
    assert isinstance(field, pl.Field)
    near(field.noise(x, t), -2 * (1 + t[:, None]).double() * 10 * t[:, None].double() * x, 1e-6)


# What is refused


class Plain(nn.Module):
    def forward(self, x, t):
        return x


class Autoencoder(nn.Module):
    config = SimpleNamespace(in_channels=3, out_channels=3)

    def forward(self, sample, sample_posterior=False):
        return sample


class Pipeline:
    scheduler = None


PATH = pl.GaussianPath(pl.LinearSchedule())
DDIM = diffusers.DDIMScheduler()


@pytest.mark.parametrize(
    "model, scheduler, said",
    [
        ("stable-diffusion", DDIM, "model must be a network, a torch.nn.Module, got 'stable-diffusion'; load it"),
        (Pipeline(), DDIM, "got the pipeline Pipeline; pass pipe.unet or pipe.transformer"),
        (Plain(), DDIM, "model must be a denoiser of diffusers, Plain has no config"),
        (Autoencoder(), DDIM, "Autoencoder takes no timestep: it is no denoiser"),
        (None, "ddim", "scheduler must be one of diffusers, .* got 'ddim'; pass pipe.scheduler"),
        (None, theirs.CondOTScheduler(), "scheduler must be one of diffusers, .* got CondOTScheduler"),
        (None, diffusers.ScoreSdeVeScheduler(), "scheduler must be one of diffusers, .* got ScoreSdeVeScheduler"),
        (None, diffusers.FlowMatchEulerDiscreteScheduler(invert_sigmas=True), "must not invert its sigmas"),
        (None, diffusers.DDIMScheduler(prediction_type="x"), "prediction_type must be epsilon, .* got 'x'"),
        (None, diffusers.EDMEulerScheduler(prediction_type="sample"), "prediction_type must be .* got 'sample'"),
    ],
)
def test_from_diffusers_refuses(unet, model, scheduler, said):
    with pytest.raises(ValueError, match=said):
        ForeignField.from_diffusers(unet if model is None else model, scheduler)


def test_from_diffusers_refuses_a_network_that_is_given_more_than_the_point(unet):
    model = copy.copy(unet)
    model.register_to_config(in_channels=9, out_channels=4)
    with pytest.raises(ValueError, match="got in_channels=9 and out_channels=4; wrap"):
        ForeignField.from_diffusers(model, DDIM)


def test_from_diffusers_refuses_to_guess_the_time_of_a_flow_network():
    with pytest.raises(ValueError, match=r"time must be given for Exact, .* time=lambda t: 1 - t if it divides"):
        ForeignField.from_diffusers(Exact("flow"), diffusers.FlowMatchEulerDiscreteScheduler())


def test_times_of_refuses():
    with pytest.raises(ValueError, match=r"call DDIMScheduler.set_timesteps\(steps\) first"):
        times_of(diffusers.DDIMScheduler())
    with pytest.raises(ValueError, match="scheduler must be one of diffusers"):
        times_of(torch.linspace(0, 1, 5))


def test_from_flow_matching_refuses(unet):
    with pytest.raises(ValueError, match=r"model must be called as model\(x=x, t=t\), UNet2DModel takes sample, "):
        ForeignField.from_flow_matching(unet)
    with pytest.raises(ValueError, match=r"model must be a network"):
        ForeignField.from_flow_matching(lambda x, t: x)
    for scheduler in (DDIM, "condot", lambda t: t):
        with pytest.raises(ValueError, match="scheduler must be one of flow_matching, which gives alpha_t"):
            ForeignField.from_flow_matching(Net(), scheduler)


def test_from_edm_refuses(unet):
    with pytest.raises(ValueError, match=r"called as network\(x, sigma\), UNet2DModel takes sample, timestep"):
        ForeignField.from_edm(unet)
    with pytest.raises(ValueError, match=r"network must be a network, a torch.nn.Module, got None"):
        ForeignField.from_edm(None)
    network = Denoiser()
    network.sigma_max = 50.0
    with pytest.raises(ValueError, match="sigma_max must be at most the network's own, 50, got 80"):
        ForeignField.from_edm(network)
    with pytest.raises(ValueError, match="sigma_max must be positive and finite, got -1"):
        ForeignField.from_edm(Denoiser(), -1.0)


@pytest.mark.parametrize(
    "bars", [[0.9], [0.5, 0.9], [0.9, 0.9], [1.0, 0.5], [0.9, -0.1], [[0.9, 0.5]], [0.9, math.nan]]
)
def test_a_table_that_is_none_is_refused(bars):
    with pytest.raises(ValueError, match="alphas_cumprod must be a row of at least two numbers that fall strictly"):
        DiscreteSchedule(bars)


def test_conditions_that_the_network_does_not_take(prompted, unet, dit):
    field, x = ForeignField.from_diffusers(prompted, DDIM), draw(2, 2, 8, 8)
    with pytest.raises(ValueError, match="UNet2DConditionModel needs encoder_hidden_states; bind it with given"):
        field.noise(x, 0.5)
    with pytest.raises(ValueError, match="UNet2DConditionModel needs encoder_hidden_states; bind it with given"):
        field.given({"class_labels": torch.tensor([1])})
    with pytest.raises(ValueError, match="null must be given to be bound: nothing in UNet2DConditionModel tells"):
        field.given(None)
    with pytest.raises(ValueError, match=r"y must be a dictionary of keyword arguments of UNet2DModel \(class_labels"):
        ForeignField.from_diffusers(unet, DDIM).given(torch.tensor([1]))
    with pytest.raises(ValueError, match=r"y must hold conditions that UNet2DModel takes \(class.*\), got 'prompt'"):
        ForeignField.from_diffusers(unet, DDIM).given({"prompt": torch.zeros(1)})
    with pytest.raises(ValueError, match=r"y\['class_labels'\] must be a tensor, or a tree of them, got str"):
        ForeignField.from_diffusers(dit, DDIM).given({"class_labels": "cat"})
    with pytest.raises(ValueError, match="y must hold the conditions that the null holds, class_labels, got cross"):
        ForeignField.from_diffusers(dit, DDIM).given({"cross_attention_kwargs": torch.zeros(1)})
    with pytest.raises(ValueError, match=r"one condition or one per sample, 2, got 3"):
        field.given({"encoder_hidden_states": draw(3, 3, 6)}).noise(x, 0.5)


def test_a_module_that_does_not_fit():
    for wrong, said in ((None, "module must be a torch.nn.Module, got None"), ("a", "got 'a'; wrap a function")):
        with pytest.raises(ValueError, match=said):
            ForeignField(wrong, PATH)
    with pytest.raises(ValueError, match=r"Plain takes x, t, not x_t$"):
        ForeignField(Plain(), PATH, names=("x_t", "t"))
    with pytest.raises(ValueError, match=r"Plain takes x, t, not mask$"):
        ForeignField(Plain(), PATH, keywords={"mask": 1})
    with pytest.raises(ValueError, match=r"ReLU takes input$"):
        ForeignField(nn.ReLU(), PATH)

    class Wide(nn.Module):
        def forward(self, x, t):
            return {"sample": x} if x.ndim == 3 else torch.cat((x, x), 1)

    with pytest.raises(ValueError, match=r"Wide must return .* \(4, 3\), .* got \(4, 6\); has_variance=True"):
        ForeignField(Wide(), PATH).velocity(torch.zeros(4, 3), 0.5)
    with pytest.raises(ValueError, match=r"Wide must return .* got dict"):
        ForeignField(Wide(), PATH).velocity(torch.zeros(4, 3, 1), 0.5)


# Faults that were found by use


@pytest.mark.parametrize(
    "schedule", [None, pl.LinearSchedule(), pl.CosineSchedule(), pl.VarianceExplodingSchedule()], ids=str
)
def test_a_denoiser_can_be_read_to_both_ends_of_any_path(schedule):
    field, x = ForeignField.from_edm(Denoiser(), schedule=schedule), draw(3, 2)
    for t in (0.0, 1.0):
        assert field.data(x, t).isfinite().all()
    left = float(field.path.schedule.beta(torch.tensor(1.0)))  # some paths end before all noise is gone
    near(field.data(x, 1.0), x, 1e-12 + left)
    made = pl.sample(field, (3, 2), steps=10, seed=0)
    assert made.isfinite().all() and made.abs().max() < 100


def test_a_denoiser_is_sampled_alike_on_any_path():
    schedules = (pl.LinearSchedule(), pl.CosineSchedule(), pl.VariancePreservingSchedule())
    begin = draw(4, 2)
    made = [
        pl.sample(ForeignField.from_edm(Denoiser(), schedule=s), (4, 2), pl.ODESampler(pl.RK4), steps=400, start=begin)
        for s in schedules
    ]
    near(made[1], made[0], 1e-3)
    near(made[2], made[0], 2e-2)  # whose start holds some data


@pytest.mark.parametrize("make", [diffusers.EulerDiscreteScheduler, diffusers.DPMSolverMultistepScheduler])
def test_a_table_that_ends_nearly_at_no_data_ends_there(unet, make):
    scheduler = make(prediction_type="v_prediction", rescale_betas_zero_snr=True)
    field = ForeignField.from_diffusers(unet, scheduler)
    assert float(field.path.schedule.alpha(torch.tensor(0.0))) == 0
    scheduler.set_timesteps(4)
    assert times_of(scheduler).isfinite().all()
    ddim = diffusers.DDIMScheduler(prediction_type="v_prediction", rescale_betas_zero_snr=True)
    x = draw(2, 1, 8, 8)
    near(field.velocity(x, 0.4), ForeignField.from_diffusers(unet, ddim).velocity(x, 0.4), 1e-6)


def test_an_edm_network_is_asked_as_its_scheduler_says():
    scheduler = diffusers.EDMEulerScheduler(sigma_max=20.0)
    scheduler.precondition_noise = lambda sigma: sigma.atan() / math.pi * 2  # as Stable Audio's does
    seen = []

    class Watch(Raw):
        def forward(self, sample, timestep):
            seen.append(timestep)
            return super().forward(sample, timestep)

    field = ForeignField.from_diffusers(Watch(Denoiser().inner), scheduler)
    field.data(draw(3, 2), 0.4)
    near(seen[0], torch.full((3,), math.atan(12.0) / math.pi * 2, dtype=torch.float64), 1e-12)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_sign_of_a_flow_network(sign):
    model = Raw(Denoiser().inner)
    field = ForeignField.from_diffusers(model, diffusers.FlowMatchEulerDiscreteScheduler(), time=lambda t: t, sign=sign)
    x = draw(3, 2)
    near(field.velocity(x, 0.3), sign * model(x, torch.tensor(0.3, dtype=torch.float64)).sample, 1e-12)


def test_schedulers_that_cannot_be_read_as_they_are(unet):
    cases = (
        (diffusers.EulerDiscreteScheduler(prediction_type="v_prediction", timestep_type="continuous"), "EDMEuler"),
        (diffusers.UniPCMultistepScheduler(use_flow_sigmas=True), "must have prediction_type='flow_prediction'"),
    )
    for scheduler, said in cases:
        with pytest.raises(ValueError, match=said):
            ForeignField.from_diffusers(unet, scheduler)
    back = diffusers.DDIMInverseScheduler()
    back.set_timesteps(4)
    with pytest.raises(ValueError, match="must go from noise to data, DDIMInverseScheduler goes the other way"):
        times_of(back)
    flow = diffusers.DPMSolverMultistepScheduler(prediction_type="flow_prediction")
    flow.set_timesteps(4)
    with pytest.raises(ValueError, match=r"at a noise of 1.* it needs use_flow_sigmas=True"):
        times_of(flow)


def test_the_continuous_scheduler_is_the_one_that_its_refusal_names():
    sizes = {"prediction_type": "v_prediction", "sigma_min": 0.01, "sigma_max": 50.0}
    peers = diffusers.EulerDiscreteScheduler(timestep_type="continuous", use_karras_sigmas=True, **sizes)
    named = diffusers.EDMEulerScheduler(sigma_data=1, **sizes)
    for scheduler in (peers, named):
        scheduler.set_timesteps(8)
    model, x = Raw(Denoiser().inner.float()), 50 * draw(3, 2).float()
    field = ForeignField.from_diffusers(model, named)
    near(ours(field, x, times_of(named), pl.ODESampler(pl.EULER)), peer(peers, model, x), 1e-5)


def test_a_null_may_come_in_a_batch_of_one(prompted):
    x, empty = draw(3, 2, 8, 8), draw(5, 6)
    found = [
        ForeignField.from_diffusers(prompted, DDIM, null={"encoder_hidden_states": one}).score(x, 0.5)
        for one in (empty, empty[None])
    ]
    assert torch.equal(*found)
    field = ForeignField.from_diffusers(prompted, DDIM, null={"encoder_hidden_states": empty})
    assert torch.equal(found[0], field.given({"encoder_hidden_states": empty[None]}).score(x, 0.5))
    assert field.null["encoder_hidden_states"].shape == (1, 5, 6)


@pytest.mark.filterwarnings("ignore:the spread of the samples")  # of a network that was never trained
@pytest.mark.parametrize("bound", ["null", "given", "keywords"])
def test_a_module_of_half_precision(prompted, bound):
    half, empty, x = copy.deepcopy(prompted).bfloat16(), draw(5, 6, dtype=torch.float32), draw(3, 2, 8, 8).float()
    y = {"encoder_hidden_states": empty[None]}
    if bound == "keywords":
        y = {"encoder_hidden_states": empty[None].expand(3, -1, -1).bfloat16()}
        field = ForeignField.from_diffusers(half, DDIM, keywords=y)
    else:
        field = ForeignField.from_diffusers(half, DDIM, null=y)
        field = field if bound == "null" else field.given(y)
    truth = ForeignField.from_diffusers(copy.deepcopy(prompted).float(), DDIM).given(
        {"encoder_hidden_states": empty[None]}
    )
    near(field.noise(x, 0.5), truth.noise(x, 0.5), 0.05)
    assert field.noise(x, 0.5).dtype == torch.float32
    assert pl.sample(field, (3, 2, 8, 8), steps=2, seed=0).dtype == torch.bfloat16


def test_what_is_bound_goes_before_keywords_and_is_checked_each_time(prompted):
    one, other, x = ({"encoder_hidden_states": draw(1, 5, 6, seed=seed)} for seed in (1, 2)), None, draw(1, 2, 8, 8)
    one, other = one
    field = ForeignField.from_diffusers(prompted, DDIM, keywords=one)
    bare = ForeignField.from_diffusers(prompted, DDIM)
    assert torch.equal(field.given(other).score(x, 0.5), bare.given(other).score(x, 0.5))
    assert torch.equal(field.score(x, 0.5), bare.given(one).score(x, 0.5))
    with pytest.raises(ValueError, match="y must hold conditions that UNet2DConditionModel takes"):
        bare.given(one).given({"bogus": draw(1, 2)})
    with pytest.raises(ValueError, match="null must be given"):
        bare.given(one).given(None)


def test_all_adapters_take_a_null_and_training_drops_to_it():
    for field in (
        ForeignField.from_edm(Denoiser(), null={"class_labels": 4.0}),
        ForeignField.from_flow_matching(Net(), null={"y": 0.5}),
    ):
        x = draw(3, 2)
        (name,) = field.null
        y = {name: torch.full((3,), float(field.null[name]), dtype=torch.float64)}
        assert torch.equal(field.given(None).data(x, 0.5), field.given(y).data(x, 0.5))
    field = ForeignField.from_edm(Denoiser().float(), schedule=pl.LinearSchedule(), null={"class_labels": 4.0})
    y = {"class_labels": torch.zeros(64)}
    dropped = pl.MatchingLoss(field, drop=0.5).dropped(y, 0, 64)["class_labels"]
    assert set(dropped.tolist()) == {0.0, 4.0}
    assert len([*pl.train(pl.MatchingLoss(field, drop=0.5), draw(64, 2).float(), y, steps=2, batch_size=8)]) == 2


def test_a_compiled_network_is_read_as_itself(unet):
    compiled = torch.compile(copy.deepcopy(unet), backend="eager")
    x = draw(2, 1, 8, 8)
    near(*(ForeignField.from_diffusers(model, DDIM).score(x, 0.5) for model in (compiled, unet)), 1e-12)
