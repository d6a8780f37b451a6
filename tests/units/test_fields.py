"""The contract of a field: one call a read, autograd kept, times checked, heads read from themselves."""

import pytest
import torch

import pathline as pl
from pathline.fields.modes import evaluating
from pathline.paths.predictions import Interval

pytestmark = pytest.mark.fast

S = 0.5
KINDS = (pl.VELOCITY, pl.SCORE, pl.NOISE, pl.DATA, pl.V)


class OneNormal(pl.Field):
    """Towards N(0, S^2), where every kind is a known number times x; it counts its calls."""

    def __init__(self, prediction=pl.VELOCITY, schedule=None):
        super().__init__()
        self.path = pl.GaussianPath(schedule or pl.LinearSchedule())
        self.prediction = prediction
        self.calls = 0
        self.seen = []

    def forward(self, x, t):
        self.calls += 1
        self.seen.append(t)
        found = tuple(self.truth(kind, x, t) for kind in self.heads)
        return found if isinstance(self.prediction, tuple) else found[0]

    def truth(self, kind, x, t):
        """Exact: the posterior means of data and noise, mixed by the kind's own row."""
        c = self.path.schedule.at(torch.as_tensor(t, dtype=x.dtype), x)
        variance = c.alpha**2 * S**2 + c.beta**2
        return kind.target(c, c.alpha * S**2 / variance * x, c.beta / variance * x)


