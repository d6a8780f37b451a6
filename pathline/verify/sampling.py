"""Laws of samplers: 11, 13 and 19."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from scipy.stats import chi2
from torch import Tensor

from pathline.data.distributions import Normal
from pathline.fields.exact import MixtureField
from pathline.fields.field import Field
from pathline.noise import Noise, philox
from pathline.paths.path import GaussianPath
from pathline.paths.predictions import DATA, NOISE
from pathline.paths.schedules import LinearSchedule, Schedule, VariancePreservingSchedule
from pathline.sampling.churn import ChurnSampler
from pathline.sampling.corrector import PredictorCorrector
from pathline.sampling.dynamics import diffusion_of
from pathline.sampling.exponential import ExponentialSDE
from pathline.sampling.multistep import GeneralSampler, Multistep
from pathline.sampling.sample import sample
from pathline.sampling.sampler import Sampler
from pathline.sampling.samplers import DDIM, ODESampler, SDESampler
from pathline.sampling.sigmas import MemorylessSigma, Sigma
from pathline.solvers.runge_kutta import EULER, HEUN
from pathline.solvers.solver import WALK_STREAM
from pathline.solvers.stochastic import StochasticHeun
from pathline.verify.fields import sigmas
from pathline.verify.parts import each_head_and_schedule, field, heads, mixture, points, schedules
from pathline.verify.table import Figure, law, once, worst_of

COUNT, STEPS = 20_000, 1000


def mode_figures(x: Tensor, blur: float = 0.0) -> Iterator[Figure]:
    """Whether points have the law of the three modes: their spread, their shares, and all of it at once."""
    exact = mixture(blur)
    real = exact.sample(COUNT, seed=41)
    x = x.double()
    nearest, true = (torch.cdist(z, exact.means).argmin(1) for z in (x, real))
    spread = _pooled_variance(x, nearest) / _pooled_variance(real, true)
    yield Figure("variance ratio", float(spread), 1.05, 0.95)
    share = torch.bincount(true, minlength=3) / COUNT
    counts = torch.bincount(nearest, minlength=3)
    # both sets are samples, so each cell varies twice as much
    statistic = float(((counts - len(x) * share) ** 2 / (2 * len(x) * share)).sum())
    yield Figure("chi^2 of the shares of the modes", statistic, float(chi2.isf(1e-7, 2)))
    yield Figure("squared energy distance", _energy(x[:6000], real[:6000]), 1e-3, -1e-3)


def _pooled_variance(x: Tensor, mode: Tensor) -> Tensor:
    return torch.stack([x[mode == k].var(0) for k in range(3)]).mean()


def _energy(x: Tensor, y: Tensor) -> float:
    from pathline.metrics.distances import energy_distance

    return float(energy_distance(x, y))


def _sigma_list() -> Iterable[tuple[str, tuple[Any, ...]]]:
    return [(name, (sigma, None, None)) for name, sigma in sigmas().items()]


def _every_pair() -> Iterable[tuple[str, tuple[Any, ...]]]:
    return [
        (f"{head_name} {name} {which}", (sigmas()[which], schedule, head))
        for (head_name, head), (name, schedule) in itertools.product(heads().items(), schedules().items())
        for which in ("1", "memoryless")
    ]


@law(11, _sigma_list, seconds=11.0, is_whole=True)
def every_sigma_has_the_same_marginals(sigma: Sigma, schedule: Schedule | None, head: Any) -> Iterator[Figure]:
    """Samples have the law of the data whatever sigma_t, on all of [0, 1]."""
    exact = field(schedule, head) if head is not None else field(schedule)
    x = sample(exact, (COUNT, 2), SDESampler(sigma), steps=STEPS, seed=42)
    yield from mode_figures(x, exact.path.schedule.ends[1][1])


@law(11, _every_pair, seconds=11.0)
def every_head_and_schedule_too(sigma: Sigma, schedule: Schedule, head: Any) -> Iterator[Figure]:
    """The same from every head on every schedule, with two sigmas each."""
    yield from every_sigma_has_the_same_marginals(sigma, schedule, head)


def _samplers() -> Iterable[tuple[str, tuple[Any, ...]]]:
    return [
        ("ode", (ODESampler(HEUN), 100)),
        ("stochastic-heun", (SDESampler(1.0, StochasticHeun()), 300)),
        ("ddim:0", (DDIM(0.0), 500)),
        ("ddim:0.5", (DDIM(0.5), 500)),
        ("ddim:1", (DDIM(1.0), 500)),
        ("exponential:1", (ExponentialSDE(1.0), 60)),
        ("churn", (ChurnSampler(churn=10.0), 50)),
        ("predictor-corrector", (PredictorCorrector(ODESampler(HEUN)), 40)),
        ("general", (GeneralSampler(), 30)),
        ("dpm", (Multistep.dpm(), 60)),
    ]


def _walkers() -> Iterable[tuple[str, tuple[Any, ...]]]:
    return [(name, (sampler,)) for name, (sampler, _) in _samplers()]


def _every_other_pair() -> Iterable[tuple[str, tuple[Any, ...]]]:
    """The default on every head and schedule, and beside it each of the others in turn: each meets all of both."""
    others: list[tuple[str, Sampler, int]] = [
        ("exponential:1", ExponentialSDE(1.0), 200),
        ("exponential:memoryless", ExponentialSDE(MemorylessSigma()), 200),
        ("churn", ChurnSampler(churn=10.0), 400),
        ("predictor-corrector", PredictorCorrector(ODESampler(HEUN)), 200),
    ]
    return [
        (f"{pair} {name}", (*parts, sampler, steps))
        for (pair, parts), other in zip(each_head_and_schedule(), itertools.cycle(others), strict=False)
        for name, sampler, steps in (("general", GeneralSampler(), 30), other)
    ]


@law(11, _every_other_pair, seconds=4.0)
def every_sampler_on_every_head_and_schedule(
    head: Any, schedule: Schedule, sampler: Sampler, steps: int
) -> Iterator[Figure]:
    """Other samplers, the default too, have the law of the data from every head on every schedule."""
    x = sample(field(schedule, head), (COUNT, 2), sampler, steps=steps, seed=43)
    yield from mode_figures(x, schedule.ends[1][1])


@law(11, _samplers, seconds=4.0)
def every_sampler_has_the_same_marginals(sampler: Sampler, steps: int) -> Iterator[Figure]:
    """Samples have the law of the data whatever the sampler."""
    yield from mode_figures(sample(field(), (COUNT, 2), sampler, steps=steps, seed=43))


@law(
    11,
    lambda: [(f"{name} {steps}", (sigmas()[name], steps)) for name in ("2", "memoryless") for steps in (50, 100)],
    seconds=0.3,
)
def long_steps_keep_the_spread(sigma: Sigma, steps: int) -> Iterator[Figure]:
    """In steps too long for its sigma, an SDE keeps the spread of narrow data and of data as wide as the noise."""
    for std in (0.3, 1.0):
        normal = Normal(torch.zeros(1, dtype=torch.float64), torch.tensor([std**2], dtype=torch.float64))
        exact = MixtureField(normal, GaussianPath(LinearSchedule()))
        x = sample(exact, (COUNT, 1), SDESampler(sigma), steps=steps, seed=49)
        yield Figure(f"variance ratio, sd {std}", float(x.var() / std**2), 1.1, 0.9)


@law(11, lambda: [(name, (sigma,)) for name, sigma in sigmas().items()], seconds=6.0)
def backwards_data_becomes_noise(sigma: Sigma) -> Iterator[Figure]:
    """Run down from data to noise, every sigma_t ends at a standard normal."""
    yield from a_sampler_runs_down_to_noise(SDESampler(sigma), 500)


@law(11, lambda: [(name, parts) for name, parts in _samplers() if name in ("ode", "ddim:0.5", "general")], seconds=5.0)
def a_sampler_runs_down_to_noise(sampler: Sampler, steps: int) -> Iterator[Figure]:
    """Run down from data to noise, a sampler ends at a standard normal."""
    data = mixture().sample(COUNT, seed=44)
    times = torch.linspace(1, 0, steps + 1, dtype=torch.float64)
    *_, x = sampler.walk(field(), data, times, Noise(45))
    yield Figure("variance ratio", float(x.var(0).mean()), 1.05, 0.95)
    yield Figure("squared energy distance", _energy(x[:6000], points(6000, seed=46)), 1e-3, -1e-3)


@law(11, once, seconds=4.0)
def memoryless_forgets_its_start() -> Iterator[Figure]:
    """With the memoryless sigma start and end are uncorrelated, and the way back has the drift alpha'/alpha x."""
    exact = field(head=NOISE)
    start = Noise(47).normal((COUNT, 2), dtype=torch.float64)
    times = torch.linspace(0, 1, 251, dtype=torch.float64)
    *_, x = SDESampler(MemorylessSigma()).walk(exact, start, times, Noise(48))
    correlation = torch.corrcoef(torch.cat((start, x), 1).T)[:2, 2:]
    yield Figure("largest z of 4", float(correlation.abs().max()) * COUNT**0.5, 4.75)
    worst = 0.0
    for schedule in schedules().values():
        process = diffusion_of(field(schedule), MemorylessSigma(), is_backward=True)
        for t in (0.1, 0.5, 0.9):
            time, y = torch.tensor(t, dtype=torch.float64), points(100)
            c = schedule.at(time)
            drift = c.alpha_dot / c.alpha * y
            worst = worst_of(worst, float((process.drift(y, time) - drift).norm() / (y.norm() + drift.norm())))
    yield Figure("error of the drift back", worst, 1e-10)


