"""Other libraries' samplers behind one call: a velocity, a start, and a number of steps.

Each method takes the most steps that its evaluations allow, as counted, and sees one field: the velocity of the linear
path, in float64. What a library wants instead of it is made of it exactly,

    data = x / c + (1 - t) velocity(x / c, t),   c = alpha + sigma,   t = alpha / c      azula, on any of its schedules
    noise - data = -velocity(x, 1 - sigma)                                               diffusers

azula's schedules end a little before pure noise and pure data; here within 1e-6, unless a row says otherwise. diffusers
keeps points and sigmas in float32, and most of its schedulers begin at sigma = 0.999, with what is at 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

Velocity = Callable[[Tensor, Tensor], Tensor]
Run = Callable[[Velocity, Tensor, int], Tensor]  # the end, from a start, in a number of steps
FLOW = {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}


@dataclass
class Counted:
    """A velocity that counts its calls."""

    velocity: Velocity
    calls: int = field(default=0, init=False)

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        self.calls += 1
        return self.velocity(x, t)


@dataclass(frozen=True)
class Peer:
    """A method of another library; brackets in its name hold what is not the library's own choice."""

    name: str
    run: Run

    def steps(self, evaluations: int) -> int | None:
        """The most steps that need no more evaluations than these, or None where one step needs more."""
        for steps in range(evaluations + 1, 0, -1):
            decay = Counted(lambda x, t: -x)
            try:
                self.run(decay, torch.ones(1, 1, dtype=torch.float64), steps)
            except (IndexError, ValueError):  # some cannot make so few steps
                return None
            if 0 < decay.calls <= evaluations:
                return steps
        return None


def shifted(steps: int, shift: float) -> Tensor:
    """Even times, or with a shift below 1 such as gather at data, above 1 at noise: as diffusers shifts its sigmas."""
    even = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    return even / (even + shift * (1 - even))


def flow_matching(method: str, shift: float = 1.0) -> Run:
    """Its solver, by the name of a method of torchdiffeq."""
    from flow_matching.solver import ODESolver

    def run(velocity: Velocity, start: Tensor, steps: int) -> Tensor:
        solver = ODESolver(lambda x, t: velocity(x, t))
        return solver.sample(x_init=start, step_size=None, method=method, time_grid=shifted(steps, shift))

    return run


def azula(name: str, ends: float = 1e-6, gamma: float | None = None, **options: Any) -> Run:
    """One of its samplers, on its linear schedule, or with a gamma on the one that paces the same path otherwise."""
    import azula.sample
    from azula.denoise import Denoiser, DiracPosterior
    from azula.noise import DecaySchedule, RectifiedSchedule

    class Adapter(Denoiser):
        def __init__(self, velocity: Velocity) -> None:
            super().__init__()
            self.velocity = velocity
            self.schedule = RectifiedSchedule(ends, ends) if gamma is None else DecaySchedule(ends, ends, gamma)

        def forward(self, x: Tensor, t: Tensor, **_: Any) -> DiracPosterior:
            alpha, sigma = self.schedule(t)
            c = alpha + sigma
            return DiracPosterior(mean=x / c + sigma / c * self.velocity(x / c, alpha / c))

    def run(velocity: Velocity, start: Tensor, steps: int) -> Tensor:
        denoiser = Adapter(velocity)
        sampler = getattr(azula.sample, name)(denoiser, steps=steps, silent=True, dtype=torch.float64, **options)
        noisy, clean = (sum(denoiser.schedule(torch.tensor(t, dtype=torch.float64))) for t in (1.0, 0.0))
        return sampler(noisy * start) / clean

    return run


def diffusers(name: str, is_even: bool = False, **options: Any) -> Run:
    """One of its schedulers; with `is_even` its sigmas are 1, 1 - 1 / steps, ..., 1 / steps, as its pipelines ask."""
    import diffusers

    diffusers.logging.set_verbosity_error()

    def run(velocity: Velocity, start: Tensor, steps: int) -> Tensor:
        if is_even and "Heun" in name:  # which takes no sigmas, but lays them by the steps of training
            options["num_train_timesteps"] = steps
        scheduler = getattr(diffusers.schedulers, name + "Scheduler")(**options)
        if is_even and "Heun" not in name:
            scheduler.set_timesteps(sigmas=(1 - shifted(steps, 1.0)[:-1]).numpy())
        else:
            scheduler.set_timesteps(steps)
        scheduler.set_begin_index(0)
        x = start.float()
        for time in scheduler.timesteps:
            sigma = scheduler.sigmas[scheduler.step_index or 0].double()
            x = scheduler.step(-velocity(x.double(), 1 - sigma).float(), time, x).prev_sample
        return x.double()

    return run


