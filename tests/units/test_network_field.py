"""A network as a field: how it is called, with and without a condition."""

import copy

import pytest
import torch
from torch import nn

import pathline as pl

pytestmark = pytest.mark.fast

PATH = pl.GaussianPath(pl.LinearSchedule())


class Recorder(nn.Module):
    """Adds its condition to the point, and remembers how it was called."""

    def __init__(self, null=None):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.calls = []
        if null is not None:
            self.null = null

    def forward(self, x, t, y=None):
        self.calls.append((x, t, y))
        return self.weight * x if y is None else x + y.reshape(len(x), -1).to(x.dtype)


class Plain(nn.Module):
    def forward(self, x, t):
        return x


def points(n=5, d=3):
    return torch.arange(float(n * d)).reshape(n, d)


@pytest.mark.parametrize("t", [0.3, torch.tensor(0.3), torch.full((5,), 0.3)])
@pytest.mark.parametrize("y", ["none", 2, [1, 2, 3, 4, 5]])
def test_a_network_is_called_with_a_time_for_each_sample(t, y):
    network = Recorder()
    field = pl.NetworkField(network, PATH)
    (field if y == "none" else field.given(y)).velocity(points(), t)
    ((_, time, _),) = network.calls
    assert torch.equal(time, torch.full((5,), 0.3))


def test_without_a_condition_the_network_gets_none():
    network = Recorder()
    assert torch.equal(pl.NetworkField(network, PATH).velocity(points(), 0.5), points())
    assert pl.NetworkField(Plain(), PATH).velocity(points(), 0.5).equal(points())
    assert network.calls[0][2] is None


@pytest.mark.parametrize("y", [2, torch.tensor(2), torch.tensor([2]), [2]])
def test_one_value_is_the_condition_of_all(y):
    found = pl.NetworkField(Recorder(), PATH).given(y).velocity(points(), 0.5)
    assert torch.equal(found, points() + 2)


@pytest.mark.parametrize("y", [[1, 2, 3, 4, 5], torch.tensor([1, 2, 3, 4, 5])])
def test_one_value_per_sample_is_the_condition_of_each(y):
    found = pl.NetworkField(Recorder(), PATH).given(y).velocity(points(), 0.5)
    assert torch.equal(found, points() + torch.arange(1, 6)[:, None])


def test_a_vector_condition_per_sample_is_as_well():
    y = torch.arange(15).reshape(5, 3)
    assert torch.equal(pl.NetworkField(Recorder(), PATH).given(y).velocity(points(), 0.5), points() + y)


def test_conditions_for_another_batch_are_refused():
    with pytest.raises(ValueError, match="one condition or one per sample, 5, got 4"):
        pl.NetworkField(Recorder(), PATH).given([1, 2, 3, 4]).velocity(points(), 0.5)


def test_none_is_the_networks_own_null_condition():
    network = Recorder(null=7)
    assert torch.equal(pl.NetworkField(network, PATH).given(None).velocity(points(), 0.5), points() + 7)


def test_none_is_none_where_the_network_has_no_null():
    network = Recorder()
    pl.NetworkField(network, PATH).given(None).velocity(points(), 0.5)
    assert network.calls[0][2] is None


@pytest.mark.parametrize("batch", [5, 3, 1, 2])
def test_a_null_vector_stands_for_none_of_every_sample(batch):
    null = torch.tensor([10.0, 20.0, 30.0])  # for one sample, as NetworkField says
    field = pl.NetworkField(Recorder(null), PATH).given(None)
    assert torch.equal(field.velocity(points(batch), 0.5), points(batch) + null)


def test_the_null_class_of_the_networks_here_is_the_one_without_a_condition():
    network = pl.MLP(2, width=8, depth=1, classes=3)
    nn.init.normal_(network.last.weight)
    field, x = pl.NetworkField(network, PATH), points(4, 2)
    assert torch.allclose(field.given(None).velocity(x, 0.5), field.velocity(x, 0.5), atol=1e-6)
    assert torch.allclose(field.bound(torch.tensor([3])).velocity(x, 0.5), field.velocity(x, 0.5), atol=1e-6)
    assert not torch.allclose(field.given(0).velocity(x, 0.5), field.velocity(x, 0.5), atol=1e-6)


