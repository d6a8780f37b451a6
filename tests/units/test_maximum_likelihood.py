"""Maximum likelihood: three ways to one gradient, and a training like any other."""

import math
import weakref

import pytest
import torch
from torch import nn

import pathline as pl
from pathline.likelihood.log_prob import carry, log_start, shifted
from pathline.noise import Noise
from pathline.training.augment import NONE
from pathline.training.batches import Batches, Order
from pathline.training.distributed import Group
from pathline.training.loop import adamw

PATH = pl.GaussianPath(pl.LinearSchedule())
DATA, Y = Noise(9).normal((23, 2)), torch.arange(23) % 3
WAYS = [pl.Backpropagation(), pl.Recomputation(), pl.Adjoint()]

ways = pytest.mark.parametrize("way", WAYS, ids=lambda way: type(way).__name__)
later = pytest.mark.parametrize("way", WAYS[1:], ids=lambda way: type(way).__name__)


def field(prediction=pl.VELOCITY, dtype=torch.float64, classes=None):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = pl.MLP(2, 16, 1, classes)
        nn.init.normal_(network.last.weight, std=0.3)
    return pl.NetworkField(network.to(dtype), PATH, prediction)


def gradients(loss, data=DATA, y=None):
    """Of the loss with respect to the data and each parameter."""
    x = data.to(next(loss.parameters()).dtype).requires_grad_()
    return torch.autograd.grad(loss(x, y, 0), [x, *loss.parameters()], allow_unused=True)


def far(a, b):
    """The largest difference over the largest number."""
    size = max(float(x.abs().max()) for x in b if x is not None)
    assert [x is None for x in a] == [x is None for x in b]
    return max(float((x - y).abs().max()) for x, y in zip(a, b, strict=True) if x is not None) / size


# ---- the loss


@pytest.mark.fast
@pytest.mark.parametrize("divergence", [pl.Exact(), pl.Hutchinson(3)], ids=repr)
@ways
def test_the_loss_is_minus_the_log_density_for_each_number(way, divergence):
    model = field()
    loss = pl.MaximumLikelihood(model, steps=6, divergence=divergence, gradient=way, seed=4).eval()
    nats = pl.log_prob(model, DATA.double(), solver=pl.RK4, steps=6, divergence=divergence, seed=4)
    assert float(loss(DATA.double(), index=0).detach()) == pytest.approx(-float(nats.mean().detach()) / 2, rel=1e-12)


@pytest.mark.fast
def test_the_probes_of_sample_i_depend_on_seed_and_i_only():
    loss = pl.MaximumLikelihood(field(), divergence=pl.Hutchinson(3), seed=5)
    whole = loss.draw(DATA, 100).vectors
    assert torch.equal(loss.draw(DATA[6:], 106).vectors, whole[:, 6:])
    assert torch.equal(loss.draw(DATA[:3], torch.tensor([104, 105, 100])).vectors, whole[:, [4, 5, 0]])
    assert not torch.equal(pl.MaximumLikelihood(field(), divergence=pl.Hutchinson(3), seed=6).draw(DATA, 100)[1], whole)


@pytest.mark.fast
def test_labels_are_dropped_in_training_only():
    model = field(classes=3)
    loss = pl.MaximumLikelihood(model, steps=3, divergence=pl.Exact(), drop=0.5)
    null, own = (-pl.log_prob(model.given(y), DATA.double(), solver=pl.RK4, steps=3) / 2 for y in (None, Y))
    gone = loss.dropped(Y, 0, len(DATA))["class"] == 3
    assert 3 < int(gone.sum()) < 20
    even = float(
        loss.errors(loss.draw(DATA.double(), 0)._replace(shift=None), loss.dropped(Y, 0, len(DATA))).detach().mean()
    )
    assert even == pytest.approx(float(torch.where(gone, null, own).detach().mean()), rel=1e-12)
    assert float(loss.eval()(DATA.double(), Y, 0).detach()) == pytest.approx(float(own.detach().mean()), rel=1e-12)


@pytest.mark.fast
@ways
def test_dropout_does_nothing_there_and_back(way):
    model = field()
    still = gradients(pl.MaximumLikelihood(model, steps=4, gradient=way))
    model.network.blocks.append(nn.Dropout(0.5))
    model.network.blocks[-1].forward = lambda h, c, drop=model.network.blocks[-1]: nn.functional.dropout(
        h, 0.5, drop.training
    )
    loss = pl.MaximumLikelihood(model, steps=4, gradient=way).train()
    assert far(gradients(loss), still) < 1e-12
    assert all(part.training for part in loss.modules())


