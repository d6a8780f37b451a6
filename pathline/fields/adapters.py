"""How other libraries' networks are asked, and what they answer, said in our alphabet.

| library | their point | their time | their answer |
|---|---|---|---|
| diffusers, discrete steps | sqrt(abar) data + sqrt(1 - abar) noise | k = N (1 - t) - 1 | noise, data or v |
| diffusers, flow | (1 - s) data + s noise | N s, or s, s = 1 - t | noise - data = -velocity |
| diffusers, EDM | data + s noise, scaled by c_in(s) | log(s) / 4 | plus or minus the row of EDM |
| flow_matching | alpha data + sigma noise | t | velocity |
| EDM | data + s noise | s = beta / alpha | data |

A peer is known by its attributes (`config.prediction_type`, `alphas_cumprod`): none of these libraries is imported.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from pathline.fields.discrete import DiscreteSchedule, EDMSchedule, StraightVariancePreservingSchedule
from pathline.fields.preconditioned import MOST
from pathline.paths.path import GaussianPath
from pathline.paths.predictions import DATA, NOISE, VELOCITY, EDMPrediction, Prediction, V
from pathline.paths.schedules import (
    CosineSchedule,
    FunctionSchedule,
    LinearSchedule,
    PolynomialSchedule,
    Schedule,
    VariancePreservingSchedule,
)

TimeMap: TypeAlias = Callable[[Tensor], Tensor]
KINDS = {"epsilon": NOISE, "sample": DATA, "v_prediction": V}
FLOW_TIMES = {  # what a flow network of diffusers is given: the scheduler's timestep N s, or s alone
    "UNet2DModel": "N s",
    "UNet2DConditionModel": "N s",
    "DiTTransformer2DModel": "N s",
    "SD3Transformer2DModel": "N s",
    "FluxTransformer2DModel": "s",
}
EXTREME = math.exp(-4 * MOST)  # of alpha / beta or beta / alpha: as good as an end, where one of them is 0
RANKS = {"encoder_hidden_states": 2, "text_embeds": 1, "pooled_projections": 1, "time_ids": 1}  # of one sample
SAME = 1e-5  # scales of a float32 schedule that differ by less are the same


@dataclass(frozen=True)
class Convention:
    """All that tells somebody else's network from ours; the arguments of a `ForeignField`, explained there."""

    path: GaussianPath
    prediction: Prediction
    time: TimeMap | None = None
    scale: float | TimeMap = 1.0
    sign: float = 1.0
    names: tuple[str, str] | None = None
    null: Mapping[str, Any] | None = None
    has_variance: bool = False


def diffusers_convention(model: Any, scheduler: Any, time: TimeMap | None, sign: float = -1.0) -> Convention:
    """That of a denoiser of diffusers, a U-Net or a transformer, and the scheduler that it was trained with."""
    names = _denoiser(model)
    channels = setting(model, "in_channels")
    out = setting(model, "out_channels") or channels
    if channels is not None and out not in (channels, 2 * channels):
        raise ValueError(
            f"model must answer with as many channels as it is given, or with a variance beside them, got in_channels="
            f"{channels} and out_channels={out}; wrap one that is given more than the point in a module that adds it"
        )
    classes = setting(model, "num_embeds_ada_norm")
    common: dict[str, Any] = {
        "names": names,
        "null": {"class_labels": classes} if classes and "class_labels" in parameters_of(model) else None,
        "has_variance": channels is not None and out == 2 * channels,
    }
    kind = kind_of(scheduler)
    prediction = setting(scheduler, "prediction_type")
    if kind == "flow":
        return Convention(
            GaussianPath(LinearSchedule()), VELOCITY, time or _flow_time(model, scheduler), sign=sign, **common
        )
    if prediction not in KINDS or (kind == "EDM" and prediction == "sample"):
        raise ValueError(
            f"scheduler.config.prediction_type must be epsilon, sample or v_prediction (EDM: the first or the last), "
            f"got {prediction!r}; ForeignField(module, path, prediction, ...) reads any other"
        )
    if kind == "EDM":
        schedule, sigma_data = EDMSchedule(setting(scheduler, "sigma_max")), setting(scheduler, "sigma_data")
        return Convention(
            GaussianPath(schedule),
            EDMPrediction(sigma_data),
            time or (lambda t: scheduler.precondition_noise(schedule.beta(t)).clamp(-MOST, MOST)),
            lambda t: (schedule.beta(t) ** 2 + sigma_data**2).rsqrt(),
            1.0 if prediction == "epsilon" else -1.0,
            **common,
        )
    steps = table_of(scheduler)
    return Convention(GaussianPath(steps), KINDS[prediction], time or steps.timestep, **common)


def flow_matching_convention(model: Any, scheduler: Any, prediction: Prediction) -> Convention:
    """That of a model of flow_matching, called as `model(x=x, t=t)`, and the scheduler of its path."""
    _module(model, "model")
    if not {"x", "t"} <= parameters_of(model).keys() and not takes_any(model):
        raise ValueError(
            f"model must be called as model(x=x, t=t), {type(model).__name__} takes "
            f"{', '.join(parameters_of(model)) or 'nothing'}; from_diffusers and from_edm read others"
        )
    schedule = LinearSchedule() if scheduler is None else schedule_of(scheduler)
    return Convention(GaussianPath(schedule), prediction, names=("x", "t"))