class Tree(nn.Module):
    """Reads a text: tokens under a mask, and a pooled vector."""

    def forward(self, x, t, y):
        tokens, mask, pooled = (y[k] for k in ("tokens", "mask", "pooled")) if isinstance(y, dict) else y
        assert len(tokens) == len(mask) == len(pooled) == len(x)
        return x + (tokens * mask).sum(1, keepdim=True) + pooled


def text(n):
    tokens = torch.arange(float(n * 4)).reshape(n, 4)
    return tokens, (tokens % 2).long(), torch.arange(float(n * 3)).reshape(n, 3) * 100


@pytest.mark.parametrize("form", [tuple, lambda y: dict(zip(("tokens", "mask", "pooled"), y, strict=True))])
def test_a_condition_may_be_a_tree(form):
    field, x, y = pl.NetworkField(Tree(), PATH), points(), text(5)
    expected = x + (y[0] * y[1]).sum(1, keepdim=True) + y[2]
    bound = field.given(form(y))
    assert torch.equal(bound.velocity(x, 0.5), expected)
    assert torch.equal(bound.take(torch.tensor([3, 0])).velocity(x[[3, 0]], 0.5), expected[[3, 0]])
    assert torch.equal(bound.take(slice(1, 3)).velocity(x[1:3], 0.5), expected[1:3])
    assert torch.equal(bound.repeat(2).velocity(torch.cat((x, x)), 0.5), torch.cat((expected, expected)))
    one = field.given(form(tuple(leaf[:1] for leaf in y)))
    assert torch.equal(one.velocity(x, 0.5), x + (y[0] * y[1])[0].sum() + y[2][0])


def test_a_bound_field_knows_some_of_its_samples_and_several_times_all():
    field, x = pl.NetworkField(Recorder(), PATH), points()
    bound = field.given([1, 2, 3, 4, 5])
    whole = bound.velocity(x, 0.5)
    index = torch.tensor([4, 0, 2])
    assert torch.equal(bound.take(index).velocity(x[index], 0.5), whole[index])
    assert torch.equal(bound.take(slice(2, 3)).velocity(x[2:3], 0.5), whole[2:3])
    assert torch.equal(bound.repeat(3).velocity(x.repeat(3, 1), 0.5), whole.repeat(3, 1))


def test_one_value_stays_one_value():
    bound = pl.NetworkField(Recorder(), PATH).given(2)
    for part in (bound.take(slice(2)), bound.repeat(3)):
        assert torch.equal(part.velocity(points(4), 0.5), points(4) + 2)


def test_a_bound_field_can_be_bound_again():
    bound = pl.NetworkField(Recorder(null=9), PATH).given(1)
    assert torch.equal(bound.given(5).velocity(points(), 0.5), points() + 5)
    assert torch.equal(bound.given(None).velocity(points(), 0.5), points() + 9)


def test_binding_makes_no_new_parameters():
    field = pl.NetworkField(pl.MLP(2, 8, 1, classes=3), PATH)
    bound = field.given([0, 1])
    guided = pl.ClassifierFree(bound, field.given(None), 2.0)
    for other in (bound, bound.take(slice(1)), bound.repeat(2), guided):
        assert {id(p) for p in other.parameters()} == {id(p) for p in field.parameters()}


@pytest.mark.parametrize("network", [Plain(), pl.MLP(3, 8, 1), pl.UNet(1, 8, 1)], ids=lambda n: type(n).__name__)
def test_a_network_without_a_condition_says_so(network):
    with pytest.raises(ValueError, match=f"{type(network).__name__} takes no condition"):
        pl.NetworkField(network, PATH).given(1)