@pytest.mark.fast
@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: pl.MaximumLikelihood(field(), steps=0), "steps must be at least 1, got 0"),
        (lambda: pl.MaximumLikelihood(field(), drop=1.0), "drop must be a share"),
        (lambda: pl.MaximumLikelihood(pl.NetworkField(pl.MLP(2), pl.BridgePath(0.5))), "path must be a GaussianPath"),
        (
            lambda: pl.MaximumLikelihood(field(), pl.Dopri5(), gradient=pl.Adjoint()),
            r"fixed steps with Adjoint\(\), got Dopri5.*use Backpropagation\(\)",
        ),
        (
            lambda: pl.MaximumLikelihood(field(), pl.Tsit5(), gradient=pl.Recomputation()),
            r"fixed steps with Recomputation\(\), got Tsit5",
        ),
    ],
)
def test_what_does_not_fit_is_said(make, words):
    with pytest.raises(ValueError, match=words):
        make()


@pytest.mark.fast
def test_a_gradient_with_respect_to_time_is_left_to_backpropagation():
    loss = pl.MaximumLikelihood(field(), gradient=pl.Adjoint())
    loss.times = loss.times.requires_grad_()
    with pytest.raises(ValueError, match=r"times must not require a gradient with Adjoint\(\)"):
        loss(DATA.double())


@pytest.mark.fast
def test_each_sample_is_solved_on_its_own_grid_in_training():
    loss = pl.MaximumLikelihood(field(), steps=6)
    shift = loss.draw(DATA, 100).shift
    grids = shifted(loss.times, shift)
    assert torch.equal(grids[[0, -1]], loss.times[[0, -1], None].expand(-1, len(DATA)))
    assert torch.allclose(grids[1:-1].diff(dim=0), torch.tensor(-0.2, dtype=torch.float64))
    assert (grids.diff(dim=0) < 0).all() and grids.diff(dim=0).min() > -0.2 - 1e-12
    assert torch.equal(loss.draw(DATA[6:], 106).shift, shift[6:])
    assert len(set(shift.tolist())) == len(DATA) and loss.eval().draw(DATA, 100).shift is None
    for k in (0, 7):  # as a batch of one that walks its own grid
        model, x = field(), DATA[k : k + 1].double()
        none = x.new_empty(0, 1, 2)
        end, change = carry(model, x, grids[:, k], pl.RK4, pl.Exact(), none)
        exact = log_start(model, end, grids[-1, k]) + change[0]
        found = pl.MaximumLikelihood(model, steps=6, divergence=pl.Exact())
        point = found.draw(DATA.double(), 100)
        assert float(-2 * found.errors(point)[k].detach()) == pytest.approx(float(exact.detach()), rel=1e-12)


# ---- the gradients


@pytest.mark.fast
@pytest.mark.parametrize("prediction", [pl.VELOCITY, pl.DATA, pl.NOISE], ids=repr)
def test_recomputation_has_the_gradient_of_backpropagation(prediction):
    direct, again = (gradients(pl.MaximumLikelihood(field(prediction), steps=4, gradient=way)) for way in WAYS[:2])
    assert far(again, direct) < 1e-12  # ends that are singular are crossed outside


@pytest.mark.fast
@pytest.mark.parametrize(("solver", "order"), [(pl.MIDPOINT, 2), (pl.RK4, 3)], ids=repr)
def test_the_adjoint_comes_to_the_gradient_as_steps_get_short(solver, order):
    errors = [
        far(*(gradients(pl.MaximumLikelihood(field(), solver, steps, gradient=way)) for way in (WAYS[2], WAYS[0])))
        for steps in (5, 20)
    ]
    assert errors[1] < 1e-3
    assert math.log2(errors[0] / errors[1]) > order, errors  # at least by half that order: waves of time are quick


@pytest.mark.fast
@later
def test_parts_that_want_no_gradient_get_none(way):
    model = field()
    whole = gradients(pl.MaximumLikelihood(model, steps=4, gradient=way))
    for p in model.parameters():
        p.requires_grad_(False)
    x = DATA.double().requires_grad_()
    (of_x,) = torch.autograd.grad(pl.MaximumLikelihood(model, steps=4, gradient=way)(x, index=0), x)
    assert torch.equal(of_x, whole[0])
    model.network.last.bias.requires_grad_()
    loss = pl.MaximumLikelihood(model, steps=4, gradient=way)
    (of_bias,) = torch.autograd.grad(loss(DATA.double(), index=0), model.network.last.bias)
    names = ["x", *(name for name, _ in model.named_parameters())]
    assert torch.allclose(of_bias, whole[names.index("network.last.bias")], rtol=1e-12)


class Drift(pl.Field):
    """A velocity that does not depend on the point, nor on any parameter."""

    path, prediction = PATH, pl.VELOCITY

    def forward(self, x, t):
        return torch.ones_like(x)


@pytest.mark.fast
@ways
def test_a_field_without_slopes_or_parameters_moves_the_normal(way):
    x = DATA.double().requires_grad_()
    loss = pl.MaximumLikelihood(Drift(), steps=3, gradient=way)(x, index=0)
    assert float(loss.detach()) == pytest.approx(float(((x.detach() - 1) ** 2).mean() / 2 + math.log(2 * math.pi) / 2))
    assert torch.allclose(torch.autograd.grad(loss, x)[0], (x.detach() - 1) / x.numel(), rtol=1e-12)


