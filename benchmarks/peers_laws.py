"""The laws that hold this library, held to other libraries' own objects through thin adapters.

A row is an object, a column a law by its number; FAILS comes with the figure that is out of its bound, listed below the
table. A dash is a law that does not concern the object, or that its interface cannot be asked: a sampler that only runs
whole is not asked for its order.

    python benchmarks/peers_laws.py [--only flow_matching azula torchcfm diffusers]

The peers come with `pip install -e '.[bench]'`. One that is not installed is left out, and the table says so.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from peers import Run, azula, diffusers
from torch import Tensor

import pathline as pl
from pathline.paths.path import HeadMix
from pathline.verify import Report, check_field, check_path, check_sampler, check_schedule, check_solver
from pathline.verify.parts import field, mixture

Row = tuple[str, Callable[[], Report]]
LINEAR = pl.GaussianPath(pl.LinearSchedule())


class Schedule(pl.Schedule):
    """A scheduler of flow_matching."""

    def __init__(self, scheduler: Any) -> None:
        self.scheduler = scheduler

    def alpha(self, t: Tensor) -> Tensor:
        return self.scheduler(t).alpha_t

    def beta(self, t: Tensor) -> Tensor:
        return self.scheduler(t).sigma_t

    def slopes(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return self.scheduler(t).d_alpha_t, self.scheduler(t).d_sigma_t

    @property
    def ends(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """As they are: it declares none."""
        t = torch.tensor([0.0, 1.0], dtype=torch.float64)
        (a, c), (b, e) = self.alpha(t).tolist(), self.beta(t).tolist()
        return (a, b), (c, e)


class Converted(pl.Field):
    """The exact field as a data prediction that flow_matching's path reads as a velocity."""

    def __init__(self, path: Any, schedule: pl.Schedule) -> None:
        super().__init__()
        self.path, self.prediction = pl.GaussianPath(schedule), pl.VELOCITY
        self.theirs, self.exact = path, field(schedule)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.theirs.target_to_velocity(self.exact.data(x, t), x, t)


class Solver(pl.Solver):
    """flow_matching's solver, asked for one step."""

    is_stochastic = False

    def __init__(self, method: str, order: int | None, nodes: tuple[float, ...]) -> None:
        self.method, self.nodes = method, nodes
        if order:
            self.order = order

    def step(self, process: Any, x: Tensor, t: Tensor, s: Tensor, noise: Any) -> Tensor:
        from flow_matching.solver import ODESolver

        solver = ODESolver(lambda x, t: process.drift(x, t))
        return solver.sample(x_init=x, step_size=None, method=self.method, time_grid=torch.stack((t, s)))

    def check(self, process: Any, times: Tensor) -> None:
        """Either way will do."""


class Point:
    """A point of a path that tells its velocity and its ends, and nothing else."""

    def __init__(self, x: Tensor, t: Tensor, known: dict[pl.Prediction, Callable[[], Tensor]]) -> None:
        self.x, self.t, self.known = x, t, known

    def target(self, kind: pl.Prediction) -> Tensor:
        if kind not in self.known:
            raise ValueError(f"no target of {kind}")
        return self.known[kind]()


class Path(pl.Path):
    """A path by its sampling function: noise, data, times of shape (batch,), and normal numbers, to (x, velocity)."""

    is_gaussian = False

    def __init__(self, drawn: Callable[..., tuple[Tensor, Callable[[], Tensor]]], schedule: pl.Schedule) -> None:
        self.drawn, self.schedule = drawn, schedule

    def point(self, noise: Tensor, data: Tensor, t: Any, draw: Any = None) -> Any:
        t = torch.as_tensor(t, dtype=data.dtype).expand(len(data))
        x, velocity = self.drawn(noise, data, t, draw)
        return Point(x, t, {pl.VELOCITY: velocity, pl.DATA: lambda: data, pl.NOISE: lambda: noise})

    def mix(self, heads: Any, kind: Any, t: Tensor) -> HeadMix:
        raise ValueError("it reads no kind from another")

    interval = refusal = is_bounded = target_variance = mix


def affine(path: Any) -> Callable[..., tuple[Tensor, Callable[[], Tensor]]]:
    """A path of flow_matching."""

    def drawn(noise: Tensor, data: Tensor, t: Tensor, draw: Any) -> tuple[Tensor, Callable[[], Tensor]]:
        made = path.sample(x_0=noise, x_1=data, t=t)
        return made.x_t, lambda: made.dx_t

    return drawn


