"""Classifier-free guidance: (1 - w) u(x) + w u(x | y), in one call of the network where there is one."""

import pytest
import torch
from torch import nn

import pathline as pl

pytestmark = pytest.mark.fast

PATH = pl.GaussianPath(pl.LinearSchedule())


class Net(nn.Module):
    """x tanh(y + t), so that nothing is linear in the condition; it counts its calls."""

    def __init__(self, heads=1):
        super().__init__()
        self.null = 0
        self.heads = heads
        self.batches = []

    def forward(self, x, t, y=None):
        self.batches.append(len(x))
        y = torch.zeros(len(x)) if y is None else y
        value = x * torch.tanh(y + t).reshape(-1, *(1,) * (x.ndim - 1))
        return value if self.heads == 1 else torch.cat([value + k for k in range(self.heads)], 1)


def points(n=4, shape=(3,)):
    return torch.randn(n, *shape, generator=torch.Generator().manual_seed(0))


def truth(x, t, y, w):
    t, y, w = (torch.as_tensor(v, dtype=x.dtype).expand(len(x)).reshape(-1, *(1,) * (x.ndim - 1)) for v in (t, y, w))
    return (1 - w) * x * torch.tanh(t) + w * x * torch.tanh(y + t)


@pytest.mark.parametrize("t", [0.3, torch.tensor([0.1, 0.4, 0.5, 0.9])], ids=["one", "each"])
@pytest.mark.parametrize("y", [2, torch.tensor([1, 2, 3, 4])], ids=["one", "each"])
@pytest.mark.parametrize("w", [-1.0, 0.5, 2.0, torch.tensor([0.0, 1.0, 2.0, 5.0])], ids=str)
@pytest.mark.parametrize("shape", [(3,), (4,), (1, 4, 4)], ids=str)
def test_the_guided_field_is_the_formula_in_one_call(t, y, w, shape):
    network = Net()
    field, x = pl.NetworkField(network, PATH), points(4, shape)
    guided = pl.ClassifierFree(field.given(y), field.given(None), w)
    assert torch.allclose(guided.velocity(x, t), truth(x, t, y, w), atol=1e-5)
    assert network.batches == [8]


def test_fused_and_unfused_agree():
    field, x = pl.NetworkField(Net(), PATH), points()
    other = pl.NetworkField(field.network, PATH)  # another field of the same network cannot be fused
    y = torch.tensor([1, 2, 3, 4])
    fused = pl.ClassifierFree(field.given(y), field.given(None), 3.0)
    apart = pl.ClassifierFree(field.given(y), other.given(None), 3.0)
    found = fused.velocity(x, 0.5)
    assert field.network.batches == [8]
    assert torch.allclose(apart.velocity(x, 0.5), found, atol=1e-6)
    assert field.network.batches == [8, 4, 4]


@pytest.mark.parametrize(("w", "y"), [(0.0, 0), (1.0, 2), (0, 0), (1, 2)])
def test_a_scale_of_0_or_1_asks_one_field_only(w, y):
    network = Net()
    field, x = pl.NetworkField(network, PATH), points()
    guided = pl.ClassifierFree(field.given(2), field.given(None), w)
    assert torch.allclose(guided.velocity(x, 0.5), x * torch.tanh(torch.tensor(y + 0.5)), atol=1e-6)
    assert network.batches == [4]


def test_every_kind_is_guided_alike():
    field, x, t = pl.NetworkField(Net(), PATH), points(), 0.4
    guided = pl.ClassifierFree(field.given(2), field.given(None), 3.0)
    for kind in (pl.VELOCITY, pl.SCORE, pl.NOISE, pl.DATA, pl.V):
        mixed = -2 * field.given(None).read(x, t, kind) + 3 * field.given(2).read(x, t, kind)
        assert torch.allclose(guided.read(x, t, kind), mixed, atol=1e-4)


def test_two_heads_are_guided_head_by_head():
    field, x = pl.NetworkField(Net(heads=2), PATH, (pl.VELOCITY, pl.SCORE)), points()
    velocity, score = pl.ClassifierFree(field.given(2), field.given(None), 3.0).read(x, 0.4, pl.VELOCITY, pl.SCORE)
    assert torch.allclose(velocity, truth(x, 0.4, 2, 3.0), atol=1e-5)
    assert torch.allclose(score, velocity + 1, atol=1e-5)


def test_fields_with_unlike_heads_are_read_as_the_conditional_one():
    means = torch.tensor([[1.0, 0.0], [-1.0, 0.0]], dtype=torch.float64)
    one = pl.MixtureField(pl.Normal(means[0], 0.3), PATH, pl.VELOCITY)
    both = pl.MixtureField(pl.GaussianMixture(means, torch.full((2,), 0.3)), PATH, pl.NOISE)
    x = points(5, (2,)).double()
    found = pl.ClassifierFree(one, both, 2.0).velocity(x, 0.4)
    assert torch.allclose(found, 2 * one.velocity(x, 0.4) - both.velocity(x, 0.4), atol=1e-12)


