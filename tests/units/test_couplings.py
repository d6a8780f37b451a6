"""Couplings: a permutation of the noise, the cheapest there is, within classes where there are any."""

import itertools

import pytest
import torch

import pathline as pl
from pathline.noise import Noise

pytestmark = pytest.mark.fast

OT = pl.OptimalTransportCoupling


def batch(count=12, shape=(2,), seed=0, dtype=torch.float64):
    return Noise(seed).normal((count, *shape), dtype=dtype), 1 + Noise(seed + 1).normal((count, *shape), dtype=dtype)


def order_of(moved, noise):
    """Which noise stands in each place, as every one is found exactly once."""
    same = (moved[:, None] == noise[None]).flatten(2).all(2)
    assert (same.sum(0) == 1).all() and (same.sum(1) == 1).all()
    return same.long().argmax(1)


def least(noise, data):
    """The cost of the cheapest of all permutations, one by one."""
    return min(float(pl.transport_cost(noise[list(p)], data)) for p in itertools.permutations(range(len(noise))))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("shape", [(1,), (6,), (1, 2, 3)], ids=str)
def test_transport_is_the_cheapest_of_all_permutations(shape, seed):
    noise, data = batch(6, shape, 10 * seed)
    moved = OT()(noise, data)
    order_of(moved, noise)
    assert float(pl.transport_cost(moved, data)) == pytest.approx(least(noise, data), rel=1e-12)


def test_a_pairing_that_is_known_is_found():
    noise = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    data = torch.tensor([[9.0, 1.0], [1.0, 9.0], [1.0, 1.0]])
    assert OT()(noise, data).tolist() == [[10.0, 0.0], [0.0, 10.0], [0.0, 0.0]]


@pytest.mark.parametrize("labels", [[0] * 12, [0, 1, 2] * 4, [5] + [-2] * 11, list(range(12))], ids=str)
def test_within_classes_noise_stays_in_its_class_and_is_the_cheapest_there(labels):
    noise, data = batch()
    y = torch.tensor(labels)
    moved = OT()(noise, data, y)
    assert torch.equal(y[order_of(moved, noise)], y)
    for label in y.unique():
        mine = y == label
        assert torch.equal(moved[mine], OT()(noise[mine], data[mine]))


def test_across_classes_labels_are_not_looked_at():
    noise, data = batch()
    assert torch.equal(OT(False)(noise, data, torch.arange(12)), OT()(noise, data))
    assert torch.equal(OT(False)(noise, data, torch.zeros(12, 3)), OT()(noise, data))  # a text's vector, say
    assert torch.equal(OT()(noise, data, torch.arange(12)), noise)  # one of each class: nothing to choose


@pytest.mark.parametrize("is_within", [True, False])
def test_the_order_of_a_batch_does_not_matter(is_within):
    noise, data = batch()
    y = torch.arange(12) % 3
    moved = OT(is_within)(noise, data, y)
    shuffled = Noise(3).permutation(12)
    # data in another order takes its noise along, as long as each class holds the noise it held
    assert torch.equal(OT(is_within)(noise[shuffled], data[shuffled], y[shuffled]), moved[shuffled])
    if not is_within:
        assert torch.equal(OT(False)(noise[shuffled], data, y), moved)
    else:
        within = torch.arange(12).reshape(4, 3).flip(0).reshape(-1)  # every class, backwards
        assert torch.equal(OT()(noise[within], data, y), moved)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_smaller_types_pair_as_float64_does_and_keep_their_bits(dtype):
    noise, data = batch(64, (3,), dtype=dtype)
    moved = OT()(noise, data)
    assert moved.dtype == dtype
    wide = float(pl.transport_cost(OT()(noise.double(), data.double()), data.double()))
    order_of(moved, noise)
    assert float(pl.transport_cost(moved, data)) == pytest.approx(wide, rel=1e-2 if dtype == torch.bfloat16 else 1e-6)


def test_a_shift_of_all_data_changes_nothing():
    noise, data = batch()
    assert torch.equal(OT()(noise, data + 7), OT()(noise, data))


def test_the_generator_of_torch_is_left_alone_and_the_answer_is_one():
    noise, data = batch(40)
    y = torch.arange(40) % 4
    state = torch.get_rng_state()
    first = OT()(noise, data, y)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(OT()(noise, data, y), first)


