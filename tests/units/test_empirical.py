"""The exact field of a data set, on each of its ways to the answer, against a plain sum in float64."""

import math

import numpy as np
import pytest
import torch

import pathline as pl
from pathline.fields import empirical
from pathline.noise import Noise

PATH = pl.GaussianPath(pl.CosineSchedule())
KINDS = (pl.VELOCITY, pl.SCORE, pl.DATA, pl.NOISE, pl.V)


def cluster(count=90, shape=(3,), dtype=torch.float64, seed=1):
    """Points far from 0, a third of them in near ties."""
    x = 2 + Noise(seed).normal((count, *shape), dtype=torch.float64)
    x[: count // 3] = x[count // 3 : 2 * (count // 3)] + 0.002 * Noise(seed + 1).normal((count // 3, *shape)).double()
    return x.to(dtype)


def on_the_way(data, t, count=20, seed=3, schedule=PATH.schedule):
    """Points of the path, a batch of `count`."""
    t = torch.as_tensor(t, dtype=torch.float64)
    c = schedule.at(t, data[:count].double())
    return c.alpha * data[:count].double() + c.beta * Noise(seed).like(data[:count].double())


def plain(data, x, t, bandwidth=0.0, path=PATH):
    """Every kind and the log-density by a sum over the data in float64, term by term."""
    data, x = data.double(), x.double()
    t = torch.as_tensor(t, dtype=torch.float64).expand(len(x))
    alpha, beta, alpha_dot, beta_dot = (value.reshape(-1, 1, 1) for value in path.schedule.at(t))
    z = x.flatten(1)[:, None] - alpha * data.flatten(1)
    s = (alpha * bandwidth) ** 2 + beta**2
    log_p = -(z**2 / (2 * s) + (2 * math.pi * s).log() / 2).sum(2) - math.log(len(data))
    weight = log_p.softmax(1)[..., None]
    score = -(weight * z / s).sum(1, keepdim=True)
    mean = (weight * (data.flatten(1) + alpha * bandwidth**2 * z / s)).sum(1, keepdim=True)
    noise = -beta * score
    found = (alpha_dot * mean + beta_dot * noise, score, mean, noise, alpha * noise - beta * mean)
    return tuple(value.reshape(x.shape) for value in found), torch.logsumexp(log_p, 1)


def close(found, truth, rel):
    return all(float((a.double() - b).norm()) <= rel * float(b.norm()) for a, b in zip(found, truth, strict=True))


# ---- every way to the answer

SMALL = {"POINTS": 7, "COLUMNS": 16, "CELLS": 40}
WAYS = {
    "as shipped": {},
    "products only": {**SMALL, "FEW": 0, "CLOSE": 1e9},
    "differences only": {**SMALL, "FEW": 10**6, "MANY": 10**6},
    "differences where few": {**SMALL, "FEW": 2, "CLOSE": 1e9},
    "not trusted, few": {**SMALL, "FEW": 0, "CLOSE": 0.0, "MANY": 10**6},
    "not trusted, many": {**SMALL, "FEW": 0, "CLOSE": 0.0, "MANY": 0},
    "one column": {"POINTS": 1, "COLUMNS": 1, "CELLS": 1},
}


@pytest.mark.parametrize("bandwidth", [0.0, 0.1])
@pytest.mark.parametrize("t", [0.0, 0.2, 0.6, 0.9, 0.99])
@pytest.mark.parametrize("way", WAYS)
def test_in_float64_every_way_is_the_plain_sum(monkeypatch, way, t, bandwidth):
    for name, value in WAYS[way].items():
        monkeypatch.setattr(empirical, name, value)
    data = cluster()
    field, x = pl.EmpiricalField(data, PATH, bandwidth), on_the_way(data, t)
    truth, log_p = plain(data, x, t, bandwidth)
    assert close(field.read(x, t, *KINDS), truth, 1e-9)
    assert torch.allclose(field.log_prob(x, t), log_p, atol=1e-9)


@pytest.mark.parametrize("t", [0.0, 0.2, 0.6, 0.9, 0.99, 1 - 1e-6])
@pytest.mark.parametrize("way", [way for way in WAYS if way not in ("products only", "differences where few")])
def test_in_float32_every_trusted_way_is_too(monkeypatch, way, t):
    for name, value in WAYS[way].items():
        monkeypatch.setattr(empirical, name, value)
    data = cluster(dtype=torch.float32)
    field, x = pl.EmpiricalField(data, PATH), on_the_way(data, t).float()
    truth, log_p = plain(data, x, t)
    found = field.read(x, t, *KINDS)
    assert {value.dtype for value in found} == {torch.float32}
    assert close(found, truth, 2e-5)
    assert torch.allclose(field.log_prob(x, t).double(), log_p, atol=3e-3)


def test_the_ways_are_taken(monkeypatch):
    taken = []
    differences, piece = empirical.EmpiricalField._with_differences, empirical.EmpiricalField._piece

    def with_differences(self, x, alpha, s, near, *rest):
        taken.append(("differences", near.count))
        return differences(self, x, alpha, s, near, *rest)

    def a_piece(self, x, alpha, s, dtype):
        taken.append(("piece", dtype))
        return piece(self, x, alpha, s, dtype)

    monkeypatch.setattr(empirical.EmpiricalField, "_with_differences", with_differences)
    monkeypatch.setattr(empirical.EmpiricalField, "_piece", a_piece)
    data = cluster(dtype=torch.float32)
    field = pl.EmpiricalField(data, PATH)
    for t, is_looked_up in ((0.0, False), (0.9999, True)):
        taken.clear()
        field.velocity(on_the_way(data, t).float(), t)
        (_, dtype), (_, count) = taken
        assert dtype == torch.float32 and bool(count) == is_looked_up
    monkeypatch.setattr(empirical, "CLOSE", 0.0)
    monkeypatch.setattr(empirical, "MANY", 1)
    taken.clear()
    field.velocity(on_the_way(data, 0.1).float(), 0.1)
    assert [what for _, what in taken if isinstance(what, torch.dtype)] == [torch.float32, torch.float64]


def test_a_point_is_read_alike_alone_and_in_a_batch(monkeypatch):
    monkeypatch.setattr(empirical, "POINTS", 8)
    for dtype, error in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
        data = cluster(dtype=dtype)
        field, x = pl.EmpiricalField(data, PATH), on_the_way(data, 0.5, 30).to(dtype)
        whole = field.velocity(x, 0.5)
        # far away ones beside it must not make it worse
        mates = torch.cat((x[:1], 1e4 * x[1:4]))
        assert torch.allclose(field.velocity(mates, 0.5)[0], whole[0], atol=error, rtol=error)
        for i in (0, 7, 29):
            assert torch.allclose(field.velocity(x[i : i + 1], 0.5)[0], whole[i], atol=error, rtol=error)


def test_far_from_all_data_the_nearest_counts():
    data = cluster()
    field, x = pl.EmpiricalField(data.float(), PATH), 1e5 * torch.ones(1, 3)
    nearest = (data @ torch.ones(3).double()).argmax()
    assert torch.allclose(field.data(x, 0.5)[0], data[nearest].float(), atol=1e-3)
    assert field.log_prob(x, 0.5).isfinite().all()


# ---- times


def test_one_time_and_one_each_are_the_same():
    data = cluster()
    x, field = on_the_way(data, 0.4, 3), pl.EmpiricalField(data, PATH)
    one = field.read(x, 0.4, *KINDS)
    for t in (torch.tensor(0.4, dtype=torch.float64), torch.full((3,), 0.4, dtype=torch.float64)):
        assert all(torch.allclose(a, b, atol=1e-13) for a, b in zip(one, field.read(x, t, *KINDS), strict=True))
    each = torch.tensor([0.1, 0.5, 0.95], dtype=torch.float64)  # as many times as numbers in a point
    truth, log_p = plain(data, x, each)
    assert close(field.read(x, each, *KINDS), truth, 1e-9)
    assert torch.allclose(field.log_prob(x, each), log_p, atol=1e-9)


def test_a_time_given_as_a_number_is_not_rounded_to_the_points():
    data = cluster(dtype=torch.float32)
    field, t = pl.EmpiricalField(data, pl.GaussianPath(pl.LinearSchedule())), 1 - 1e-7
    x = (t * data[:4].double() + 1e-7 * Noise(1).normal((4, 3)).double()).float()
    truth, _ = plain(data, x, t, path=field.path)
    assert close(field.read(x, t, pl.SCORE, pl.DATA), truth[1:3], 1e-5)


@pytest.mark.parametrize("t", [1.0, torch.tensor([0.5, 1.0])], ids=str)
def test_points_without_width_cannot_be_read_at_data(t):
    data = cluster()
    field = pl.EmpiricalField(data, PATH)
    assert 1.0 not in field.interval(pl.VELOCITY) and 0.0 in field.interval(pl.VELOCITY)
    for read in (field.velocity, field.score, field.data, field.log_prob):
        with pytest.raises(ValueError, match="t must be below 1"):
            read(data[:2], t)


def test_with_a_width_or_noise_left_they_can():
    data = cluster()
    wide, left = pl.EmpiricalField(data, PATH, 0.3), pl.GaussianPath(pl.LinearSchedule(0.2))
    noisy = pl.EmpiricalField(data, left)
    x = data[:9] + 0.1
    assert 1.0 in wide.interval(pl.SCORE) and 1.0 in noisy.interval(pl.SCORE)
    assert close(wide.read(x, 1.0, *KINDS[:3]), plain(data, x, 1.0, 0.3)[0][:3], 1e-9)
    assert close(noisy.read(x, 1.0, *KINDS), plain(data, x, 1.0, path=left)[0], 1e-9)
    kernels = torch.distributions.Normal(data, 0.3).log_prob(x[:, None]).sum(2).logsumexp(1) - math.log(len(data))
    assert torch.allclose(wide.log_prob(x), kernels, atol=1e-10)  # of the data itself, unless a time is given


# ---- where the data is kept


@pytest.mark.parametrize("shape", [(4,), (1, 2, 2), (2, 3, 1, 2)], ids=str)
def test_points_of_any_shape_are_vectors(shape):
    data = cluster(60, shape)
    x = on_the_way(data, 0.7)
    flat = pl.EmpiricalField(data.flatten(1), PATH)
    field = pl.EmpiricalField(data, PATH)
    assert torch.equal(field.velocity(x, 0.7), flat.velocity(x.flatten(1), 0.7).reshape(x.shape))
    assert torch.equal(field.samples(torch.tensor([5, 2])), data[[5, 2]])


def test_bfloat16_data_is_taken_at_its_word():
    data = cluster(dtype=torch.bfloat16)
    field = pl.EmpiricalField(data, PATH)
    assert field.rows.data_ptr() == data.data_ptr()
    x = on_the_way(data, 0.6).float()
    assert close(field.read(x, 0.6, *KINDS), plain(data, x, 0.6)[0], 2e-5)
    assert field.velocity(x.bfloat16(), 0.6).dtype == torch.bfloat16
    assert field.log_prob(x.bfloat16(), 0.6).dtype == torch.float32


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_array_is_read_as_a_tensor_is(dtype):
    data = cluster(shape=(3, 2))
    array = data.numpy().astype(dtype)
    a, b = pl.EmpiricalField(array, PATH), pl.EmpiricalField(torch.from_numpy(array), PATH)
    x = on_the_way(data, 0.8)
    assert np.shares_memory(a.rows, array)
    assert torch.equal(a.velocity(x, 0.8), b.velocity(x, 0.8))
    assert torch.equal(a.samples(torch.tensor([3])), b.samples(torch.tensor([3])))


def test_a_mapped_file_is_never_in_memory_as_a_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(empirical, "COLUMNS", 32)
    data = cluster(600, (5,), torch.float32)
    np.save(tmp_path / "data.npy", data.numpy())
    mapped = np.load(tmp_path / "data.npy", mmap_mode="r")
    read = []
    array = empirical.np.array
    monkeypatch.setattr(empirical.np, "array", lambda piece: read.append(len(piece)) or array(piece))
    field = pl.EmpiricalField(mapped, PATH, y=torch.arange(600) % 3)
    for t in (0.1, 0.99):
        x = on_the_way(data, t).float()
        assert close(field.read(x, t, *KINDS), plain(data, x, t)[0], 2e-5)
    assert isinstance(field.rows, np.memmap) and max(read) == 32
    x = on_the_way(data, 0.5).float()
    assert close(field.given(1).read(x, 0.5, *KINDS), plain(data[1::3], x, 0.5)[0], 2e-5)


def test_a_field_has_no_weights_to_train_or_save():
    field = pl.EmpiricalField(cluster(), PATH, y=torch.arange(90) % 3)
    assert not list(field.parameters()) and not field.state_dict()


# ---- classes


def labelled():
    data, y = cluster(), torch.arange(90) % 3
    data[y == 1] += 1
    return data, y, pl.EmpiricalField(data, PATH, 0.05, y, pl.DATA)


def test_a_class_is_the_field_of_its_data():
    data, y, field = labelled()
    x = on_the_way(data, 0.6)
    for label in (0, 1, 2):
        one = pl.EmpiricalField(data[y == label], PATH, 0.05)
        for given in (label, torch.tensor(label), torch.tensor([label]), [label]):
            assert torch.equal(field.given(given).velocity(x, 0.6), one.velocity(x, 0.6))
    assert field.given(None) is field and field.given(1).prediction == pl.DATA
    assert torch.equal(field.velocity(x, 0.6), pl.EmpiricalField(data, PATH, 0.05).velocity(x, 0.6))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_each_point_has_its_own_class(dtype):
    data, _, field = labelled()
    x = on_the_way(data, 0.6, 6).to(dtype)
    labels = torch.tensor([2, 0, 0, 1, 2, 1])
    bound = field.given(labels)
    each = torch.linspace(0.1, 0.9, 6, dtype=dtype)
    for t in (0.999, each):  # a number is not rounded to float32 here either
        whole = bound.read(x, t, *KINDS)
        for i, label in enumerate(labels.tolist()):
            alone = field.given(label).read(x[i : i + 1], t if t is not each else each[i], *KINDS)
            for a, b in zip(whole, alone, strict=True):
                assert torch.allclose(a[i], b[0], rtol=1e-5 if dtype == torch.float32 else 1e-10)
    assert torch.equal(bound(x, each), bound.data(x, each))  # its head


def test_parts_and_copies_of_a_batch_keep_their_classes():
    data, _, field = labelled()
    x, labels = on_the_way(data, 0.6, 4), torch.tensor([2, 0, 1, 0])
    bound = field.given(labels)
    whole = bound.velocity(x, 0.6)
    index = torch.tensor([3, 0])
    assert torch.allclose(bound.take(index).velocity(x[index], 0.6), whole[index], atol=1e-12)
    assert torch.allclose(bound.take(slice(1, 2)).velocity(x[1:2], 0.6), whole[1:2], atol=1e-12)
    assert torch.allclose(bound.repeat(2).velocity(x.repeat(2, 1), 0.6), whole.repeat(2, 1), atol=1e-12)
    assert torch.equal(bound.given(1).velocity(x, 0.6), field.given(1).velocity(x, 0.6))
    assert field.take(index) is field and field.repeat(2) is field


def test_two_classes_are_guided():
    data, _, field = labelled()
    x, labels = on_the_way(data, 0.6, 4), torch.tensor([2, 0, 1, 0])
    for y in (1, labels):
        guided = pl.ClassifierFree(field.given(y), field.given(None), 2.5)
        for kind in KINDS:
            mixed = -1.5 * field.read(x, 0.6, kind) + 2.5 * field.given(y).read(x, 0.6, kind)
            assert torch.allclose(guided.read(x, 0.6, kind), mixed, atol=1e-8)
    part = pl.ClassifierFree(field.given(labels), field, 2.5)
    assert torch.allclose(part.take(slice(1, 3)).velocity(x[1:3], 0.6), part.velocity(x, 0.6)[1:3], atol=1e-8)


# ---- derivatives


@pytest.mark.parametrize("bandwidth", [0.0, 0.2])
def test_gradients_in_points_and_times_are_those_of_differences(bandwidth):
    data = cluster(12, (2,))
    field, x = pl.EmpiricalField(data, PATH, bandwidth), on_the_way(data, 0.5, 3).requires_grad_()
    t = torch.tensor([0.2, 0.5, 0.7], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, t: field.read(x, t, *KINDS), (x, t))
    assert torch.autograd.gradcheck(field.log_prob, (x, t))
    single = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(field.velocity, (x, single), check_forward_ad=True)


def test_the_score_is_the_gradient_of_the_log_density():
    data = cluster()
    field, x = pl.EmpiricalField(data, PATH), on_the_way(data, 0.7).requires_grad_()
    (slope,) = torch.autograd.grad(field.log_prob(x, 0.7).sum(), x)
    assert torch.allclose(field.score(x.detach(), 0.7), slope, atol=1e-9)


def test_the_jacobian_of_the_data_is_the_posterior_covariance():
    # d E[data | x] / dx = alpha / beta^2 Cov(data | x)
    data, t = cluster(20, (2,)), 0.6
    field, x = pl.EmpiricalField(data, PATH), on_the_way(cluster(20, (2,)), 0.6, 1)
    alpha, beta = math.sin(math.pi / 2 * t), math.cos(math.pi / 2 * t)
    weight = (-((x - alpha * data) ** 2).sum(1) / (2 * beta**2)).softmax(0)
    centred = data - weight @ data
    covariance = (weight[:, None] * centred).T @ centred
    jacobian = torch.func.jacrev(lambda x: field.data(x[None], t)[0])(x[0])
    assert torch.allclose(jacobian, alpha / beta**2 * covariance, atol=1e-9)


def test_transforms_see_the_same_field():
    data = cluster(30, (2,))
    field, x = pl.EmpiricalField(data, PATH, 0.1), on_the_way(data, 0.5, 5)
    t = torch.linspace(0.1, 0.9, 5, dtype=torch.float64)
    mapped = torch.vmap(lambda x, t: field.velocity(x[None], t)[0])(x, t)
    assert torch.allclose(mapped, field.velocity(x, t), atol=1e-10)
    along = Noise(8).like(x)
    _, moved = torch.func.jvp(lambda x: field.velocity(x, 0.5), (x,), (along,))
    differences = (field.velocity(x + 1e-6 * along, 0.5) - field.velocity(x - 1e-6 * along, 0.5)) / 2e-6
    assert torch.allclose(moved, differences, atol=1e-6)


# ---- sampling


@pytest.mark.parametrize("sampler", [pl.ODESampler(), pl.DDIM(0.0), pl.DDIM(1.0)], ids=repr)
def test_samples_of_a_data_set_are_its_points_each_as_often(sampler):
    data = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 3.0], [4.0, 4.0]])
    x = pl.sample(pl.EmpiricalField(data, PATH), (2000, 2), sampler, steps=60, seed=1)
    distance, nearest = torch.cdist(x, data).min(1)
    assert float(distance.max()) < 1e-2
    shares = torch.bincount(nearest, minlength=4) / 2000
    assert (shares - 0.25).abs().max() < 5 * math.sqrt(0.25 * 0.75 / 2000) + 0.02  # and the steps' own error


