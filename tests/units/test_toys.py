"""Toys: their densities against integrals taken otherwise, their samples against their densities."""

import functools
import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats

import pathline as pl
from pathline.data.distributions import Distribution
from pathline.data.toys import Checkerboard, Moons, Pinwheel, Rings, Spiral, ToySource
from pathline.specs import build, catalogue

pytestmark = pytest.mark.fast

TOYS = {
    "symmetric": pl.GaussianMixture.symmetric(),
    "random": pl.GaussianMixture.random(),
    "checkerboard": Checkerboard(),
    "odd checkerboard": Checkerboard(5, 3.3),
    "rings": Rings(),
    "circle": Rings(1.0, 0.3),
    "moons": Moons(),
    "wide moons": Moons(0.5),
    "spiral": Spiral(),
    "three arms": Spiral(3, 0.7, 1.0, 0.05),
    "pinwheel": Pinwheel(),
    "straight pinwheel": Pinwheel(3, 0.0),
}
SMOOTH = [name for name in TOYS if "checkerboard" not in name]


@pytest.fixture(params=TOYS)
def toy(request):
    return TOYS[request.param]


CELLS = 320  # along each side of a window


@functools.cache
def window(name):
    """The chances of the square cells of a window that holds all but nothing of a toy, and the cells' side."""
    toy = TOYS[name]
    if isinstance(toy, Checkerboard):
        reach = float(toy.high.max()) * CELLS / 300  # so that edges of squares are edges of cells
    else:
        reach = 1.5 * float(toy.sample(2000, seed=9).abs().max())
    side = 2 * reach / CELLS
    line = (torch.arange(CELLS).double() + 0.5) * side - reach
    middles = torch.stack(torch.meshgrid(line, line, indexing="ij"), -1)
    return toy.log_prob(middles.flatten(0, 1)).exp().reshape(CELLS, CELLS) * side**2, side


@pytest.mark.parametrize("name", TOYS)
def test_the_density_integrates_to_1(name):
    assert float(window(name)[0].sum()) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("name", TOYS)
def test_samples_are_counted_where_the_density_says(name):
    n, (chance, side) = 40_000, window(name)
    place = (TOYS[name].sample(n, seed=3).double() / side + CELLS / 2).floor().long().clamp(0, CELLS - 1)
    counts = torch.bincount(place[:, 0] * CELLS + place[:, 1], minlength=CELLS**2)
    blocks = CELLS // 5
    expected, found = (
        part.reshape(blocks, 5, blocks, 5).sum((1, 3)).flatten() for part in (n * chance, counts.double())
    )
    is_much = expected > 5
    expected, found = (torch.cat((part[is_much], part[~is_much].sum()[None])) for part in (expected, found))
    error = (found - expected) ** 2 / expected.clamp(min=1)  # the rest may be nothing
    assert len(expected) > 50 and stats.chi2.sf(float(error.sum()), len(expected) - 1) > 1e-5


def test_each_component_is_as_likely_as_the_others(toy):
    x, k = toy.sample_with_component(20_000, seed=5)
    counts = torch.bincount(k, minlength=toy.components)
    assert len(counts) == toy.components == len(toy.names) and x.shape == (20_000, 2) and x.dtype == torch.float32
    assert toy.components == 1 or stats.chisquare(counts).pvalue > 1e-5


def test_sample_i_depends_on_the_seed_and_i_only(toy):
    many, few = toy.sample_with_component(500, seed=3), toy.sample_with_component(7, seed=3)
    assert torch.equal(many[0][:7], few[0]) and torch.equal(many[1][:7], few[1])
    later = toy.draw(7, pl.Noise(3, first=100, stream=8))
    assert torch.allclose(many[0][100:107], later[0], atol=1e-6) and torch.equal(many[1][100:107], later[1])
    assert not torch.equal(few[0], toy.sample(7, seed=4))
    assert torch.equal(few[0], toy.sample(7, seed=3))


def test_the_density_of_a_sample_is_positive(toy):
    assert toy.log_prob(toy.sample(100_000, seed=1)).isfinite().all()


def test_the_density_follows_the_type_of_the_points(toy):
    x = toy.sample(200, seed=2)
    single, double = toy.log_prob(x), toy.log_prob(x.double())
    assert (single.dtype, double.dtype) == (torch.float32, torch.float64)
    assert torch.allclose(single.double(), double, atol=1e-3)
    assert toy.log_prob(x[:0]).shape == (0,)