def test_noise_and_data_are_not_changed_and_gradients_reach_the_noise():
    noise, data = batch(6)
    before = noise.clone(), data.clone()
    free = noise.clone().requires_grad_()
    moved = OT()(free, data.clone().requires_grad_())
    (gradient,) = torch.autograd.grad((moved * data).sum(), free)
    assert torch.equal(gradient[order_of(moved.detach(), noise)], data)
    assert torch.equal(noise, before[0]) and torch.equal(data, before[1])


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (torch.zeros(12), "y must be a class index for each of 12 points, got torch.float32"),
        (torch.zeros(11).long(), r"for each of 12 points, got torch.int64 of shape \(11,\)"),
        (torch.zeros(12, 3).long(), r"of shape \(12, 3\)"),
        ((torch.zeros(12).long(), torch.zeros(12)), "got tuple"),
        ({"text": torch.zeros(12, 3)}, "got dict.*is_within_classes=False"),
    ],
    ids=["floats", "too few", "several each", "tuple", "dictionary"],
)
def test_labels_that_are_no_classes_are_refused(y, message):
    with pytest.raises(ValueError, match=message):
        OT()(*batch(), y)


def test_noise_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"noise must have the shape of data, \(12, 2\), got \(11, 2\)"):
        OT()(batch()[0][:11], batch()[1])
    with pytest.raises(ValueError, match=r"noise must have the shape of data, \(2, 3\), got \(2, 2\)"):
        pl.transport_cost(torch.zeros(2, 2), torch.zeros(2, 3))


# ---- in the loss


class Still(pl.Field):
    def __init__(self, path=None):
        super().__init__()
        self.path, self.prediction = path or pl.GaussianPath(pl.LinearSchedule()), pl.VELOCITY

    def forward(self, x, t):
        return torch.zeros_like(x)

    def given(self, y):
        return self


def test_the_loss_tells_the_coupling_its_labels():
    data, y = batch(30)[1], torch.arange(30) % 3
    loss, plain = pl.MatchingLoss(Still(), OT(), seed=4), pl.MatchingLoss(Still(), seed=4)
    noise = plain.draw(data, 7).noise
    assert torch.equal(loss.draw(data, 7, y).noise, OT()(noise, data, y))
    assert torch.equal(loss.draw(data, 7).noise, OT()(noise, data))
    assert torch.equal(loss.draw(data, 7, y).data, data)
    assert not torch.equal(OT()(noise, data, y), OT()(noise, data))

    def cost(loss, y=None):  # the target's mean square: what the loss of a field that says nothing is
        return float(loss(data, y, 7))

    assert cost(loss) < cost(loss, y) < cost(plain)


def test_the_held_out_loss_tells_the_coupling_its_labels_too():
    data, y = batch(30)[1], torch.arange(30) % 3
    loss = pl.MatchingLoss(Still(), OT())
    alone = torch.arange(30)
    plain = pl.MatchingLoss(Still())
    assert torch.equal(pl.loss_by_time(loss, data, alone), pl.loss_by_time(plain, data))  # one of each class
    assert (pl.loss_by_time(loss, data, y) < pl.loss_by_time(plain, data)).all()


def test_a_source_of_samples_is_coupled_as_noise_is():
    data = batch(20)[1]
    source = -3 + Noise(9).normal((50, 2), dtype=torch.float64)
    coupled = pl.MatchingLoss(Still(pl.BridgePath()), OT(), source=source).draw(data, 0)
    plain = pl.MatchingLoss(Still(pl.BridgePath()), source=source).draw(data, 0)
    assert torch.equal(coupled.noise, OT()(plain.noise, data))
    assert torch.equal(coupled.x, (1 - coupled.t[:, None]) * coupled.noise + coupled.t[:, None] * data)


def test_an_offset_costs_no_digits_and_nan_is_named():
    noise, data = pl.Noise(1).normal((64, 2)), pl.Noise(2).normal((64, 2))
    coupling = pl.OptimalTransportCoupling()
    assert torch.equal(coupling(noise, data), coupling(noise, (data + 4096).double() - 0.0))
    with pytest.raises(ValueError, match="noise and data must be finite"):
        coupling(noise, data * torch.nan)