def matcher(theirs: Any) -> Callable[..., tuple[Tensor, Callable[[], Tensor]]]:
    """A matcher of torchcfm, with the normal numbers of its own noise drawn outside."""
    has_start = not type(theirs).__name__.startswith("Target")

    def drawn(noise: Tensor, data: Tensor, t: Tensor, draw: Any) -> tuple[Tensor, Callable[[], Tensor]]:
        sigma = torch.as_tensor(theirs.compute_sigma_t(t), dtype=data.dtype).reshape(-1, 1)
        x = theirs.compute_mu_t(noise, data, t) + sigma * (draw(data) if has_start else noise)
        return x, lambda: theirs.compute_conditional_flow(noise, data, t, x)

    return drawn


class Stepped(pl.Sampler):
    """A sampler of azula, step by step, on its own clock: 1 is noise. Its noise is torch's own."""

    nodes = (0.0,)

    def __init__(self, name: str, nodes: tuple[float, ...] = (0.0,), order: int | None = None, **options: Any) -> None:
        self.name, self.options, self.nodes = name, options, nodes
        self.is_still = order is not None
        if order:
            self.order = order

    def walk(self, field: pl.Field, x: Tensor, times: Tensor, noise: Any = None) -> Iterator[Tensor]:
        import azula.sample
        from azula.denoise import Denoiser, DiracPosterior
        from azula.noise import Schedule

        class Linear(Schedule):
            def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
                return (1 - t).clamp(min=1e-3), t.clamp(min=1e-3)  # the ends of its own schedules

        class Adapter(Denoiser):
            def __init__(self) -> None:
                super().__init__()
                self.schedule = Linear()

            def forward(self, x: Tensor, t: Tensor, **_: Any) -> Any:
                return DiracPosterior(mean=field.data(x, 1 - t.to(x.dtype)))

        sampler = getattr(azula.sample, self.name)(Adapter(), silent=True, **self.options)
        yield x
        for t, s in itertools.pairwise(times):
            x = sampler.step(x, 1 - t, 1 - s).to(x.dtype)
            yield x


class Whole(pl.Sampler):
    """A sampler that only runs from noise to data: the states between are not shown, and stand still."""

    nodes = (0.0,)

    def __init__(self, run: Run) -> None:
        self.run = run

    def walk(self, field: pl.Field, x: Tensor, times: Tensor, noise: Any = None) -> Iterator[Tensor]:
        yield from [x] * (len(times) - 1)
        yield self.run(field.velocity, x.double(), len(times) - 1).to(x.dtype)


def of_flow_matching() -> Iterator[Row]:
    from flow_matching.path import AffineProbPath, CondOTProbPath, scheduler

    kinds = {
        "CondOTScheduler": (scheduler.CondOTScheduler(), pl.LinearSchedule()),
        "CosineScheduler": (scheduler.CosineScheduler(), pl.CosineSchedule()),
        "PolynomialConvexScheduler(3)": (scheduler.PolynomialConvexScheduler(3), pl.PolynomialSchedule(3)),
        "VPScheduler": (scheduler.VPScheduler(), pl.VariancePreservingSchedule()),
        "LinearVPScheduler": (scheduler.LinearVPScheduler(), None),
    }
    for name, (theirs, _) in kinds.items():
        yield f"flow_matching {name}", lambda theirs=theirs: check_schedule(Schedule(theirs))
    for name, (theirs, ours) in list(kinds.items())[:3]:
        path = AffineProbPath(theirs)
        yield f"flow_matching AffineProbPath, {name}", lambda p=path, o=ours: check_path(Path(affine(p), o), (3, 5))
    yield (
        "flow_matching CondOTProbPath.target_to_velocity",
        lambda: check_field(Converted(CondOTProbPath(), pl.LinearSchedule()), mixture(), tolerance=1e-9),
    )
    for method, order, nodes in (
        ("euler", 1, (0.0,)),
        ("midpoint", 2, (0.0, 1 / 2)),
        ("heun2", 2, (0.0, 1.0)),
        ("heun3", 3, (0.0, 1 / 3, 2 / 3)),
        ("rk4", 4, (0.0, 1 / 3, 2 / 3, 1.0)),
        ("dopri5", None, (0.0,)),  # its error is that of its tolerance, whatever the step
    ):
        solver, only = Solver(method, order, nodes), (19,) if method == "dopri5" else None
        yield f"flow_matching ODESolver {method}", lambda solver=solver, only=only: check_solver(solver, only)