@law(13, once)
def ddim_is_euler_on_the_linear_path() -> Iterator[Figure]:
    """DDIM(eta = 0) on the linear path is Euler's method, upwards and downwards."""
    exact, x = field(), points(200)
    worst = 0.0
    for times in (
        torch.linspace(0, 1, 12, dtype=torch.float64) ** 1.3,
        torch.linspace(0.9, 0, 12, dtype=torch.float64),
    ):
        for a, b in zip(DDIM(0.0).walk(exact, x, times), ODESampler(EULER).walk(exact, x, times), strict=True):
            worst = worst_of(worst, float((a - b).abs().max()))
    yield Figure("error", worst, 1e-10)


@law(13, once)
def ddim_is_ddpm_when_eta_is_one() -> Iterator[Figure]:
    """DDIM(eta = 1) is DDPM's ancestral step: the posterior of x_s given x_t and the expected data; between, Song's."""
    schedule, times = VariancePreservingSchedule(), torch.linspace(0.05, 0.95, 10, dtype=torch.float64)
    exact, noise = field(schedule), Noise(51)
    x = points(200)
    worst = 0.0
    for k, (t, s) in enumerate(itertools.pairwise(times)):
        *_, got = DDIM(1.0).walk(exact, x, torch.stack((t, s)), noise)
        bar_t, bar_s = schedule.alpha(t) ** 2, schedule.alpha(s) ** 2  # Ho et al. 2020, equations 6 and 7
        step = bar_t / bar_s
        data, eps = exact.data(x, t), noise.of(WALK_STREAM).like(x)
        mean = bar_s.sqrt() * (1 - step) / (1 - bar_t) * data + step.sqrt() * (1 - bar_s) / (1 - bar_t) * x
        true = mean + ((1 - bar_s) / (1 - bar_t) * (1 - step)).sqrt() * eps
        worst, x = worst_of(worst, float((got - true).abs().max())), points(200, seed=k)
    yield Figure("error", worst, 1e-10)
    *_, got = DDIM(0.5).walk(exact, x, times[4:6], noise)
    t, s = times[4:6]
    bar_t, bar_s = schedule.alpha(t) ** 2, schedule.alpha(s) ** 2  # Song et al. 2021, equations 12 and 16
    fresh = 0.5 * ((1 - bar_s) / (1 - bar_t) * (1 - bar_t / bar_s)).sqrt()
    own = (1 - bar_s - fresh**2).sqrt() * exact.noise(x, t)
    true = bar_s.sqrt() * exact.data(x, t) + own + fresh * noise.of(WALK_STREAM).like(x)
    yield Figure("error, eta = 0.5", float((got - true).abs().max()), 1e-10)