@pytest.mark.parametrize("name", SMOOTH)
def test_the_slope_of_the_density_is_that_of_differences(name):
    toy = TOYS[name]
    x = toy.sample(50, seed=4).double().requires_grad_()
    (slope,) = torch.autograd.grad(toy.log_prob(x).sum(), x)
    h = 1e-5
    for i in range(2):
        step = h * torch.eye(2).double()[i]
        difference = (toy.log_prob(x + step) - toy.log_prob(x - step)) / (2 * h)
        assert torch.allclose(slope[:, i], difference, rtol=1e-4, atol=1e-4)


def test_a_checkerboard_has_no_slope():
    x = torch.tensor([[0.5, 0.5], [0.5, -0.5]], requires_grad=True)
    assert torch.autograd.grad(Checkerboard().log_prob(x).sum(), x)[0].abs().max() == 0


@pytest.mark.parametrize("x", [torch.zeros(2), torch.zeros(4, 3)])
def test_points_of_another_dimension_are_refused(toy, x):
    with pytest.raises(ValueError, match=r"x must have shape \(batch, 2\)"):
        toy.log_prob(x)


# ---- each by itself


def blurred(points, x, std):
    """The log of the mean over a closely spaced curve of normals around its points, in float64."""
    square = torch.cdist(x, points, compute_mode="donot_use_mm_for_euclid_dist") ** 2
    return torch.logsumexp(-square / (2 * std**2), 1) - math.log(len(points)) - math.log(2 * math.pi * std**2)


def around(points, std, n=300):
    """Points up to five blurs away from some of a curve."""
    generator = torch.Generator().manual_seed(0)
    some = points[torch.randint(len(points), (n,), generator=generator)]
    away = torch.nn.functional.normalize(torch.randn(n, 2, generator=generator).double(), dim=1)
    return some + 5 * std * torch.rand(n, 1, generator=generator).double() * away


@pytest.mark.parametrize(("radii", "std"), [((1.0,), 0.3), ((0.5, 2.0), 0.05), ((1.0, 2.0, 3.0), 2.0)])
def test_rings_are_normals_around_circles(radii, std):
    rings = Rings(radii, std).double()
    angle = torch.arange(4096).double() * 2 * math.pi / 4096
    circles = torch.cat([radius * torch.stack((angle.cos(), angle.sin()), 1) for radius in rings.radii])
    x = around(circles, std)  # the trapezium rule on a circle is exact to rounding
    assert torch.allclose(rings.log_prob(x), blurred(circles, x, rings.std), atol=1e-10)


def test_moons_are_normals_around_two_half_circles():
    """By scipy's adaptive quadrature, an angle at a time."""
    moons, (x, y) = Moons(0.2).double(), (0.9, 0.3)
    variance = float(moons.std) ** 2

    def bump(angle):
        upper = (x - math.cos(angle)) ** 2 + (y - math.sin(angle)) ** 2
        lower = (x - 1 + math.cos(angle)) ** 2 + (y - 0.5 + math.sin(angle)) ** 2
        return (math.exp(-upper / (2 * variance)) + math.exp(-lower / (2 * variance))) / (2 * math.pi * variance)

    truth = integrate.quad(bump, 0, math.pi, epsabs=1e-13)[0] / (2 * math.pi)
    assert float(moons.log_prob(torch.tensor([[x, y]], dtype=torch.float64))) == pytest.approx(
        math.log(truth), abs=1e-10
    )


@pytest.mark.parametrize("toy", [Moons(), Moons(0.01), Spiral(), Spiral(1, 3.0, 1.0, 0.02)], ids=repr)
def test_twice_the_nodes_change_nothing(toy, monkeypatch):
    toy = toy.double()
    curve = toy.curve(torch.linspace(0, 1, 500).double()).flatten(0, 1)
    x = around(curve, float(toy.std))
    once, nodes = toy.log_prob(x), toy.nodes(2)
    monkeypatch.setattr(toy, "nodes", lambda: nodes)
    assert (toy.log_prob(x) - once).abs().max() < 1e-10


def test_moons_lie_on_two_half_circles():
    x, k = Moons(1e-6).sample_with_component(400, seed=0)
    upper, lower = x[k == 0], x[k == 1]
    assert torch.allclose(upper.norm(dim=1), torch.ones(len(upper)), atol=1e-5) and (upper[:, 1] > -1e-5).all()
    assert torch.allclose((lower - torch.tensor([1.0, 0.5])).norm(dim=1), torch.ones(len(lower)), atol=1e-5)
    assert (lower[:, 1] < 0.5 + 1e-5).all() and Moons().names == ("upper", "lower")