def of_azula() -> Iterator[Row]:
    for name, nodes, order, options in (
        ("DDIMSampler", (0.0,), 1, {}),
        ("DDIMSampler", (0.0,), None, {"eta": 1.0}),
        ("DDPMSampler", (0.0,), None, {}),
        ("EulerSampler", (0.0,), 1, {}),
        ("HeunSampler", (0.0, 1.0), 2, {}),
        ("PCSampler", (0.0, 1.0), None, {}),
    ):
        sampler = Stepped(name, nodes, order, **options)
        label = f"azula {name}" + "".join(f" {key}={value:g}" for key, value in options.items())
        yield label, lambda s=sampler: upwards(s, 100 if s.is_still else 500)
    for name in ("zABSampler", "vABSampler", "zEABSampler", "xEABSampler", "REABSampler"):
        run = azula(name)
        yield f"azula {name}", lambda run=run: upwards(Whole(run), 100, (11, 19))


def of_torchcfm() -> Iterator[Row]:
    import torchcfm.conditional_flow_matching as theirs

    for name, options, schedule in (
        ("ConditionalFlowMatcher", {"sigma": 0.0}, pl.LinearSchedule()),
        ("ExactOptimalTransportConditionalFlowMatcher", {"sigma": 0.0}, pl.LinearSchedule()),
        ("TargetConditionalFlowMatcher", {"sigma": 0.1}, pl.LinearSchedule(0.1)),
        ("VariancePreservingConditionalFlowMatcher", {"sigma": 0.0}, pl.CosineSchedule()),
        ("SchrodingerBridgeConditionalFlowMatcher", {"sigma": 0.5}, pl.LinearSchedule()),
        ("ConditionalFlowMatcher", {"sigma": 0.1}, pl.LinearSchedule()),
    ):
        path = Path(matcher(getattr(theirs, name)(**options)), schedule)
        yield f"torchcfm {name} sigma={options['sigma']:g}", lambda path=path: check_path(path, (3, 5))


def of_diffusers() -> Iterator[Row]:
    for label, run in (
        ("FlowMatchEulerDiscrete", diffusers("FlowMatchEulerDiscrete")),
        ("FlowMatchEulerDiscrete [even]", diffusers("FlowMatchEulerDiscrete", True)),
        ("FlowMatchHeunDiscrete", diffusers("FlowMatchHeunDiscrete")),
        ("FlowMatchHeunDiscrete [even]", diffusers("FlowMatchHeunDiscrete", True)),
    ):
        yield f"diffusers {label}", lambda run=run: upwards(Whole(run), 100, (11, 19))


def upwards(sampler: pl.Sampler, steps: int, only: tuple[int, ...] | None = None) -> Report:
    """What concerns the way from noise to data: none of them is meant for the way back."""
    report = check_sampler(sampler, steps, only)
    return Report(report.part, tuple(row for row in report.checked if row.law.name != "a_sampler_runs_down_to_noise"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    families = {
        "flow_matching": of_flow_matching,
        "azula": of_azula,
        "torchcfm": of_torchcfm,
        "diffusers": of_diffusers,
    }
    parser.add_argument("--only", nargs="+", choices=families, default=list(families))
    torch.manual_seed(0)
    reports: dict[str, Report] = {}
    missing = []
    for name in parser.parse_args().only:
        try:
            for label, check in families[name]():
                reports[label] = check()
                print(f"{label}: {len(reports[label].broken)} of {len(reports[label].checked)}", flush=True)
        except ImportError:
            missing.append(name)
    numbers = sorted({row.law.number for report in reports.values() for row in report.checked})
    print("\n| object | " + " | ".join(map(str, numbers)) + " |\n|---|" + "---|" * len(numbers))
    for label, report in reports.items():
        cells = []
        for number in numbers:
            rows = [row for row in report.checked if row.law.number == number]
            failures = [failure for row in rows for failure in row.failures]
            cells.append("-" if not rows else f"FAILS {failures[0][:60]}" if failures else "holds")
        print(f"| {label} | " + " | ".join(cells) + " |")
    for label, report in reports.items():
        for row in report.broken:
            print(f"\n{label}, law {row.law.number}: " + "; ".join(row.failures[:2]))
    if missing:
        print(f"\nnot installed, and left out: {', '.join(missing)}")


if __name__ == "__main__":
    main()
