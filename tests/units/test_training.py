"""The loss and the loop: what is drawn, in which order, and that it reaches an optimum that is known."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

import pathline as pl
from pathline.noise import Noise
from pathline.training.loop import adamw

PATH = pl.GaussianPath(pl.LinearSchedule())


def field(classes=None, prediction=pl.VELOCITY, width=16):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        heads = len(prediction) if isinstance(prediction, tuple) else 1
        return pl.NetworkField(pl.MLP(2, width, 1, classes, heads), PATH, prediction)


DATA = Noise(9).normal((10, 2))


class Watched(pl.Field):
    """Remembers the points it is asked at; its prediction is one number."""

    def __init__(self, prediction=pl.VELOCITY):
        super().__init__()
        self.path, self.prediction, self.seen = PATH, prediction, []
        self.level = nn.Parameter(torch.zeros(()))

    def forward(self, x, t):
        self.seen.append((x.detach(), t))
        return (
            tuple(self.level.expand_as(x) for _ in self.heads)
            if isinstance(self.prediction, tuple)
            else self.level.expand_as(x)
        )


# ---- the loss


@pytest.mark.fast
@pytest.mark.parametrize("prediction", [pl.VELOCITY, pl.NOISE, pl.DATA, pl.V], ids=repr)
def test_the_loss_is_the_mean_squared_distance_to_the_target(prediction):
    loss = pl.MatchingLoss(Watched(prediction), seed=3)
    point = loss.draw(DATA, 20)
    assert float(loss(DATA, index=20).detach()) == pytest.approx(
        float((point.target(prediction) ** 2).mean()), rel=1e-6
    )
    assert torch.equal(point.x, point.t[:, None] * DATA + (1 - point.t[:, None]) * point.noise)


@pytest.mark.fast
def test_two_heads_add_up():
    one, other = (float(pl.MatchingLoss(Watched(k))(DATA).detach()) for k in (pl.VELOCITY, pl.NOISE))
    assert float(pl.MatchingLoss(Watched((pl.VELOCITY, pl.NOISE)))(DATA).detach()) == pytest.approx(
        one + other, rel=1e-6
    )


@pytest.mark.fast
def test_a_weight_counts_errors_in_another_kinds_unit():
    times = pl.UniformTimes(0.2, 0.8)
    loss = pl.MatchingLoss(Watched(pl.DATA), times=times, weight=pl.ErrorAsWeight("velocity"))
    point = loss.draw(DATA, 0)
    errors = (point.target(pl.DATA) / (1 - point.t[:, None])) ** 2  # an error of data is one of velocity over 1 - t
    assert float(loss(DATA).detach()) == pytest.approx(float(errors.mean()), rel=1e-5)


@pytest.mark.fast
def test_a_weight_is_capped():
    weight = pl.ErrorAsWeight("velocity", most=25.0)
    found = weight.at(torch.tensor([0.5, 0.75, 0.9, 1.0]), PATH, pl.DATA)
    assert found.tolist() == pytest.approx([4, 16, 25, 25])


@pytest.mark.fast
def test_the_draws_of_sample_i_depend_on_seed_and_i_only():
    loss = pl.MatchingLoss(Watched(), seed=5)
    whole = loss.draw(DATA, 100)
    part = loss.draw(DATA[6:], 106)
    assert torch.equal(part.x, whole.x[6:]) and torch.equal(part.t, whole.t[6:])
    assert not torch.equal(pl.MatchingLoss(Watched(), seed=6).draw(DATA, 100).x, whole.x)


@pytest.mark.fast
def test_a_loss_called_without_an_index_counts_for_itself():
    loss, again = pl.MatchingLoss(Watched()), pl.MatchingLoss(Watched())
    for batch in (DATA[:4], DATA[4:]):
        loss(batch)
    again(DATA)
    whole = again.field.seen[0][0]
    assert torch.equal(torch.cat([x for x, _ in loss.field.seen]), whole)


@pytest.mark.fast
def test_noise_times_and_drops_are_unrelated():
    loss = pl.MatchingLoss(Watched())
    point = loss.draw(torch.zeros(20_000, 1), 0)
    correlation = torch.corrcoef(torch.stack((point.noise[:, 0], point.t)))[0, 1]
    assert abs(float(correlation)) * math.sqrt(20_000) < 5


@pytest.mark.fast
@pytest.mark.parametrize("drop", [0.0, 0.25])
def test_a_share_of_labels_is_dropped_in_training_only(drop):
    loss, n = pl.MatchingLoss(field(classes=3), drop=drop), 8000
    y = torch.arange(n) % 3
    kept = loss.dropped(y, 0, n)
    gone = kept["class"] == 3 if drop else torch.zeros(n, dtype=torch.bool)
    assert torch.equal(kept["class"][~gone], y[~gone]) if drop else kept is y
    assert abs(float(gone.float().mean()) - drop) < 5 * math.sqrt(drop * (1 - drop) / n) + 1e-12
    values = [
        torch.stack([loss.errors(loss.draw(x, 0), labels).mean() for labels in (y, kept)])
        for x in [DATA[:1].expand(n, -1)]
    ]
    assert torch.equal(
        torch.stack([loss.eval()(DATA[:1].expand(n, -1), y, 0), loss.train()(DATA[:1].expand(n, -1), y, 0)]), values[0]
    )


@pytest.mark.fast
@pytest.mark.parametrize("drop", [-0.1, 1.0, math.nan])
def test_a_drop_that_is_no_share_is_refused(drop):
    with pytest.raises(ValueError, match="drop must be a share"):
        pl.MatchingLoss(field(), drop=drop)


@pytest.mark.fast
def test_a_network_that_returns_another_shape_is_refused():
    class Wrong(nn.Module):
        def forward(self, x, t):
            return x[:, :1]

    with pytest.raises(ValueError, match=r"forward must return 1 of the shape of x, \(10, 2\), got \(10, 1\)"):
        pl.MatchingLoss(pl.NetworkField(Wrong(), PATH))(DATA)


# ---- times


@pytest.mark.fast
@pytest.mark.parametrize(
    ("times", "law"),
    [
        (pl.UniformTimes(), stats.uniform()),
        (pl.UniformTimes(0.2, 0.7), stats.uniform(0.2, 0.5)),
    ],
)
def test_times_have_their_distribution(times, law):
    t = times.draw(20_000, Noise(1), torch.zeros(1))
    assert stats.kstest(t.numpy(), law.cdf).pvalue > 1e-4


@pytest.mark.fast
def test_the_logit_of_a_time_is_normal():
    t = pl.LogitNormalTimes(-0.5, 2.0).draw(20_000, Noise(1), torch.zeros(1, dtype=torch.float64))
    assert stats.kstest(t.logit().numpy(), stats.norm(-0.5, 2.0).cdf).pvalue > 1e-4


@pytest.mark.fast
@pytest.mark.parametrize("times", [pl.UniformTimes(), pl.LogitNormalTimes()])
def test_time_i_depends_on_the_seed_and_i_only(times):
    whole = times.draw(10, Noise(1), torch.zeros(1))
    assert torch.equal(times.draw(3, Noise(1).at(7), torch.zeros(1)), whole[7:])
    assert times.draw(3, Noise(1), torch.zeros(1, dtype=torch.bfloat16)).dtype == torch.float32


@pytest.mark.fast
@pytest.mark.parametrize(
    "make", [lambda: pl.UniformTimes(0.5, 0.5), lambda: pl.UniformTimes(-0.1, 1), lambda: pl.LogitNormalTimes(0, 0)]
)
def test_times_outside_the_path_are_refused(make):
    with pytest.raises(ValueError, match="must"):
        make()


# ---- averaged weights


@pytest.mark.fast
def test_the_average_follows_its_recursion_and_its_warm_up():
    module = nn.Linear(1, 1, bias=False)
    nn.init.constant_(module.weight, 0.0)
    ema, expected = pl.EMA(module, 0.5), 0.0
    for n, value in enumerate([1.0, -2.0, 3.0, 4.0, 0.5, 7.0, 1.0, 1.0, 2.0]):
        nn.init.constant_(module.weight, value)
        ema.update()
        decay = min(0.5, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * value
        assert float(ema.weights["weight"]) == pytest.approx(expected, rel=1e-6)


@pytest.mark.fast
def test_the_average_is_in_place_only_for_a_while():
    module = nn.Linear(3, 3)
    before, average = [p.clone() for p in module.parameters()], None
    ema = pl.EMA(module, 0.9)
    for weight in ema.weights.values():
        weight.fill_(5.0)
    with pytest.raises(RuntimeError, match="stop"), ema.applied():
        average = [p.clone() for p in module.parameters()]
        raise RuntimeError("stop")
    assert all((p == 5).all() for p in average)
    assert all(torch.equal(p, q) for p, q in zip(module.parameters(), before, strict=True))
    assert all((w == 5).all() for w in ema.weights.values())


@pytest.mark.fast
@pytest.mark.parametrize("decay", [-0.1, 1.0, math.nan])
def test_a_decay_out_of_range_is_refused(decay):
    with pytest.raises(ValueError, match="decay must be from 0"):
        pl.EMA(nn.Linear(1, 1), decay)


# ---- the loop


@pytest.mark.fast
@pytest.mark.parametrize(("size", "batch_size"), [(10, 5), (10, 3), (10, 10), (7, 16), (1, 4)])
def test_each_sample_is_seen_once_an_epoch(size, batch_size):
    seen = []

    class Seen(pl.Coupling):
        def __call__(self, noise, data, y=None):
            seen.extend(data[:, 0].tolist())
            return noise

    epochs = 4
    steps = math.ceil(epochs * size / batch_size)
    numbers = torch.arange(float(size))[:, None].expand(size, 2).clone()
    list(pl.train(pl.MatchingLoss(field(), Seen()), numbers, steps=steps, batch_size=batch_size))
    assert len(seen) == steps * batch_size
    orders = [seen[k * size : (k + 1) * size] for k in range(epochs)]
    assert all(sorted(order) == list(range(size)) for order in orders)
    if size > 5:
        assert orders[0] != orders[1]  # 1 in 10! by chance


@pytest.mark.fast
def test_a_sample_keeps_its_label():
    seen = []

    class Net(nn.Module):
        classes = 5

        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(()))

        def forward(self, x, t, y=None):
            seen.append(y)
            return x * self.weight

    class Seen(pl.Coupling):
        def __call__(self, noise, data, y=None):
            assert torch.equal(data[:, 0].long() % 5, y)  # a coupling is told the labels too
            seen.append(data[:, 0])
            return noise

    numbers = torch.arange(10.0)[:, None].expand(10, 2).clone()
    list(
        pl.train(
            pl.MatchingLoss(pl.NetworkField(Net(), PATH), Seen()), numbers, torch.arange(10) % 5, steps=5, batch_size=4
        )
    )
    for data, y in zip(seen[::2], seen[1::2], strict=True):
        assert torch.equal(data.long() % 5, y)


def run(steps, start=0, stop=None, kit=None, seed=0, schedule=True):
    """Train for a while; returns the loss, its average and its optimizer."""
    loss = pl.MatchingLoss(field(), seed=seed)
    loss, ema, optimizer = kit or (loss, pl.EMA(loss.field, 0.9), adamw(loss, 1e-2))
    lr_schedule = pl.warmup_cosine() if schedule else None
    arguments = {"steps": steps, "batch_size": 4, "optimizer": optimizer, "ema": ema, "start": start}
    for done in pl.train(loss, DATA, lr_schedule=lr_schedule, **arguments):
        if done.step == stop:
            break
    return loss, ema, optimizer


def numbers(kit):
    loss, ema, optimizer = kit
    moments = [value for state in optimizer.state.values() for value in state.values()]
    return [*loss.state_dict().values(), *ema.weights.values(), *moments]


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(numbers(a), numbers(b), strict=True))


@pytest.mark.fast
def test_the_same_seed_is_the_same_training():
    assert same(run(12), run(12))
    assert not same(run(12), run(12, seed=1))


@pytest.mark.fast
@pytest.mark.parametrize("schedule", [False, True])
def test_going_on_with_the_same_optimizer_is_as_never_having_stopped(schedule):
    half = run(12, stop=5, schedule=schedule)  # in the middle of the second epoch
    assert same(run(12, start=5, kit=half, schedule=schedule), run(12, schedule=schedule))


@pytest.mark.fast
def test_steps_are_counted_from_where_they_start():
    loss = pl.MatchingLoss(field())
    assert [step.step for step in pl.train(loss, DATA, steps=7, batch_size=4, start=4)] == [5, 6, 7]
    assert list(pl.train(loss, DATA, steps=3, batch_size=4, start=3)) == []


@pytest.mark.fast
def test_a_gradient_is_clipped_to_the_norm():
    loss = pl.MatchingLoss(Watched())
    before = [p.clone() for p in loss.parameters()]
    optimizer = torch.optim.SGD(loss.parameters(), lr=1.0)
    (step,) = pl.train(loss, 100 + DATA, steps=1, batch_size=10, optimizer=optimizer, clip=0.5)
    assert float(step.gradient_norm) > 50
    moved = sum(float((p - q).detach().norm() ** 2) for p, q in zip(loss.parameters(), before, strict=True)) ** 0.5
    assert moved == pytest.approx(0.5, rel=1e-4)


@pytest.mark.fast
def test_the_learning_rate_rises_then_falls_along_a_cosine():
    factor = pl.warmup_cosine(0.1, floor=0.2)
    assert 0 < factor(0.0) < factor(0.05) < factor(0.1) == pytest.approx(1)
    assert factor(0.55) == pytest.approx(0.6) and factor(1.0) == pytest.approx(0.2)


@pytest.mark.fast
@pytest.mark.parametrize(
    ("data", "y", "arguments", "message"),
    [
        (torch.zeros(0, 2), None, {"steps": 1}, "at least one sample"),
        (torch.zeros(5), None, {"steps": 1}, r"\(samples, \*shape\)"),
        (DATA, torch.zeros(9).long(), {"steps": 1}, "one condition for each of the 10 samples, got 9"),
        (DATA, None, {"steps": 0}, "steps must be at least 1, got 0"),
        (DATA, None, {"steps": 1, "batch_size": 0}, "batch_size must be at least 1"),
    ],
)
def test_what_cannot_be_trained_on_is_refused_at_once(data, y, arguments, message):
    with pytest.raises(ValueError, match=message):
        pl.train(pl.MatchingLoss(field()), data, y, **arguments)


# ---- an optimum that is known


def test_a_trained_network_comes_near_the_exact_velocity_and_the_least_loss():
    # towards N(m, s^2) on the straight line the least loss is the integral of
    # Var(data - noise | x_t) = s^2 / (t^2 s^2 + (1 - t)^2), which is pi s / 2
    m, s = 1.0, 0.5
    normal = pl.Normal(torch.tensor([m]), s**2)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        trained = pl.NetworkField(pl.MLP(1, 32, 2), PATH)
    loss = pl.MatchingLoss(trained)
    ema = pl.EMA(trained, 0.98)
    data, held_out = normal.sample(20_000, seed=0), normal.sample(20_000, seed=1)
    before = float(pl.loss_by_time(loss, held_out).mean())
    steps = pl.train(loss, data, steps=400, batch_size=256, learning_rate=5e-3, lr_schedule=pl.warmup_cosine(), ema=ema)
    for _ in steps:
        pass
    with ema.applied(), torch.no_grad():
        after = float(pl.loss_by_time(loss, held_out).mean())
        errors = []
        for t in (0.1, 0.3, 0.5, 0.7, 0.9):
            x = PATH.point(Noise(3).normal((500, 1)), held_out[:500], t).x
            errors.append(float(((trained.velocity(x, t) - pl.MixtureField(normal, PATH).velocity(x, t)) ** 2).mean()))
    least = math.pi * s / 2
    assert before == pytest.approx(m**2 + s**2 + 1, rel=0.1)  # at first it says a small constant
    assert after == pytest.approx(least, rel=0.03)
    assert max(errors) < 0.02


@pytest.mark.fast
def test_the_held_out_loss_by_time_of_the_exact_field_is_the_least_there_is():
    s = 0.5
    normal = pl.Normal(torch.zeros(1, dtype=torch.float64), s**2)
    loss = pl.MatchingLoss(pl.MixtureField(normal, PATH))
    found = pl.loss_by_time(loss, normal.sample(20_000, seed=1), bins=5)
    edges = torch.linspace(0, 1, 6, dtype=torch.float64)
    # the antiderivative of s^2 / (t^2 s^2 + (1 - t)^2) is s atan(((1 + s^2) t - 1) / s)
    exact = (s * torch.atan(((1 + s**2) * edges - 1) / s)).diff() * 5
    assert torch.allclose(found.double(), exact, rtol=5 * math.sqrt(2 / 20_000) + 0.01)


@pytest.mark.fast
def test_the_held_out_loss_is_the_same_at_every_call_and_drops_nothing():
    loss = pl.MatchingLoss(field(classes=3), drop=0.9)
    y = torch.arange(10) % 3
    first = pl.loss_by_time(loss, DATA, y)
    assert torch.equal(first, pl.loss_by_time(loss, DATA, y))
    loss.drop = 0.0
    assert torch.equal(first, pl.loss_by_time(loss, DATA, y)) and loss.training


@pytest.mark.fast
def test_conditions_may_be_a_tree_of_arrays():
    class Told(nn.Module):
        def __init__(self):
            super().__init__()
            self.level = nn.Parameter(torch.zeros(()))

        def forward(self, x, t, y):
            assert torch.equal(y["size"][:, 0], y["kind"].float()) and y["kind"].tolist() != [0, 1, 2, 3]
            return self.level.expand_as(x)

    loss = pl.MatchingLoss(pl.NetworkField(Told(), PATH), seed=1)
    y = {"kind": [0, 1, 2, 3], "size": np.arange(4.0, dtype=np.float32)[:, None]}
    assert len(list(pl.train(loss, DATA[:4], y, steps=2, batch_size=4))) == 2