def test_samples_with_a_width_have_it():
    data = torch.tensor([[-2.0], [2.0]], dtype=torch.float64)
    x = pl.sample(pl.EmpiricalField(data, PATH, 0.3), (8000, 1), steps=100, seed=1)
    nearest = data[torch.cdist(x, data).argmin(1)]
    assert float((x - nearest).var()) == pytest.approx(0.09, rel=5 * math.sqrt(2 / 8000) + 0.02)


# ---- what is refused


@pytest.mark.parametrize(
    ("attempt", "message"),
    [
        (lambda d: pl.EmpiricalField(d[:, 0], PATH), r"shape \(samples, \*shape\), got torch.float64 \(90,\)"),
        (lambda d: pl.EmpiricalField(d[:0], PATH), r"got torch.float64 \(0, 3\)"),
        (lambda d: pl.EmpiricalField(d.long(), PATH), "floating-point numbers .* got torch.int64"),
        (lambda d: pl.EmpiricalField(d.numpy().astype(int), PATH), "floating-point numbers .* got int64"),
        (lambda d: pl.EmpiricalField(d, PATH, -0.1), "bandwidth must be a finite number, 0 or more, got -0.1"),
        (lambda d: pl.EmpiricalField(d, PATH, math.inf), "bandwidth must be a finite number"),
        (lambda d: pl.EmpiricalField(d, PATH, y=torch.zeros(89).long()), "class index for each of 90 samples"),
        (lambda d: pl.EmpiricalField(d, PATH, y=torch.zeros(90)), "class index .* got torch.float32"),
        (lambda d: pl.EmpiricalField(d / 0, PATH), "data must be finite"),
        (lambda d: pl.EmpiricalField(torch.where(d == d[7], math.nan, d), PATH), "data must be finite"),
        (lambda d: pl.EmpiricalField(d, PATH).velocity(d[:, :2], 0.5), r"\(batch, 3\), got \(90, 2\)"),
        (lambda d: pl.EmpiricalField(d, PATH).velocity(d, torch.zeros(5)), r"t must have shape \(\) or \(batch,\)"),
        (lambda d: pl.EmpiricalField(d, PATH).velocity(d, -0.1), r"t must lie in \[0, 1\]"),
        (lambda d: pl.EmpiricalField(d, PATH).given(1), "its data has no labels"),
        (lambda d: pl.EmpiricalField(d, PATH, y=torch.arange(90) % 3).given(3), r"y must be a label .*\[0, 1, 2\]"),
        (lambda d: pl.EmpiricalField(d, PATH, y=torch.arange(90) % 3).given([0, 7]), "y must be a label"),
        (
            lambda d: pl.EmpiricalField(d, PATH, y=torch.arange(90) % 3).given([0, 1]).velocity(d[:5], 0.5),
            "one condition or one per sample, 5, got 2",
        ),
    ],
)
def test_what_is_no_data_set_is_refused(attempt, message):
    with pytest.raises(ValueError, match=message):
        attempt(cluster())


