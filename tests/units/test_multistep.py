"""Multistep methods: exact where nothing bends, the published formulas where they are known, and the walk itself."""

import functools
import math

import pytest
import torch
from torch import nn

import pathline as pl
from pathline.noise import Noise
from pathline.sampling.grids import UNIFORM
from pathline.sampling.multistep import REACH, Step
from pathline.specs import build
from pathline.verify.multistep import methods
from pathline.verify.parts import field, heads, mixture, points, schedules

pytestmark = pytest.mark.fast

METHODS = {**methods(), "general": pl.GeneralSampler()}
SOME = {
    name: METHODS[name] for name in ("adams-bashforth:2", "adams-moulton:3", "dpm:2", "deis:3", "unipc:2", "general")
}
GRIDS = ((UNIFORM, 1), (pl.PowerGrid(1.6), 2), (pl.LogSNRGrid(-3.0, 3.0), 2), (pl.CosineGrid(), 7))
each_method = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS.keys())
some_methods = pytest.mark.parametrize("method", SOME.values(), ids=SOME.keys())
LINE = torch.linspace(0, 1, 9, dtype=torch.float64)


class Still(pl.Field):
    """A field whose data is known, or its noise; the other end is what the point says."""

    def __init__(self, schedule, data=None, noise=None):
        super().__init__()
        self.path, self.prediction = pl.GaussianPath(schedule), pl.V
        self.ends = data, noise

    def forward(self, x, t):
        c = self.path.schedule.at(t)
        data, noise = self.ends
        if data is None:
            data = (x - c.beta * noise) / c.alpha
        elif noise is None:
            noise = (x - c.alpha * data) / c.beta
        return self.prediction.target(c, data, noise)


class Counted(pl.Field):
    """Another field, which counts its calls and remembers when they were."""

    def __init__(self, other):
        super().__init__()
        self.other, self.path, self.prediction, self.times_read = other, other.path, other.prediction, []

    def forward(self, x, t):
        self.times_read.append(float(t))
        return self.other(x, t)


PATHS = {name: schedule for name, schedule in schedules().items() if name != "function"}  # whose slopes are dear
each_schedule = pytest.mark.parametrize("schedule", PATHS.values(), ids=PATHS.keys())


@each_schedule
def test_what_stands_still_is_met_by_each_method_in_any_steps(schedule):
    data, noise = points(4, seed=1), points(4, seed=2)
    (a, b), (c, d) = schedule.ends
    start, end = a * data + b * noise, c * data + d * noise
    for grid, steps in GRIDS:
        times = grid.times(Still(schedule), steps)
        for method in METHODS.values():
            *_, up = method.walk(Still(schedule, data, noise), start, times)
            *_, down = method.walk(Still(schedule, data, noise), end, times.flip(0))
            assert torch.allclose(up, end, atol=1e-9) and torch.allclose(down, start, atol=1e-9 * b), method


@some_methods
@each_schedule
def test_a_point_is_found_from_any_noise_and_noise_from_any_point(method, schedule):
    known, x = points(4, seed=1), points(4, seed=2)
    (a, b), (c, d) = schedule.ends
    times = UNIFORM.times(Still(schedule), 8)
    *_, up = method.walk(Still(schedule, data=known), b * x + a * known, times)
    assert torch.allclose(up, c * known + d * x, atol=1e-8)
    *_, down = method.walk(Still(schedule, noise=known), c * x + d * known, times.flip(0))
    assert torch.allclose(down, b * known + a * x, atol=1e-8 * b)


@functools.cache
def ends_of(name):
    """Starts on a path, and where its flow takes them, found with care."""
    true = field(schedules()[name])
    start = points(16) * true.path.start_scale
    *_, end = pl.ODESampler(pl.RK4).walk(true, start, pl.PowerGrid(1.6).times(true, 120))
    return start, end


def pairs():
    """All; those of each schedule and each head that every run walks, and the others in the slow tier."""
    for i, name in enumerate(schedules()):
        for j, (which, head) in enumerate(heads().items()):
            is_slow = name == "function" or (i + j) % 3
            yield pytest.param(head, name, id=f"{which} {name}", marks=[pytest.mark.slow] if is_slow else [])


@pytest.mark.parametrize(("head", "name"), pairs())
def test_every_head_on_every_schedule_walks_from_end_to_end_both_ways(head, name):
    exact, (start, end) = field(schedules()[name], head), ends_of(name)
    times = pl.PowerGrid(1.6).times(exact, 40)
    for method, most in (("general", 0.015), ("dpm:2", 0.03), ("deis:2", 0.1), ("unipc:3", 0.03)):
        *_, up = METHODS[method].walk(exact, start, times)
        *_, down = METHODS[method].walk(exact, end, times.flip(0))
        assert float((up - end).norm(dim=1).max()) < most
        assert float((down - start).norm(dim=1).max()) < most * exact.path.start_scale


