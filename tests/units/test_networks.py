"""The networks: each sample by itself, at its own time and under its own class."""

import math

import pytest
import torch
from torch import nn

import pathline as pl
from pathline.networks.embedding import ClassEmbedding, TimeEmbedding

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
    assert network.null == 3
    assert torch.allclose(network(x, T), network(x, T, torch.full((4,), 3)), atol=1e-5)


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