def test_an_arm_of_a_spiral_winds_as_often_as_it_says():
    spiral = Spiral(3, turns=2.0, radius=4.0)
    arms = spiral.curve(torch.linspace(0, 1, 2000).double())
    angle = torch.from_numpy(np.unwrap(torch.atan2(arms[..., 1], arms[..., 0]).numpy(), axis=0))
    r = arms.norm(dim=-1)
    assert (r.diff(dim=0) > 0).all() and torch.allclose(r[[0, -1]], torch.tensor([[0.4], [4.0]]).double())
    assert torch.allclose(angle[-1] - angle[0], torch.tensor(0.9 * 2 * 2 * math.pi).double())  # from a tenth on
    assert torch.allclose((angle[0] - angle[0, 0]).remainder(2 * math.pi), torch.arange(3).double() * 2 * math.pi / 3)


def test_a_twist_moves_a_pinwheels_points_around_only():
    twisted, straight = (Pinwheel(twist=twist).sample(500, seed=1) for twist in (1.5, 0.0))
    assert torch.allclose(twisted.norm(dim=1), straight.norm(dim=1), atol=1e-5)
    turned = [torch.atan2(x[:, 1], x[:, 0]) for x in (twisted, straight)]
    gap = (turned[0] - turned[1] - 1.5 * straight.norm(dim=1)).remainder(2 * math.pi)
    assert torch.minimum(gap, 2 * math.pi - gap).max() < 1e-4


def test_a_checkerboard_of_4_is_the_usual_one():
    board = Checkerboard(4, 4.0)
    x = torch.tensor([[-1.5, -1.5], [-1.5, -0.5], [0.5, 0.5], [0.5, 1.5], [1.9, 1.9], [2.1, 2.1]])
    assert board.components == 8 and Checkerboard(3).components == 5
    assert board.log_prob(x).tolist() == pytest.approx(
        [-math.log(8), -math.inf, -math.log(8), -math.inf, -math.log(8), -math.inf]
    )


def test_a_square_is_what_its_component_says():
    board = Checkerboard(5, 3.3)
    x, k = board.sample_with_component(50_000, seed=2)
    assert ((x >= board.low[k]) & (x <= board.high[k])).all()


def test_a_random_mixture_is_the_same_for_the_same_seed():
    one, again, other = (pl.GaussianMixture.random(6, 3, 2.0, seed=seed).means for seed in (1, 1, 2))
    assert one.shape == (6, 3) and torch.equal(one, again) and not torch.equal(one, other)
    many = pl.GaussianMixture.random(4000, 1, 2.0).means[:, 0]
    assert stats.kstest(many.numpy(), stats.uniform(-2, 4).cdf).pvalue > 1e-5


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Checkerboard(0), "squares must be a whole number from 1, got 0"),
        (lambda: Checkerboard(2.5), r"squares must be a whole number from 1, got 2\.5"),
        (lambda: Checkerboard(4, -1.0), "side must be a positive number, got -1"),
        (lambda: Rings(()), "radii must be one or more positive numbers"),
        (lambda: Rings((1.0, -2.0)), "radii must be one or more positive numbers"),
        (lambda: Rings(1.0, 0.0), "std must be a positive number, got 0"),
        (lambda: Moons(math.nan), "std must be a positive number, got nan"),
        (lambda: Spiral(0), "arms must be a whole number from 1, got 0"),
        (lambda: Spiral(turns=math.inf), "turns must be a positive number, got inf"),
        (lambda: Pinwheel(0), "arms must be a whole number from 1, got 0"),
        (lambda: Pinwheel(across=0.0), "across must be a positive number, got 0"),
        (lambda: Pinwheel(twist=math.inf), "twist must be a finite angle, got inf"),
        (lambda: pl.GaussianMixture.symmetric(0), "components must be a whole number from 1, got 0"),
        (lambda: pl.GaussianMixture.random(2.5), r"components must be a whole number from 1, got 2\.5"),
        (lambda: pl.GaussianMixture.random(std=-1.0), "std must be a positive number, got -1"),
        (lambda: Moons().sample(0), "count must be at least 1, got 0"),
    ],
)
def test_what_is_no_toy_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# ---- as data


@pytest.mark.parametrize("name", sorted({*catalogue(Distribution)} - {"gaussian-mixture", "normal"}))
def test_every_distribution_is_data_by_its_name(name):
    samples, toy = build(pl.Source, f"toy:{name},100,3").load(), build(Distribution, name)
    x, k = toy.sample_with_component(100, seed=3)
    assert torch.equal(samples.x, x) and torch.equal(samples.y["class"], k) and samples.classes == toy.names
    inside = samples.normalisation.into(samples.x)
    assert abs(float(inside.mean())) < 1e-5 and float(inside.std()) == pytest.approx(1, abs=1e-5)


def test_one_component_is_no_class():
    samples = ToySource("rings:2").load()
    assert not samples.y and samples.classes == () and float(samples.x.norm(dim=1).mean()) == pytest.approx(2, 0.01)