@each_method
@pytest.mark.parametrize("is_downward", [False, True])
def test_a_step_is_one_call_at_its_start(method, is_downward):
    exact = Counted(field())
    times = LINE.flip(0) if is_downward else LINE
    *_, _ = method.walk(exact, points(2), times)
    assert exact.times_read == times[:-1].tolist()
    assert len(method.times(exact, evaluations=8)) == len(method.times(exact, steps=8)) == 9


@each_method
def test_states_are_yielded_one_a_time_and_none_is_changed_later(method):
    x = points(3)
    begin, states, copies = x.clone(), [], []
    for state in method.walk(field(), x, LINE):
        states.append(state)
        copies.append(state.clone())
    assert len(states) == 9 and states[0] is x and torch.equal(x, begin)
    assert all(torch.equal(a, b) for a, b in zip(states, copies, strict=True))


@some_methods
def test_a_sample_alone_is_the_same(method):
    together = [*method.walk(field(), points(5), LINE)]
    alone = [*method.walk(field(), points(5)[2:3], LINE)]
    assert all(torch.allclose(a[2:3], b, rtol=0, atol=1e-12) for a, b in zip(together, alone, strict=True))


class Wave(nn.Module):
    """A small smooth network with a condition."""

    def __init__(self):
        super().__init__()
        self.a = nn.Parameter(torch.tensor([0.7, -0.4], dtype=torch.float64))

    def forward(self, x, t, y=None):
        return (x * self.a.to(x) + t[:, None].to(x)).sin() + (0 if y is None else y[:, None].to(x))


def wave(schedule=None):
    return pl.NetworkField(Wave(), pl.GaussianPath(schedule or pl.LinearSchedule()))


@some_methods
def test_gradients_flow_to_points_and_parameters(method):
    model, x = wave(), points(2).requires_grad_()
    times = LINE[[0, 2, 4, 6, 8]]

    def end_of(x, a):
        with torch.no_grad():
            before = model.network.a.clone()
            model.network.a.copy_(a)
            *_, end = method.walk(model, x, times)
            model.network.a.copy_(before)
        return float(end.square().sum())

    *_, end = method.walk(model, x, times)
    slopes = torch.autograd.grad(end.square().sum(), (x, model.network.a))
    for i, (value, slope) in enumerate(zip((x.detach(), model.network.a.detach()), slopes, strict=True)):
        way, h = torch.ones_like(value) / value.numel() ** 0.5, 1e-5
        moved = [[x.detach(), model.network.a.detach()] for _ in range(2)]
        moved[0][i], moved[1][i] = value + h * way, value - h * way
        assert float((slope * way).sum()) == pytest.approx((end_of(*moved[0]) - end_of(*moved[1])) / (2 * h), rel=1e-6)


@some_methods
def test_each_sample_follows_its_own_condition(method):
    model, x, y = wave(), points(3), torch.tensor([0.0, 1.0, -2.0])
    *_, together = method.walk(model.given(y), x, LINE)
    for i in range(3):
        *_, alone = method.walk(model.given(y[i : i + 1]), x[i : i + 1], LINE)
        assert torch.allclose(together[i : i + 1], alone, atol=1e-12)
    *_, guided = method.walk(pl.ClassifierFree(model.given(y), model.given(torch.zeros(3)), 1.0), x, LINE)
    assert torch.allclose(guided, together, atol=1e-12)


@some_methods
def test_float32_is_float64_to_its_precision(method):
    model = wave(pl.CosineSchedule())
    *_, single = method.walk(model, points(4).float(), LINE)
    *_, double = method.walk(model, points(4), LINE)
    assert single.dtype == torch.float32 and torch.allclose(single.double(), double, atol=2e-5)


@some_methods
def test_up_and_down_again_is_near_the_start(method):
    errors = []
    for steps in (20, 80):
        times = pl.PowerGrid(1.6).times(field(), steps)
        *_, end = method.walk(field(), points(16), times)
        *_, start = method.walk(field(), end, times.flip(0))
        errors.append(float((start - points(16)).norm(dim=1).median()))
    assert errors[1] < 0.02 and errors[1] < errors[0] / 3


class Bridge(pl.Field):
    """A bridge's field that moves all points by the same way."""

    def __init__(self, sigma=0.0):
        super().__init__()
        self.path, self.prediction = pl.BridgePath(sigma), pl.VELOCITY

    def forward(self, x, t):
        return 2 * t.to(x) * torch.ones_like(x)