@law(19, once)
def noise_is_the_published_generator() -> Iterator[Figure]:
    """Philox4x32-10 gives the known answers that its authors publish."""
    pi = (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), (0xA4093822, 0x299F31D0)
    ones = 0xFFFFFFFF
    known = [
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((ones,) * 4, (ones, ones), (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (*pi, (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1)),
    ]
    wrong = 0
    for counter, key, answer in known:
        got = philox([torch.tensor([word]) for word in counter], key)
        wrong += sum(int(a) != b for a, b in zip(got, answer, strict=True))
    yield Figure("wrong words of 12", wrong, 0)


@law(19, once)
def noise_is_normal_and_independent() -> Iterator[Figure]:
    """Noise has the moments of a normal, and its samples, elements, draws and streams are uncorrelated."""
    noise, count = Noise(52), 400_000
    x = noise.normal((count,), dtype=torch.float64)
    moments = [x.mean(), (x**2).mean() - 1, (x**3).mean(), (x**4).mean() - 3]
    spread = [1.0, 2.0, 15.0, 96.0]
    z = [abs(float(m)) * (count / v) ** 0.5 for m, v in zip(moments, spread, strict=True)]
    others = (x.roll(1), noise.normal((count,), 1, torch.float64), noise.of(1).normal((count,), 0, torch.float64))
    z += [
        abs(float((x * other).mean())) * count**0.5
        for other in (*others, x.roll(2), Noise(53).normal((count,), 0, torch.float64))
    ]
    yield Figure("largest z of 9", max(z), 4.9)


def _batches() -> Iterable[tuple[str, tuple[Any, ...]]]:
    return [(str(size), (size,)) for size in (1, 7, 4096)]


@law(19, _batches, seconds=0.5)
def a_sample_depends_on_seed_and_index(batch: int) -> Iterator[Figure]:
    """Sample i has the same bits of noise in any batch, and comes out the same."""
    count, different = 4096, 0
    wanted = range(0, count, batch) if batch > 1 else (0, 1, 2, 3, 4, 5, 1000, 4095)
    for shape in ((3,), (2,), (1, 5, 5)):
        for dtype in (torch.float32, torch.float64):
            whole = Noise(54).normal((count, *shape), 9, dtype)
            for first in wanted:
                part = Noise(54, first=first).normal((min(batch, count - first), *shape), 9, dtype)
                different += int((part != whole[first : first + batch]).sum())
    yield Figure("numbers that differ", different, 0)
    exact = _Single(field())
    whole = _walked(exact, 0, 64)
    size = min(batch, 64)
    worst = worst_of(
        *(float((_walked(exact, i, size) - whole[i : i + size]).abs().max()) for i in range(0, 64 - size + 1, size))
    )
    yield Figure("error of a sample", worst, 1e-5)


@law(19, _walkers)
def a_walk_of_a_sample_is_its_own(sampler: Sampler) -> Iterator[Figure]:
    """A sampler's sample comes out the same in any batch and at any time, from the same noise."""
    exact = _Single(field())
    whole, again = _walked(exact, 0, 28, sampler), _walked(exact, 0, 28, sampler)
    yield Figure("numbers that differ the second time", int((whole != again).sum()), 0)
    for size in (1, 7):
        parts = torch.cat([_walked(exact, first, size, sampler) for first in range(0, 28, size)])
        yield Figure(f"error of a sample in batches of {size}", float((parts - whole).abs().max()), 1e-5)


@law(5, _walkers)
def a_sampler_begins_at_its_start(sampler: Sampler) -> Iterator[Figure]:
    """A walk gives a state for each time, x at the first, changes none later, and keeps to its count of evaluations."""
    exact, x, steps = _Single(field()), points(9, seed=56), sampler.usual_steps
    states, kept = [], []
    times = sampler.times(exact, steps)
    for state in sampler.walk(exact, x, times, Noise(57)):
        states.append(state)
        kept.append(state.clone())
    calls = exact.calls
    yield Figure("states beyond one for each time", abs(len(states) - steps - 1), 0)
    yield Figure("start less x", float((states[0] - x).abs().max()), 0)
    changed = sum(not torch.equal(a, b) for a, b in zip(states, kept, strict=True))
    yield Figure("states changed after they were given", changed, 0)
    yield Figure("calls of the field for one that is declared", calls / (steps * len(sampler.nodes)), 1)


def _walked(exact: Field, first: int, count: int, sampler: Sampler | None = None) -> Tensor:
    """Samples first to first + count, in float32, by an SDE unless a sampler is given."""
    noise, sampler = Noise(55, first=first), sampler or SDESampler(1.0)
    *_, x = sampler.walk(exact, noise.normal((count, 2)), sampler.times(exact, 20), noise.of(1))
    return x


class _Single(Field):
    """Another field under another name, as users write one."""

    def __init__(self, other: Field) -> None:
        super().__init__()
        self.other = other
        self.path = GaussianPath(LinearSchedule())
        self.prediction = DATA
        self.calls = 0

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        self.calls += 1
        return self.other.data(x, t)