class Two(nn.Module):
    """The velocity 1 and the score 7, as a tuple or side by side."""

    def __init__(self, is_tuple):
        super().__init__()
        self.is_tuple = is_tuple

    def forward(self, x, t, y=None):
        heads = torch.full_like(x, 1.0), torch.full_like(x, 7.0)
        return heads if self.is_tuple else torch.cat(heads, 1)


@pytest.mark.parametrize("shape", [(3,), (1, 4, 4), (2, 4, 4)])
@pytest.mark.parametrize("is_tuple", [True, False])
@pytest.mark.parametrize("is_bound", [True, False])
def test_two_heads_are_read_from_themselves(shape, is_tuple, is_bound):
    field, x = pl.NetworkField(Two(is_tuple), PATH, (pl.VELOCITY, pl.SCORE)), torch.zeros(2, *shape)
    velocity, score, data = (field.given(0) if is_bound else field).read(x, 0.5, pl.VELOCITY, pl.SCORE, pl.DATA)
    assert torch.equal(velocity, torch.full_like(x, 1.0)) and torch.equal(score, torch.full_like(x, 7.0))
    assert torch.equal(data, torch.full_like(x, 0.5))  # x + (1 - t) velocity


def test_gradients_reach_the_network_through_a_bound_field():
    network = Recorder()
    field = pl.NetworkField(network, PATH)
    field.data(points(), 0.25).sum().backward()  # x + (1 - t) w x
    assert float(network.weight.grad) == pytest.approx(0.75 * float(points().sum()))


# ---- networks of half precision


class Spy(nn.Module):
    """Says a point and a condition back, and what it was given."""

    def __init__(self, dtype):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2, dtype=dtype))

    def forward(self, x, t, y=None):
        self.seen = x, t, y
        return x * self.weight + (0 if y is None else y["a"])


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("fine", [torch.float32, torch.float64], ids=str)
def test_a_network_of_half_precision_may_be_asked_at_finer_points(half, fine):
    network = Spy(half)
    field, x = pl.NetworkField(network, PATH), torch.randn(5, 2, dtype=fine)
    y = {"a": torch.randn(5, 2), "k": torch.arange(5)}
    found = field.given(y).velocity(x, 0.3)
    assert found.dtype == fine
    assert torch.equal(found, (x.to(half) + y["a"].to(half)).to(fine))
    assert [part.dtype for part in network.seen[:2]] == [half, fine] and network.seen[2]["k"].dtype == torch.int64
    assert float(network.seen[1][0]) == float(torch.tensor(0.3, dtype=fine))
    assert field.velocity(x.to(half), 0.3).dtype == half  # and as they are, if they are no finer
    double = pl.NetworkField(Spy(torch.float64), PATH)
    with torch.no_grad():
        double.velocity(x, 0.3)
    assert double.network.seen[0].dtype == fine


class Swirl(nn.Module):
    """A small network of a point alone."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2, 32), nn.SiLU(), nn.Linear(32, 2))

    def forward(self, x, t):
        return self.layers(x)


def test_what_a_half_network_rounds_does_not_add_up_over_the_steps():
    torch.manual_seed(0)
    fine = pl.NetworkField(Swirl(), PATH).bfloat16().float()  # of the same weights
    half = copy.deepcopy(fine).bfloat16()
    sampler = pl.ODESampler(pl.EULER)
    truth, found = (pl.sample(field, (200, 2), sampler, steps=200, seed=0) for field in (fine, half))
    assert found.dtype == torch.bfloat16
    start = pl.Noise(0).normal((200, 2))
    rough = pl.sample(half, (200, 2), sampler, steps=200, start=start.bfloat16())
    kept = pl.sample(half, (200, 2), sampler, steps=200, start=start)
    assert kept.dtype == torch.float32 and torch.equal(kept.bfloat16(), found)
    errors = [float((x.float() - truth).square().mean().sqrt()) for x in (kept, rough)]
    assert errors[0] < errors[1] / 3