@pytest.mark.parametrize("sigma", [0.0, 0.5])
def test_a_bridge_is_walked_by_its_velocity_and_by_nothing_else(sigma):
    for method in (pl.Multistep.adams_bashforth(2), pl.Multistep.adams_moulton(2), pl.GeneralSampler()):
        *_, end = method.walk(Bridge(sigma), points(3), torch.cat((LINE[:1] + 1e-3, LINE[1:])))
        assert torch.allclose(end, points(3) + 1, atol=0.02)
    for method in (pl.Multistep.dpm(), pl.Multistep.deis(), pl.Multistep.unipc()):
        with pytest.raises(ValueError, match="kind must be VELOCITY on BridgePath"):
            method.walk(Bridge(sigma), points(3), LINE)


def test_of_several_heads_the_velocity_is_followed_and_no_other():
    class Two(pl.Field):
        def __init__(self):
            super().__init__()
            self.path, self.prediction = pl.GaussianPath(pl.LinearSchedule()), (pl.VELOCITY, pl.DATA)

        def forward(self, x, t):
            return (3 - x) / (1 - t), torch.full_like(x, math.nan)  # the second is not to be used

    *_, end = pl.Multistep.dpm(2).walk(Two(), points(3), LINE)
    assert torch.allclose(end, torch.full_like(end, 3.0))


@pytest.mark.parametrize("order", [0, 5, -1])
def test_an_order_that_there_is_not_is_refused(order):
    with pytest.raises(ValueError, match=f"order must be 1, 2, 3 or 4, got {order}"):
        pl.Multistep.dpm(order)


@pytest.mark.parametrize("kind", [pl.SCORE, pl.V, "data"])
def test_a_kind_that_varies_with_time_is_refused(kind):
    with pytest.raises(ValueError, match="kind must be VELOCITY, DATA or NOISE"):
        pl.Multistep(kind)


@some_methods
def test_times_that_want_a_gradient_are_refused(method):
    with pytest.raises(ValueError, match="times must not require a gradient"):
        method.walk(field(), points(3), LINE.clone().requires_grad_())


@some_methods
def test_a_single_time_is_refused(method):
    for times in (torch.tensor(0.5), torch.tensor([0.5])):
        with pytest.raises(ValueError, match="times must be a row of at least two"):
            method.walk(field(), points(3), times)


def test_a_family_has_a_name_and_takes_its_order():
    assert build(pl.Sampler, "dpm") == pl.Multistep.dpm(2)
    assert build(pl.Sampler, "adams-moulton:4") == pl.Multistep.adams_moulton(4)
    assert build(pl.Sampler, "unipc:order=3") == pl.Multistep.unipc(3)
    assert build(pl.Sampler, "general") == pl.default_sampler()


@pytest.mark.parametrize(("steps", "order"), [(1, 2), (14, 2), (15, 3), (29, 3), (30, 4), (200, 4)])
def test_the_default_settles_its_order_by_the_steps(steps, order):
    method = pl.GeneralSampler().settled(steps)
    assert method == pl.Multistep(pl.VELOCITY, order, is_corrected=True, grid=pl.PowerGrid(1.6))
    times = pl.GeneralSampler().times(field(), steps=steps)
    assert torch.equal(times, method.times(field(), steps=steps))
    if steps < 50:
        walks = pl.GeneralSampler().walk(field(), points(2), times), method.walk(field(), points(2), times)
        assert all(torch.equal(a, b) for a, b in zip(*walks, strict=True))


def test_the_default_is_near_the_end_in_fewer_calls_than_heun():
    exact, start = field(), points(200)
    *_, true = pl.ODESampler(pl.RK4).walk(exact, start, pl.PowerGrid(1.6).times(exact, 300))
    errors = []
    for sampler in (pl.default_sampler(), pl.ODESampler()):
        end = pl.sample(exact, (200, 2), sampler, evaluations=20, start=start)
        errors.append(float((end - true).norm(dim=1).median()))
    assert errors[0] < errors[1] / 3


# The published formulas


def values_along(kind, times):
    """Some values of a kind at these times, that do not depend on the point: of shape `(len(times), 1)`."""
    return torch.stack([(3 * t + kind).sin()[None] for t in times])


class Given(pl.Field):
    """A field whose prediction depends on time alone."""

    def __init__(self, head, schedule):
        super().__init__()
        self.path, self.prediction = pl.GaussianPath(schedule), head

    def forward(self, x, t):
        return (3 * t + 1).sin() * torch.ones_like(x)