def of_flow_matching() -> Iterator[Peer]:
    for method in ("euler", "midpoint", "heun2", "heun3", "rk4"):
        yield Peer(f"flow_matching {method}", flow_matching(method))
    for method, shift in (("midpoint", 0.7), ("midpoint", 0.33), ("heun3", 0.33), ("rk4", 0.7), ("rk4", 0.33)):
        yield Peer(f"flow_matching {method} [shift {shift}]", flow_matching(method, shift))


def of_azula() -> Iterator[Peer]:
    yield Peer("azula DDIM", azula("DDIMSampler"))
    yield Peer("azula Heun", azula("HeunSampler", 1e-3))  # its default ends: with smaller ones it explodes
    for kind in ("zAB", "vAB", "zEAB", "xEAB", "REAB"):
        yield Peer(f"azula {kind}", azula(f"{kind}Sampler"))
    yield Peer("azula Heun [ends 0.01]", azula("HeunSampler", 1e-2))
    yield Peer("azula zAB [order 3]", azula("zABSampler", order=3))
    yield Peer("azula vAB [order 3]", azula("vABSampler", order=3))
    yield Peer("azula vAB [order 4]", azula("vABSampler", order=4))
    yield Peer("azula vAB [order 3, gamma 3]", azula("vABSampler", 1e-3, 3.0, order=3))
    yield Peer("azula vAB [order 4, gamma 3]", azula("vABSampler", 1e-4, 3.0, order=4))
    yield Peer("azula zEAB [gamma 3]", azula("zEABSampler", 1e-3, 3.0))
    yield Peer("azula REAB [order 1, gamma 3]", azula("REABSampler", 1e-3, 3.0, order=1))
    yield Peer("azula REAB [gamma 3]", azula("REABSampler", 1e-4, 3.0))


def of_diffusers() -> Iterator[Peer]:
    yield Peer("diffusers FlowMatchEuler", diffusers("FlowMatchEulerDiscrete"))
    yield Peer("diffusers FlowMatchEuler [even]", diffusers("FlowMatchEulerDiscrete", True))
    yield Peer("diffusers FlowMatchHeun", diffusers("FlowMatchHeunDiscrete"))
    yield Peer("diffusers FlowMatchHeun [even]", diffusers("FlowMatchHeunDiscrete", True))
    yield Peer("diffusers DEIS", diffusers("DEISMultistep", **FLOW))  # its last step stands still
    yield Peer("diffusers SASolver [tau 0]", diffusers("SASolver", tau_func=lambda t: 0, **FLOW))
    for order in (2, 3):
        multistep = {"solver_order": order} | FLOW
        yield Peer(f"diffusers DPM++{order}S", diffusers("DPMSolverSinglestep", **multistep))
        yield Peer(f"diffusers DPM++{order}M", diffusers("DPMSolverMultistep", **multistep))
        yield Peer(f"diffusers DPM++{order}M [shift 0.5]", diffusers("DPMSolverMultistep", flow_shift=0.5, **multistep))
        yield Peer(f"diffusers UniPC{order}", diffusers("UniPCMultistep", **multistep))
        yield Peer(f"diffusers UniPC{order} [even]", diffusers("UniPCMultistep", True, **multistep))
        for shift in (0.5, 0.7, 1.5):
            options = multistep | {"flow_shift": shift}
            yield Peer(f"diffusers UniPC{order} [shift {shift}]", diffusers("UniPCMultistep", **options))
    options = {"solver_order": 4, "flow_shift": 0.5} | FLOW
    yield Peer("diffusers UniPC4 [shift 0.5]", diffusers("UniPCMultistep", **options))
    options = {"solver_order": 3, "flow_shift": 0.5} | FLOW
    yield Peer("diffusers DPM++3S [shift 0.5]", diffusers("DPMSolverSinglestep", **options))


def installed() -> tuple[list[Peer], list[str]]:
    """The methods that can be run here, and the libraries that are not installed."""
    peers: list[Peer] = []
    missing: list[str] = []
    for name, methods in (("flow_matching", of_flow_matching), ("azula", of_azula), ("diffusers", of_diffusers)):
        try:
            peers += methods()
        except ImportError:
            missing.append(name)
    return peers, missing