@pytest.mark.fast
@later
def test_half_precision_finds_every_gradient(way):
    model = field(dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        found, direct = (
            gradients(pl.MaximumLikelihood(model, steps=4, divergence=pl.Exact(), gradient=g)) for g in (way, WAYS[0])
        )
    assert all(g is not None and g.dtype == torch.float32 for g in found)
    assert far(found, direct) < 0.1


class Held:
    """A tensor that waits for the way back."""

    def __init__(self, x):
        self.x = x


def kept(way, steps):
    """The numbers that wait for the way back, without the weights, each store of them once."""
    model, held = field(), weakref.WeakSet()

    def pack(x):
        held.add(one := Held(x))
        return one

    loss = pl.MaximumLikelihood(model, steps=steps, gradient=way)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda one: one.x):
        value = loss(DATA.double(), index=0)
        stores = {one.x.untyped_storage().data_ptr(): one.x.untyped_storage().nbytes() // 8 for one in held}
        value.backward()
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    return sum(size for store, size in stores.items() if store not in own)


@pytest.mark.fast
def test_memory_grows_with_steps_by_a_graph_by_a_state_or_not_at_all():
    few, many = ([kept(way, steps) for way in WAYS] for steps in (4, 8))
    state = DATA.numel()
    assert many[0] - few[0] > 4 * 100 * state
    assert many[1] - few[1] == 4 * state
    assert many[2] == few[2] < few[1]


# ---- training


@pytest.mark.fast
def test_each_gradient_trains_the_same():
    options = {"steps": 4, "batch_size": 8, "learning_rate": 1e-2}
    losses = []
    for way in WAYS:
        loss = pl.MaximumLikelihood(field(classes=3), steps=5, gradient=way, drop=0.3)
        losses.append(torch.stack([step.loss for step in pl.train(loss, DATA.double(), Y, **options)]))
    assert torch.allclose(losses[1], losses[0], rtol=1e-10)
    assert torch.allclose(losses[2], losses[0], rtol=1e-3)
    assert losses[0][-1] < losses[0][0]


def trained(start=0, steps=4, model=None, optimizer=None, **options):
    """A training with labels, from the start or going on."""
    loss = pl.MaximumLikelihood(model or field(classes=3), steps=3, drop=0.3)
    optimizer = optimizer or adamw(loss, 1e-2)
    found = pl.train(loss, DATA.double(), Y, steps=steps, start=start, batch_size=7, optimizer=optimizer, **options)
    return loss.field, optimizer, [float(step.loss) for step in found]


@pytest.mark.fast
def test_workers_pieces_and_going_on_change_nothing():
    whole, _, losses = trained()
    ahead, _, same = trained(workers=2)
    assert losses == same and all(map(torch.equal, whole.parameters(), ahead.parameters()))
    model, optimizer, first = trained(steps=2)
    model, _, rest = trained(2, 4, model, optimizer)
    assert first + rest == losses and all(map(torch.equal, whole.parameters(), model.parameters()))
    assert trained(accumulate=3)[2] == pytest.approx(losses, rel=1e-9)


@pytest.mark.fast
@pytest.mark.parametrize(("size", "pieces"), [(2, 1), (3, 2)])
def test_processes_look_together_at_what_one_would(size, pieces):
    loss = pl.MaximumLikelihood(field(classes=3), divergence=pl.Hutchinson(2), drop=0.3)

    def seen(size, pieces):
        found = []
        for step in range(4):
            for rank in range(size):
                batches = Batches(loss, DATA, {"class": Y}, 8, pieces, NONE, Group(rank, size), False)
                for piece in batches.make(step, batches.rows(Order(len(DATA), loss.noise), step)):
                    point, labels = piece.point, piece.y["class"]
                    found.append((point.data, point.vectors.transpose(0, 1), point.shift, labels))
        return [torch.cat(values) for values in zip(*found, strict=True)]

    assert all(map(torch.equal, seen(size, pieces), seen(1, 1)))


@pytest.mark.slow
def test_a_flow_comes_near_the_true_likelihood_of_a_mixture_and_its_loss_does_not_lie():
    mixture = pl.GaussianMixture.symmetric(components=5, radius=2.0, std=0.35)
    held = mixture.sample(1000, seed=1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = pl.NetworkField(pl.MLP(2, 64, 2), PATH)
    loss = pl.MaximumLikelihood(model, steps=8, divergence=pl.Exact())
    options = {"steps": 80, "batch_size": 256, "learning_rate": 1e-2, "lr_schedule": pl.warmup_cosine()}
    for _ in pl.train(loss, mixture.sample(20_000, seed=0), **options):
        pass
    with torch.no_grad():
        nats = -float(pl.log_prob(model, held, steps=40).mean())
        own = 2 * float(loss(held, index=0))
    true = -float(mixture.log_prob(held).mean())
    assert true - 0.02 < nats < true + 0.1  # 3.7 untrained
    assert abs(own - nats) < 0.05  # on a grid that is the same for all it was off by 1.7