def test_a_module_that_is_cast_measures_itself_again():
    data, y = torch.randn(40, 3, generator=torch.Generator().manual_seed(0)).double(), torch.arange(40) % 2
    path = pl.GaussianPath(pl.LinearSchedule())
    exact = pl.EmpiricalField(data, path, y=y)
    x, before = torch.randn(5, 3, generator=torch.Generator().manual_seed(1)), exact.given(1).velocity(data[:5], 0.6)
    for kind, bound in ((torch.float32, 1e-6), (torch.bfloat16, 0.05)):
        cast = pl.EmpiricalField(data, path, y=y).to(kind)
        cast.given(0).velocity(x, 0.6)
        found = cast.given(1).velocity(data[:5].float(), 0.6)
        assert cast.mean.dtype == torch.float64 and (found - before).abs().max() < bound * before.abs().max()
    again = exact.float().double()
    assert again.given(1).velocity(data[:5], 0.6).dtype == torch.float64


def test_samples_of_an_array_have_its_dtype():
    data = np.random.default_rng(0).normal(size=(30, 2)).astype(np.float32)
    path = pl.GaussianPath(pl.LinearSchedule())
    assert pl.sample(pl.EmpiricalField(data, path), (4, 2), steps=3, seed=0).dtype == torch.float32