def test_the_guided_score_is_bayes_rule_tilted():
    # (1 - w) score p(x) + w score p(x | y) = score p(x) + w gradient of log p(y | x)
    means = torch.tensor([[1.0, 0.0], [-1.0, 0.5]], dtype=torch.float64)
    one = pl.MixtureField(pl.Normal(means[0], 0.3), PATH)
    both = pl.MixtureField(pl.GaussianMixture(means, torch.full((2,), 0.3), torch.tensor([0.4, 0.6])), PATH)
    x = points(5, (2,)).double().requires_grad_()
    posterior = one.log_prob(x, 0.5) + torch.tensor(0.4).log() - both.log_prob(x, 0.5)
    (pull,) = torch.autograd.grad(posterior.sum(), x)
    x = x.detach()
    assert torch.allclose(pl.ClassifierFree(one, both, 2.5).score(x, 0.5), both.score(x, 0.5) + 2.5 * pull, atol=1e-10)


def test_part_of_a_guided_batch_keeps_its_conditions_and_scales():
    field, x = pl.NetworkField(Net(), PATH), points()
    w, y, index = torch.tensor([0.0, 1.0, 2.0, 5.0]), torch.tensor([1, 2, 3, 4]), torch.tensor([3, 1])
    guided = pl.ClassifierFree(field.given(y), field.given(None), w)
    whole = guided.velocity(x, 0.3)
    assert torch.allclose(guided.take(index).velocity(x[index], 0.3), whole[index], atol=1e-6)
    assert torch.allclose(guided.take(slice(2, 3)).velocity(x[2:3], 0.3), whole[2:3], atol=1e-6)
    assert torch.allclose(guided.repeat(2).velocity(x.repeat(2, 1), 0.3), whole.repeat(2, 1), atol=1e-6)


def test_a_guided_field_is_guided_to_another_condition():
    field, x = pl.NetworkField(Net(), PATH), points()
    guided = pl.ClassifierFree(field.given(1), field.given(None), 2.0)
    assert torch.allclose(guided.given(3).velocity(x, 0.3), truth(x, 0.3, 3, 2.0), atol=1e-5)


def test_guidance_works_where_the_null_condition_is_a_vector():
    class Text(nn.Module):
        null = torch.zeros(2)

        def forward(self, x, t, y=None):
            return x + y.sum(1, keepdim=True)

    field, x, y = pl.NetworkField(Text(), PATH), points(), torch.arange(8.0).reshape(4, 2)
    guided = pl.ClassifierFree(field.given(y), field.given(None), 2.0)
    assert torch.allclose(guided.velocity(x, 0.3), x + 2 * y.sum(1, keepdim=True), atol=1e-5)


def test_a_network_whose_null_is_none_is_asked_twice():
    network = Net()
    del network.null
    field, x = pl.NetworkField(network, PATH), points()
    guided = pl.ClassifierFree(field.given(2), field.given(None), 2.0)
    assert torch.allclose(guided.velocity(x, 0.3), truth(x, 0.3, 2, 2.0), atol=1e-5)
    assert network.batches == [4, 4]


def test_fields_on_unlike_paths_are_refused():
    other = pl.NetworkField(Net(), pl.GaussianPath(pl.CosineSchedule()))
    with pytest.raises(ValueError, match=r"same path.*LinearSchedule.*CosineSchedule"):
        pl.ClassifierFree(pl.NetworkField(Net(), PATH), other, 2.0)


@pytest.mark.parametrize("w", [float("nan"), float("inf"), torch.tensor([1.0, float("nan")])])
def test_a_scale_that_is_not_finite_is_refused(w):
    field = pl.NetworkField(Net(), PATH)
    with pytest.raises(ValueError, match="w must be finite"):
        pl.ClassifierFree(field.given(1), field.given(None), w)


def test_a_scale_for_all_serves_some_of_a_batch_too():
    field = pl.NetworkField(pl.MLP(dimension=2, width=8, classes=3), pl.GaussianPath(pl.LinearSchedule()))
    y, x = torch.tensor([0, 1, 2]), torch.ones(3, 2)
    guided = pl.ClassifierFree(field.given(y), field.given(None), torch.tensor([2.0]))
    part = guided.take(torch.tensor([2, 0]))
    torch.testing.assert_close(part.velocity(x[:2], 0.5), guided.velocity(x, 0.5)[[2, 0]])
    torch.testing.assert_close(guided.repeat(2).velocity(torch.cat((x, x)), 0.5)[3:], guided.velocity(x, 0.5))