def points(n=4, shape=(3,)):
    return torch.randn(n, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


T = torch.tensor(0.4, dtype=torch.float64)
EACH = torch.tensor([0.1, 0.3, 0.6, 0.9], dtype=torch.float64)


@pytest.mark.parametrize("t", [T, EACH, 0.4], ids=["one", "each", "float"])
@pytest.mark.parametrize("kind", KINDS, ids=repr)
@pytest.mark.parametrize("head", KINDS, ids=repr)
@pytest.mark.parametrize("schedule", [pl.LinearSchedule(), pl.VariancePreservingSchedule()], ids=["linear", "vp"])
def test_any_kind_is_read_from_any_head_by_one_call(head, kind, t, schedule):
    field, x = OneNormal(head, schedule), points()
    assert torch.allclose(field.read(x, t, kind), field.truth(kind, x, t), rtol=1e-10, atol=1e-10)
    assert field.calls == 1


def test_all_kinds_at_once_take_one_call():
    field, x = OneNormal(), points()
    found = field.read(x, EACH, *KINDS)
    assert field.calls == 1
    for value, kind in zip(found, KINDS, strict=True):
        assert torch.allclose(value, field.truth(kind, x, EACH), atol=1e-10)


def test_each_name_reads_its_kind_by_one_call():
    field, x = OneNormal(pl.NOISE), points()
    for calls, kind in enumerate((pl.VELOCITY, pl.SCORE, pl.DATA, pl.NOISE), 1):
        assert torch.allclose(getattr(field, kind.name)(x, T), field.truth(kind, x, T), atol=1e-12)
        assert field.calls == calls


def test_nothing_probes_a_field():
    field = OneNormal()
    field.interval(pl.SCORE)
    sampler = pl.ODESampler(pl.EULER)
    sampler.times(field, steps=3)
    pl.flow_of(field)
    pl.ClassifierFree(field, field, 2.0)
    assert field.calls == 0


def test_forward_is_never_called_with_an_imprecise_time():
    field = OneNormal()
    field.velocity(points(), 0.3)
    field.velocity(points().float(), torch.tensor(0.3, dtype=torch.float64))
    field.velocity(points().bfloat16(), 0.3)
    assert [t.dtype for t in field.seen] == [torch.float64, torch.float32, torch.float32]
    assert float(field.seen[0]) == 0.3


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_a_reading_has_the_dtype_of_the_points(dtype):
    field, x = OneNormal(pl.NOISE), points().to(dtype)
    tolerance = 8 * torch.finfo(dtype).eps
    for kind in KINDS:
        found = field.read(x, 0.4, kind)
        assert found.dtype == dtype
        assert torch.allclose(found.double(), field.truth(kind, x.double(), T), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("kind", KINDS, ids=repr)
def test_autograd_goes_through_x_and_t(kind):
    def read(x, t):
        return OneNormal(pl.NOISE).read(x, t, kind)

    x, t = points(3), torch.tensor([0.2, 0.5, 0.8], dtype=torch.float64)
    assert torch.autograd.gradcheck(read, (x.requires_grad_(), t.requires_grad_()))


def test_the_slope_in_time_is_that_of_the_formula():
    # towards N(0, S^2) on the straight line: data = t S^2 / v x with v = t^2 S^2 + (1 - t)^2
    t = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    x = points(1, (1,))
    (slope,) = torch.autograd.grad(OneNormal(pl.VELOCITY).data(x, t).sum(), t)
    v, v_dot = 0.4**2 * S**2 + 0.6**2, 2 * 0.4 * S**2 - 2 * 0.6
    assert float(slope) == pytest.approx(float(x) * S**2 * (v - 0.4 * v_dot) / v**2, rel=1e-10)


def test_a_field_follows_the_callers_grad_mode():
    field, x = OneNormal(), points().requires_grad_()
    assert field.score(x, T).requires_grad
    with torch.no_grad():
        assert not field.score(x, T).requires_grad
    with torch.inference_mode():
        assert field.score(x, T).is_inference()


def test_function_transforms_go_through_a_read():
    field, x = OneNormal(pl.NOISE), points()
    _, slope = torch.func.jvp(lambda z: field.score(z, T), (x,), (torch.ones_like(x),))
    variance = 0.4**2 * S**2 + 0.6**2
    assert torch.allclose(slope, torch.full_like(x, -1 / variance))
    one_by_one = torch.func.vmap(lambda z: field.score(z[None], T)[0])(x)
    assert torch.allclose(one_by_one, -x / variance)


@pytest.mark.parametrize(
    ("head", "kind", "t"),
    [
        (pl.VELOCITY, pl.SCORE, 1.0),
        (pl.NOISE, pl.DATA, 0.0),
        (pl.NOISE, pl.VELOCITY, 0.0),
        (pl.DATA, pl.VELOCITY, 1.0),
        (pl.SCORE, pl.VELOCITY, 0.0),
        (pl.VELOCITY, pl.VELOCITY, -0.25),
        (pl.VELOCITY, pl.DATA, 1.25),
        (pl.VELOCITY, pl.DATA, float("nan")),
    ],
    ids=str,
)
@pytest.mark.parametrize("is_batched", [False, True])
def test_a_read_outside_the_interval_names_the_kind_and_the_time(head, kind, t, is_batched):
    field, x = OneNormal(head), points(2)
    time = torch.tensor([0.5, t], dtype=torch.float64) if is_batched else t
    with pytest.raises(ValueError, match=rf"read {kind.name} from a {head.name} .*got t = {t:g}"):
        field.read(x, time, kind)
    assert field.calls == 0


def test_an_interval_depends_on_head_path_and_kind():
    assert OneNormal(pl.VELOCITY).interval(pl.SCORE) == Interval(0.0, 1.0, True, False)
    assert OneNormal(pl.NOISE).interval(pl.DATA) == Interval(0.0, 1.0, False, True)
    assert OneNormal(pl.NOISE, pl.VariancePreservingSchedule()).interval(pl.DATA).has_start
    assert OneNormal((pl.NOISE, pl.DATA)).interval(pl.DATA) == Interval(0.0, 1.0)


@pytest.mark.parametrize("t", [torch.zeros(2), torch.zeros(4, 1)])
def test_a_time_that_does_not_meet_the_points_is_refused(t):
    with pytest.raises(ValueError, match="t must have shape"):
        OneNormal().velocity(points(4), t)


class Told(pl.Field):
    """Two heads that disagree: the velocity is 1, the score 7."""

    def __init__(self, prediction):
        super().__init__()
        self.path = pl.GaussianPath(pl.LinearSchedule())
        self.prediction = prediction

    def forward(self, x, t):
        value = {pl.VELOCITY: 1.0, pl.SCORE: 7.0}
        return tuple(torch.full_like(x, value[kind]) for kind in self.prediction)


@pytest.mark.parametrize("prediction", [(pl.VELOCITY, pl.SCORE), (pl.SCORE, pl.VELOCITY)], ids=str)
def test_two_heads_are_each_read_from_themselves_and_the_rest_from_the_velocity(prediction):
    field, x = Told(prediction), torch.full((2, 3), 2.0)
    velocity, score = field.read(x, 0.5, pl.VELOCITY, pl.SCORE)
    assert torch.equal(velocity, torch.full_like(x, 1.0)) and torch.equal(score, torch.full_like(x, 7.0))
    # data = x + (1 - t) u, from the velocity in either order
    assert torch.allclose(field.data(x, 0.5), torch.full_like(x, 2.0 + 0.5 * 1.0))


def test_a_tuple_of_one_head_is_a_head():
    field, x = OneNormal((pl.NOISE,)), points()
    assert torch.allclose(field.velocity(x, T), field.truth(pl.VELOCITY, x, T), atol=1e-12)


def test_a_field_without_a_condition_says_so():
    with pytest.raises(ValueError, match="OneNormal takes no condition"):
        OneNormal().given(3)


def test_an_unconditional_field_is_the_same_for_some_or_more_samples():
    field = OneNormal()
    assert field.take(slice(2)) is field and field.repeat(3) is field


def test_a_field_without_forward_cannot_be_made():
    class Nothing(pl.Field):
        pass

    with pytest.raises(TypeError, match="forward"):
        Nothing()


def test_evaluating_puts_each_part_back_as_it_was():
    parts = torch.nn.Sequential(torch.nn.Dropout(), torch.nn.Dropout())
    parts[1].eval()
    with pytest.raises(RuntimeError, match="stop"), evaluating(parts):
        assert [part.training for part in parts.modules()] == [False] * 3
        raise RuntimeError("stop")
    assert [part.training for part in parts.modules()] == [True, True, False]