UNEVEN = torch.tensor([0.1, 0.25, 0.3, 0.42, 0.5], dtype=torch.float64)


def test_adams_and_bashforth_of_order_two_with_uneven_steps_is_the_textbooks():
    q = values_along(1, UNEVEN)
    x = points(1, 1)
    states = [*pl.Multistep.adams_bashforth(2).walk(Given(pl.VELOCITY, pl.LinearSchedule()), x, UNEVEN)]
    h = UNEVEN.diff()
    assert torch.allclose(states[1], x + h[0] * q[0])
    for k in (1, 2, 3):  # Hairer, Norsett & Wanner, III.5: x + h ((1 + r/2) f_n - r/2 f_{n-1}), r = h_n / h_{n-1}
        r = h[k] / h[k - 1]
        assert torch.allclose(states[k + 1], states[k] + h[k] * ((1 + r / 2) * q[k] - r / 2 * q[k - 1]), atol=1e-14)


def test_adams_and_bashforth_and_moulton_with_even_steps_are_the_textbooks():
    times = torch.linspace(0.2, 0.6, 5, dtype=torch.float64)
    c = pl.LinearSchedule().at(times)
    h = float(times[1] - times[0])
    rows = [list(step.predict) for step in pl.Multistep.adams_bashforth(4).plan(c, [True] * 4)]
    corrected = [list(step.correct) for step in pl.Multistep.adams_moulton(3).plan(c, [True] * 4)]
    assert torch.tensor(rows[2]).tolist() == pytest.approx([h * b / 12 for b in (23, -16, 5)])
    assert torch.tensor(rows[3]).tolist() == pytest.approx([h * b / 24 for b in (55, -59, 37, -9)])
    assert torch.tensor(corrected[0]).tolist() == pytest.approx([h / 2, h / 2])
    assert torch.tensor(corrected[1]).tolist() == pytest.approx([h * b / 12 for b in (5, 8, -1)])
    assert torch.tensor(corrected[2]).tolist() == pytest.approx([h * b / 24 for b in (9, 19, -5, 1)])
    assert not corrected[3]  # the last step ends where nothing is read


@pytest.mark.parametrize(
    "schedule", [pl.LinearSchedule(), pl.CosineSchedule(), pl.VariancePreservingSchedule()], ids=repr
)
def test_dpm_solver_plus_plus_is_the_published_one(schedule):
    """Lu et al. 2022, https://arxiv.org/abs/2211.01095, of lambda = log(alpha / beta)."""
    x, q = points(1, 1), values_along(1, UNEVEN)
    two, three = ([*pl.Multistep.dpm(k).walk(Given(pl.DATA, schedule), x, UNEVEN)] for k in (2, 3))
    c = schedule.at(UNEVEN)
    lam = (c.alpha / c.beta).log()
    h = lam.diff()

    def kept(k, x):
        return c.beta[k + 1] / c.beta[k] * x - c.alpha[k + 1] * torch.expm1(-h[k]) * q[k]

    assert torch.allclose(two[1], kept(0, x), atol=1e-13) and torch.allclose(three[1], two[1], atol=1e-13)
    for k in (1, 2, 3):  # 2M: the slope (q_k - q_{k-1}) / h_{k-1}, integrated
        phi = c.alpha[k + 1] * (torch.expm1(-h[k]) / h[k] + 1)
        slope = (q[k] - q[k - 1]) * h[k] / h[k - 1]
        assert torch.allclose(two[k + 1], kept(k, two[k]) + phi * slope, atol=1e-13)
    for k in (2, 3):  # 3M: D1 and D2 of divided differences; D2 counts twice, or it would be no parabola's integral
        r0, r1 = h[k - 1] / h[k], h[k - 2] / h[k]
        d10, d11 = (q[k] - q[k - 1]) / r0, (q[k - 1] - q[k - 2]) / r1
        d1, d2 = d10 + r0 / (r0 + r1) * (d10 - d11), (d10 - d11) / (r0 + r1)
        e = torch.expm1(-h[k])
        added = c.alpha[k + 1] * ((e / h[k] + 1) * d1 - 2 * ((e + h[k]) / h[k] ** 2 - 0.5) * d2)
        assert torch.allclose(three[k + 1], kept(k, three[k]) + added, atol=1e-13)