def edm_convention(network: Any, sigma_max: float, schedule: Schedule | None) -> Convention:
    """That of a denoiser D(x, sigma) of data under noise of standard deviation sigma."""
    _module(network, "network")
    if "timestep" in parameters_of(network) or not can_be_called(network, 2):
        raise ValueError(
            f"network must be a denoiser, called as network(x, sigma), {type(network).__name__} takes "
            f"{', '.join(parameters_of(network)) or 'nothing'}; from_diffusers and from_flow_matching read others"
        )
    largest = getattr(network, "sigma_max", None)
    if isinstance(largest, float | int) and schedule is None and sigma_max > largest:
        raise ValueError(
            f"sigma_max must be at most the network's own, {largest:g}, got {sigma_max:g}; it was not trained beyond"
        )
    if schedule is None:
        even = EDMSchedule(sigma_max)
        return Convention(GaussianPath(even), DATA, lambda t: even.beta(t).clamp(min=EXTREME))

    def alpha(t: Tensor) -> Tensor:
        return torch.maximum(schedule.alpha(t), EXTREME * schedule.beta(t))

    def noise(t: Tensor) -> Tensor:
        return torch.maximum(schedule.beta(t), EXTREME * schedule.alpha(t)) / alpha(t)

    return Convention(GaussianPath(schedule), DATA, noise, lambda t: 1 / alpha(t))


def times_of(scheduler: Any) -> Tensor:
    """The times at which a scheduler of diffusers stands, from noise to data, in float64: a grid for our samplers.

    Call its `set_timesteps(...)` first. `DDIM().walk(field, x, times_of(scheduler))` then takes its steps.

    Raises:
        ValueError: If it is of an unknown kind, or stands nowhere yet.
    """
    kind = kind_of(scheduler)
    if getattr(scheduler, "num_inference_steps", None) is None:
        raise ValueError(f"scheduler must have been told its steps: call {_name(scheduler)}.set_timesteps(steps) first")
    if kind == "discrete":
        steps = table_of(scheduler)
        times = steps.time_of_step(torch.as_tensor(scheduler.timesteps).cpu())
        last = getattr(scheduler, "final_alpha_cumprod", None)
        is_left = setting(scheduler, "final_sigmas_type") == "sigma_min" or (last is not None and float(last) < 1)
        times = torch.cat((times, steps.time_of_step(0 if is_left else -1)[None]))
    else:
        levels = torch.as_tensor(scheduler.sigmas).to("cpu", torch.float64)
        times = 1 - levels / (setting(scheduler, "sigma_max") if kind == "EDM" else 1)
    if (times < -SAME).any():
        raise ValueError(
            f"scheduler must stand between noise and data, {_name(scheduler)} stands at a noise of "
            f"{float(1 - times.min()):g} times the most; with prediction_type='flow_prediction' it needs "
            "use_flow_sigmas=True"
        )
    times = times.clamp(0, 1)
    times = times[torch.cat((times[:1] >= 0, times.diff() != 0))]  # some stand twice at a step, or end where they are
    if (times.diff() < 0).any():
        raise ValueError(
            f"scheduler must go from noise to data, {_name(scheduler)} goes the other way; take times_of the one that "
            "it inverts, and .flip(0), or invert(field, x)"
        )
    return times


def table_of(scheduler: Any) -> DiscreteSchedule:
    """The schedule of a scheduler of discrete steps."""
    bars = scheduler.alphas_cumprod
    if setting(scheduler, "rescale_betas_zero_snr"):  # the table ends at 0, for which some have a small number
        bars = torch.cat((bars[:-1], bars.new_zeros(1)))
    return DiscreteSchedule(bars)


def schedule_of(scheduler: Any) -> Schedule:
    """Our schedule with the scales of one of flow_matching: ours in closed form, or else a function of theirs.

    Raises:
        ValueError: If it gives no alpha_t and sigma_t at a time.
    """
    t = torch.linspace(0.05, 0.95, 19, dtype=torch.float64)
    try:
        row = scheduler(t)
        theirs = torch.stack((row.alpha_t, row.sigma_t))
    except (TypeError, AttributeError) as error:
        raise ValueError(
            f"scheduler must be one of flow_matching, which gives alpha_t and sigma_t at a time, got "
            f"{_name(scheduler)}; CondOTScheduler() is the default"
        ) from error
    candidates: list[Schedule] = [LinearSchedule(), CosineSchedule(), StraightVariancePreservingSchedule()]
    if isinstance(n := getattr(scheduler, "n", None), int | float) and n > 0:
        candidates.append(PolynomialSchedule(n))
    rates = (getattr(scheduler, "beta_min", None), getattr(scheduler, "beta_max", None))
    if all(isinstance(rate, int | float) for rate in rates) and 0 < rates[0] <= rates[1]:  # type: ignore[operator]
        candidates.append(VariancePreservingSchedule(*rates))  # type: ignore[arg-type]
    for ours in candidates:
        if torch.allclose(torch.stack((ours.alpha(t), ours.beta(t))), theirs, rtol=0, atol=SAME):
            return ours
    return FunctionSchedule(lambda t: scheduler(t).alpha_t, lambda t: scheduler(t).sigma_t)


