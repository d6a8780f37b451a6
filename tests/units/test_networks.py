"""The networks: each sample by itself, at its own time and under its own class or numbers."""

import math

import pytest
import torch
from torch import nn

import pathline as pl
from pathline.networks.embedding import ClassEmbedding, NumberEmbedding, TimeEmbedding

pytestmark = pytest.mark.fast

CASES = {"mlp": (lambda **k: pl.MLP(3, 8, 2, **k), (3,)), "unet": (lambda **k: pl.UNet(2, 8, 2, **k), (2, 8, 4))}
each_network = pytest.mark.parametrize("name", CASES)


def made(name, **arguments):
    """A network whose last layer is not zero, as it is at the start."""
    make, shape = CASES[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = make(**arguments)
        last = network.last if name == "mlp" else network.last[-1]
        nn.init.normal_(last.weight)
        return network, torch.randn(4, *shape)


T = torch.tensor([0.1, 0.4, 0.5, 0.9])
Y = torch.tensor([0, 2, 1, 2])
NAN = math.nan
NUMBERS = torch.tensor([[0.5, -1.0], [NAN, NAN], [0.0, 2.0], [-1.5, 0.0]])


@each_network
def test_a_sample_does_not_see_the_others(name):
    network, x = made(name, classes=3)
    whole = network(x, T, Y)
    for i in range(4):
        assert torch.allclose(network(x[i : i + 1], T[i : i + 1], Y[i : i + 1])[0], whole[i], atol=1e-4)


@each_network
def test_point_time_and_class_all_count(name):
    network, x = made(name, classes=3)
    value = network(x, T, Y)
    for other in (network(x + 0.1, T, Y), network(x, T + 0.05, Y), network(x, T, (Y + 1) % 3)):
        assert ((other - value).flatten(1).abs().amax(1) > 1e-4).all()


@each_network
def test_no_class_is_the_null_class(name):
    network, x = made(name, classes=3)
    assert network.null == {"class": 3}
    assert torch.allclose(network(x, T), network(x, T, torch.full((4,), 3)), atol=1e-5)


@each_network
def test_a_sample_does_not_see_the_numbers_of_others(name):
    network, x = made(name, numbers=2)
    whole = network(x, T, NUMBERS)
    for i in range(4):
        assert torch.allclose(network(x[i : i + 1], T[i : i + 1], NUMBERS[i : i + 1])[0], whole[i], atol=1e-4)


@each_network
@pytest.mark.parametrize("which", [0, 1])
def test_each_number_counts(name, which):
    network, x = made(name, numbers=2)
    y = NUMBERS.nan_to_num(1.0)
    other = y + 0.1 * torch.eye(2)[which]
    assert ((network(x, T, other) - network(x, T, y)).flatten(1).abs().amax(1) > 1e-4).all()


@each_network
@pytest.mark.parametrize("row", [(NAN, NAN), (NAN, 1.0), (1e30, NAN)])
def test_numbers_of_which_one_is_nan_are_none(name, row):
    network, x = made(name, numbers=2)
    nn.init.normal_(network.condition.numbers.none)
    assert network.null["numbers"].isnan().tolist() == [True, True]
    none = network(x, T)
    assert torch.allclose(network(x, T, torch.tensor([row] * 4)), none, atol=1e-5)
    assert ((network(x, T, NUMBERS.nan_to_num(1.0)) - none).flatten(1).abs().amax(1) > 1e-3).all()


def test_none_is_a_vector_that_is_learned_and_nan_reaches_no_gradient():
    embedding = NumberEmbedding(2, 4)
    y = NUMBERS.clone().requires_grad_()
    value = embedding(y, 4)
    assert torch.equal(value[1], embedding.none)
    (value * torch.arange(1.0, 5)[:, None]).sum().backward()
    assert torch.equal(embedding.none.grad, torch.full((4,), 2.0))  # of the second sample alone
    known = NumberEmbedding(2, 4)
    known.load_state_dict(embedding.state_dict())
    (known(NUMBERS[[0, 2, 3]], 3) * torch.tensor([1.0, 3, 4])[:, None]).sum().backward()
    for a, b in zip(embedding.mlp.parameters(), known.mlp.parameters(), strict=True):
        assert torch.allclose(a.grad, b.grad, atol=1e-5)
    assert y.grad[[0, 2, 3]].abs().min() > 0 == y.grad[1].abs().max()


def test_numbers_are_seen_as_they_are_and_as_waves():
    embedding = NumberEmbedding(2, 26)
    embedding.mlp = nn.Identity()
    y = torch.tensor([[0.3, -7.0]])
    seen = embedding(y, 1)[0]
    angles = [2 * math.pi * number * 2.0**k for number in (0.3, -7.0) for k in range(-4, 2)]
    truth = [0.3, -7.0, *map(math.sin, angles), *map(math.cos, angles)]
    assert torch.allclose(seen, torch.tensor(truth), atol=1e-4)


@pytest.mark.parametrize(
    ("y", "said"),
    [
        (torch.zeros(4, 3), r"floats of shape \(4, 2\), .* got torch.float32 of shape \(4, 3\)"),
        (torch.zeros(4), r"of shape \(4,\)"),
        (torch.zeros(3, 2), r"of shape \(3, 2\)"),
        (torch.zeros(4, 2, dtype=torch.long), "got torch.int64"),
        (torch.tensor([[0.0, math.inf]] * 4), "finite, or NaN for none, got inf"),
    ],
)
@each_network
def test_what_are_no_numbers_is_refused(name, y, said):
    network, x = made(name, numbers=2)
    with pytest.raises(ValueError, match=said):
        network(x, T, y)


@each_network
def test_runs_with_classes_keep_the_names_of_their_weights(name):
    names = {key for key in made(name, classes=3)[0].state_dict() if key.startswith("condition")}
    time = {f"condition.time.mlp.{layer}.{part}" for layer in (0, 2) for part in ("weight", "bias")}
    assert names == time | {"condition.label.table.weight"}


@each_network
def test_training_begins_from_a_constant(name):
    make, shape = CASES[name]
    network = make(classes=3)
    value = network(torch.randn(4, *shape), T, Y)
    assert torch.equal(value, value[:1].expand_as(value))


@each_network
def test_heads_lie_side_by_side(name):
    network, x = made(name, heads=2)
    value = network(x, T)
    assert value.shape == (4, 2 * x.shape[1], *x.shape[2:])


@each_network
@pytest.mark.parametrize("label", [-1, 4])
def test_a_label_that_is_no_class_is_refused(name, label):
    network, x = made(name, classes=3)
    with pytest.raises(ValueError, match=f"class index from 0 to 2 .*got {label}"):
        network(x, T, torch.tensor([0, 1, 2, label]))


@each_network
def test_labels_for_a_network_without_classes_are_refused(name):
    network, x = made(name)
    with pytest.raises(ValueError, match="made without classes"):
        network(x, T, Y)


def test_labels_are_whole_numbers():
    with pytest.raises(ValueError, match="whole numbers"):
        ClassEmbedding(3, 4)(torch.zeros(2), 2)


def test_waves_go_from_a_quarter_period_to_the_highest():
    embedding = TimeEmbedding(4, waves=5, highest=64.0)
    turns = embedding.frequencies / (2 * torch.pi)
    assert float(turns[0]) == pytest.approx(0.25) and float(turns[-1]) == pytest.approx(64)
    assert torch.allclose(turns[1:] / turns[:-1], torch.full((4,), 4.0))  # evenly in their logarithm


def test_times_a_thousandth_apart_look_different():
    embedding = TimeEmbedding(4, highest=64.0)
    embedding.mlp = nn.Identity()
    waves = embedding(torch.linspace(0, 1, 1001))
    chord = 2 * math.sin(math.pi * 64 * 0.001)  # on the circle of the fastest wave alone
    assert float((waves[1:] - waves[:-1]).norm(dim=1).min()) > chord


@pytest.mark.parametrize("size", [(8, 6), (6, 8), (7, 8)])
def test_a_side_that_cannot_be_halved_is_refused(size):
    with pytest.raises(ValueError, match=r"multiples of 4, got"):
        pl.UNet(1, 8, 3)(torch.zeros(1, 1, *size), torch.zeros(1))


@pytest.mark.parametrize("arguments", [(0, 8, 1), (3, 0, 1), (3, 8, 0)])
@pytest.mark.parametrize("network", [pl.MLP, pl.UNet])
def test_sizes_must_be_positive(network, arguments):
    with pytest.raises(ValueError, match="at least 1"):
        network(*arguments)


def test_the_width_of_a_unet_is_a_multiple_of_8():
    with pytest.raises(ValueError, match="width a multiple of 8"):
        pl.UNet(1, 12)


def test_attention_lets_far_pixels_meet():
    def reach(has_attention):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            network = pl.UNet(1, 8, 1, has_attention=has_attention)
            nn.init.normal_(network.last[-1].weight)
        for part in network.modules():  # which would let them meet by itself
            if isinstance(part, nn.GroupNorm):
                part.forward = lambda x: x
        x = torch.zeros(1, 1, 32, 32, requires_grad=True)
        network(x, torch.zeros(1))[0, 0, 0, 0].backward()
        return float(x.grad[0, 0, 20:, 20:].abs().max())

    assert reach(False) == 0 < reach(True)