@pytest.mark.parametrize("schedule", [pl.LinearSchedule(), pl.CosineSchedule()], ids=repr)
def test_deis_of_order_two_is_the_published_one(schedule):
    """Zhang & Chen 2023, https://arxiv.org/abs/2204.13902, equation 15: the line through two noises, in log-SNR."""
    x, q = points(1, 1), values_along(1, UNEVEN)
    states = [*pl.Multistep.deis(2).walk(Given(pl.NOISE, schedule), x, UNEVEN)]
    c = schedule.at(UNEVEN)
    h = (c.alpha / c.beta).log().diff()
    for k in range(4):
        first = c.alpha[k + 1] / c.alpha[k] * states[k] - c.beta[k + 1] * torch.expm1(h[k]) * q[k]
        slope = (q[k] - q[k - 1]) / h[k - 1] if k else 0
        second = -c.beta[k + 1] * (torch.expm1(h[k]) - h[k]) * slope
        assert torch.allclose(states[k + 1], first + second, atol=1e-13)


def test_unipc_corrects_by_the_published_coefficients():
    """Zhao et al. 2023, https://arxiv.org/abs/2302.04867: R a = phi, whose answer does not depend on B(h)."""
    c = pl.VariancePreservingSchedule().at(UNEVEN)
    lam = (c.alpha / c.beta).log()
    plan = pl.Multistep.unipc(2).plan(c, [True] * 4)
    for k in (1, 2, 3):  # the step from k - 1 to k, corrected with the values at k, k - 1 and k - 2
        h = lam[k] - lam[k - 1]
        places = [1.0] if k == 1 else [1.0, float((lam[k - 2] - lam[k - 1]) / h)]
        r = torch.tensor(places, dtype=torch.float64)
        phi = [1 - math.exp(-h)]  # integrals of e^(u - h) u^n / n! from 0 to h, over h^n, the first by hand
        for n in range(1, len(r) + 1):
            phi.append(float(1 / math.factorial(n) - phi[-1] / h))
        target = torch.tensor([phi[n] * math.factorial(n) for n in range(1, len(r) + 1)], dtype=torch.float64)
        powers = torch.stack([r**n for n in range(1, len(r) + 1)])
        a = torch.linalg.solve(powers, target) * c.alpha[k]
        row = torch.tensor(list(plan[k - 1].correct))
        assert torch.allclose(row[0], a[0], atol=1e-12) and (k == 1 or torch.allclose(row[2], a[1], atol=1e-12))


# Long steps


@pytest.mark.parametrize("left", [1e-3, 1e-5])
@pytest.mark.parametrize("name", ["dpm:2", "dpm:3", "unipc:2", "unipc:3", "deis:2"])
def test_a_little_noise_left_on_data_costs_nothing(name, left):
    errors = []
    for schedule in (pl.LinearSchedule(), pl.LinearSchedule(left)):
        exact, start = field(schedule), points(64)
        *_, true = pl.ODESampler(pl.RK4).walk(exact, start, pl.PowerGrid(2).times(exact, 200))
        both = []
        for begin, end, times in ((start, true, LINE), (true, start, LINE.flip(0))):
            *_, found = METHODS[name].walk(exact, begin, times)
            both.append(float((found - end).norm(dim=1).median()))
        errors.append(both)
    assert all(b < 1.6 * a for a, b in zip(*errors, strict=True)), errors


def test_values_that_would_weigh_too_much_are_left_out():
    times = torch.tensor([0.5, 0.501, 0.9], dtype=torch.float64)
    _, last = pl.Multistep.adams_bashforth(2).plan(pl.LinearSchedule().at(times), [True, True])
    assert torch.tensor(list(last.predict)).tolist() == pytest.approx([0.399, 0.0])  # not 80, and -79
    c = pl.LinearSchedule().at(LINE)
    for step in pl.Multistep.dpm(4).plan(c, [True] * 8):
        assert sum(abs(float(b)) for b in step.predict[1:]) <= REACH**3


def test_where_nothing_can_be_read_the_point_is_renewed():
    c = pl.LinearSchedule().at(LINE)
    plan = pl.Multistep.deis(3).plan(c, [False, *[True] * 7])
    assert plan[0] == Step() and len(plan[1].predict) == 1 and len(plan[3].predict) == 3
    assert pl.Multistep.deis(3).plan(c, [True] * 8)[0] == Step()  # a point of pure noise has no share of data to keep


def test_a_mixture_of_one_mode_is_its_own_end():
    narrow = pl.MixtureField(pl.Normal(mixture().means[0], 1e-12), pl.GaussianPath(pl.LinearSchedule()))
    *_, end = pl.default_sampler().walk(narrow, Noise(0).normal((5, 2), dtype=torch.float64), LINE)
    assert torch.allclose(end, mixture().means[0].expand(5, 2), atol=1e-5)