def kind_of(scheduler: Any) -> str:
    """What a scheduler of diffusers tells of: a flow, EDM's denoiser, or discrete steps.

    Raises:
        ValueError: If it is none of these.
    """
    if hasattr(scheduler, "config"):
        if setting(scheduler, "invert_sigmas"):
            raise ValueError(f"scheduler must not invert its sigmas, as {_name(scheduler)} does: its data is their 1")
        prediction = setting(scheduler, "prediction_type")
        if setting(scheduler, "use_flow_sigmas") and prediction not in (None, "flow_prediction"):
            raise ValueError(
                f"scheduler of flow sigmas must have prediction_type='flow_prediction', {_name(scheduler)} has "
                f"{prediction!r}; make it anew with that if the network predicts noise - data"
            )
        if setting(scheduler, "timestep_type") == "continuous" and prediction == "v_prediction":
            raise ValueError(
                f"scheduler must not ask by continuous timesteps, as {_name(scheduler)} does; pass the same denoiser's "
                "EDMEulerScheduler(sigma_data=1, sigma_min=..., sigma_max=..., prediction_type='v_prediction')"
            )
        is_flow = any(kind.__name__.startswith("FlowMatch") for kind in type(scheduler).__mro__)
        if is_flow or prediction == "flow_prediction":
            return "flow"
        if setting(scheduler, "sigma_data") is not None and setting(scheduler, "sigma_max") is not None:
            return "EDM"
        if isinstance(getattr(scheduler, "alphas_cumprod", None), Tensor):
            return "discrete"
    raise ValueError(
        "scheduler must be one of diffusers, with alphas_cumprod, a FlowMatch one, or EDM's, got "
        f"{_name(scheduler)}; pass pipe.scheduler, or describe the model to ForeignField(module, path, ...)"
    )


def setting(peer: Any, name: str) -> Any:
    """A value of a peer's config, or None."""
    config = getattr(peer, "config", None)
    return config.get(name) if isinstance(config, Mapping) else getattr(config, name, None)


def parameters_of(module: nn.Module) -> dict[str, inspect.Parameter]:
    """What a module's forward takes, by name."""
    return dict(inspect.signature(getattr(module, "_orig_mod", module).forward).parameters)  # of what was compiled


def can_be_called(module: nn.Module, count: int) -> bool:
    """Whether a module takes so many arguments and needs no more."""
    try:
        inspect.signature(getattr(module, "_orig_mod", module).forward).bind(*[None] * count)
    except TypeError:
        return False
    return True


def takes_any(module: nn.Module) -> bool:
    """Whether a module takes keyword arguments of any name."""
    return any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters_of(module).values())


def _denoiser(model: Any) -> tuple[str, str]:
    """The names of the point and the time of a denoiser of diffusers."""
    if not isinstance(model, nn.Module) and hasattr(model, "scheduler"):
        raise ValueError(
            f"model must be a network, got the pipeline {_name(model)}; pass pipe.unet or pipe.transformer"
        )
    _module(model, "model")
    names = parameters_of(model)
    if not hasattr(model, "config") or "timestep" not in names:
        why = "has no config" if not hasattr(model, "config") else "takes no timestep: it is no denoiser"
        raise ValueError(
            f"model must be a denoiser of diffusers, {type(model).__name__} {why}; pass pipe.unet or pipe.transformer, "
            "or describe another module to ForeignField(module, path, ...)"
        )
    return next(iter(names)), "timestep"


def _flow_time(model: nn.Module, scheduler: Any) -> TimeMap:
    """What a flow network is given, which its config does not tell."""
    kinds = type(getattr(model, "_orig_mod", model)).__mro__
    told = next((FLOW_TIMES[kind.__name__] for kind in kinds if kind.__name__ in FLOW_TIMES), None)
    if told is None:
        raise ValueError(
            f"time must be given for {type(model).__name__}, as nothing in a flow network tells what time it is asked "
            "by; see its pipeline: time=lambda t: 1000 * (1 - t) if it hands over the scheduler's timestep, "
            "time=lambda t: 1 - t if it divides that by 1000; and sign=1 if it negates what the network says, which is "
            "then asked by a time that rises: time=lambda t: t, say"
        )
    steps = setting(scheduler, "num_train_timesteps") if told == "N s" else 1
    return lambda t: steps * (1 - t)


def _module(module: Any, name: str) -> None:
    if not isinstance(module, nn.Module):
        raise ValueError(
            f"{name} must be a network, a torch.nn.Module, got {module!r:.60}; load it first, with from_pretrained, say"
        )


def _name(peer: Any) -> str:
    return type(peer).__name__ if not isinstance(peer, str) else repr(peer)