def test_a_schedule_that_rounds_at_data_is_singular_there():
    schedule = pl.FunctionSchedule(lambda t: (torch.pi / 2 * t).sin(), lambda t: (torch.pi / 2 * t).cos())
    data = torch.randn(50, 2, generator=torch.Generator().manual_seed(0))
    exact = pl.EmpiricalField(data, pl.GaussianPath(schedule))
    assert 1.0 not in exact.interval(pl.SCORE)
    x = pl.sample(exact, (30, 2), steps=60, seed=0)
    assert pl.metrics.nearest_distance(x, data).max() < 0.2


def test_fields_of_noise_and_of_bridges_refuse_each_other():
    with pytest.raises(ValueError, match="path must be a GaussianPath"):
        pl.EmpiricalField(torch.randn(5, 2), pl.BridgePath(0.5))
    normal = pl.Normal(torch.zeros(2))
    with pytest.raises(ValueError, match="path must be a GaussianPath"):
        pl.MixtureField(normal, pl.BridgePath())
    with pytest.raises(ValueError, match="path must be a BridgePath"):
        pl.MixtureBridgeField(normal, normal, pl.GaussianPath(pl.LinearSchedule()))


def test_a_guided_pair_of_classes_takes_another_class():
    y = torch.arange(30) % 3
    exact = pl.EmpiricalField(torch.randn(30, 2), pl.GaussianPath(pl.LinearSchedule()), y=y)
    x = torch.randn(4, 2)
    guided = pl.ClassifierFree(exact.given(0), exact.given(None), 2.0).given(1)
    true = 2 * exact.given(1).velocity(x, 0.5) - exact.velocity(x, 0.5)
    assert torch.allclose(guided.velocity(x, 0.5), true, atol=1e-5)
    for wrong in (1.7, True, torch.tensor([], dtype=torch.long)):
        with pytest.raises(ValueError, match="y must be a class index"):
            exact.given(wrong)
