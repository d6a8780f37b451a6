"""Several processes train as one would: what each looks at, asked in one process; then two that really talk."""

import os
import socket
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from unittest.mock import patch

import pytest
import torch

import pathline as pl
from pathline.noise import Noise
from pathline.training import checkpoint
from pathline.training.augment import NONE
from pathline.training.batches import Batches, Order
from pathline.training.distributed import ALONE, Group, Signals, joined, shard, whole
from pathline.training.loop import adamw
from pathline.training.validation import loss_by_time

DATA, Y = Noise(9).normal((23, 3)), torch.arange(23) % 3


def loss(coupling=None, dtype=torch.float32):
    """A conditional model whose weights do not split evenly, some of them not at all."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = pl.MLP(3, 5, 2, classes=3)
        torch.nn.init.normal_(network.last.weight, std=0.3)
    return pl.MatchingLoss(pl.NetworkField(network.to(dtype), pl.GaussianPath(pl.LinearSchedule())), coupling, drop=0.3)


# ---- what each process looks at


def looked_at(size, batch_size, pieces=1, coupling=None, steps=4):
    """What all processes look at, in the order of the samples: numbers of samples, then points and labels."""
    found, share = [], []
    for step in range(steps):
        for rank in range(size):
            batches = Batches(loss(coupling), DATA, {"class": Y}, batch_size, pieces, NONE, Group(rank, size), False)
            rows = batches.rows(Order(len(DATA), batches.loss.noise), step)
            made = batches.make(step, rows)
            assert len(made) == pieces
            points = [(piece.point, piece.y["class"]) for piece in made]
            found += [(point.data, point.noise, point.x, point.t, labels) for point, labels in points]
            share.append([piece.share for piece in made])
    return [torch.cat(values) for values in zip(*found, strict=True)], share


CASES = [(2, 8, 1), (2, 7, 1), (3, 8, 1), (3, 7, 2), (2, 7, 3), (3, 40, 1), (1, 9, 4)]


@pytest.mark.fast
@pytest.mark.parametrize(("size", "batch_size", "pieces"), CASES)
def test_processes_look_together_at_what_one_would(size, batch_size, pieces):
    together, share = looked_at(size, batch_size, pieces)
    alone, _ = looked_at(1, batch_size)
    for name, a, b in zip(("data", "noise", "points", "times", "labels"), together, alone, strict=True):
        assert torch.equal(a, b), name
    assert sum(map(sum, share)) / size == pytest.approx(4)  # the mean over processes is the mean over the batch


@pytest.mark.fast
@pytest.mark.parametrize("size", [1, 2, 3])
def test_no_stretch_of_noise_or_times_comes_twice(size):
    (_, noise, _, t, _), _ = looked_at(size, 7, steps=9)
    for numbers in (noise.flatten(), t):
        assert len(set(numbers.tolist())) == len(numbers)


@pytest.mark.fast
@pytest.mark.parametrize(("size", "batch_size", "pieces"), CASES)
def test_global_transport_pairs_as_one_process_would(size, batch_size, pieces):
    coupling = pl.OptimalTransportCoupling(is_global=True)
    together, _ = looked_at(size, batch_size, pieces, coupling)
    alone, _ = looked_at(1, batch_size, 1, coupling)
    assert all(torch.equal(a, b) for a, b in zip(together, alone, strict=True))


@pytest.mark.fast
def test_transport_that_is_not_global_pairs_the_stretch_of_each_process():
    coupling, batch_size, size = pl.OptimalTransportCoupling(False), 8, 2
    together, _ = looked_at(size, batch_size, 1, coupling, steps=1)
    plain, _ = looked_at(1, batch_size, 1, steps=1)
    data, noise = plain[0], plain[1]
    for begin, end in pairwise((0, 4, 8)):
        assert torch.equal(together[1][begin:end], coupling(noise[begin:end], data[begin:end]))
    assert not torch.equal(together[1], coupling(noise, data))  # else the parts would prove nothing


@pytest.mark.fast
@pytest.mark.parametrize("size", range(1, 6))
def test_parts_of_a_batch_meet_and_differ_by_one_at_most(size):
    for batch in range(size, 20):
        parts = [Group(rank, size).part(batch) for rank in range(size)]
        assert [k for part in parts for k in part] == list(range(batch))
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.fast
@pytest.mark.parametrize(("size", "batch_size", "pieces"), [(4, 3, 1), (2, 5, 3)])
def test_a_batch_too_small_to_share_out_is_refused(size, batch_size, pieces):
    with pytest.raises(ValueError, match=f"each of {size} processes .* {pieces} pieces .* got {batch_size}"):
        pl.train(loss(), DATA, Y, steps=1, batch_size=batch_size, accumulate=pieces, group=Group(0, size))


@pytest.mark.fast
def test_weights_are_not_shared_out_in_one_process():
    with (
        patch.dict(os.environ),
        pytest.raises(ValueError, match=r"this is one alone; start several with\s+torchrun"),
        joined(True),
    ):
        os.environ.pop("RANK", None)


# ---- two processes that really talk: this file is their program

PARTS = [(8, 1), (7, 1), (7, 2), (2, 1)]  # sizes of a batch, and in how many pieces
WILD = DATA.double()
WILD[Order(len(DATA), loss().noise).rows(7 + 5, 1)] = 1e200  # overflows; sample 6 of step 2 is the second process's


def sharing(group):
    """A loss, its weights shared out if they are to be."""
    made = loss(dtype=torch.float64)
    if group.is_sharded:
        shard(made.field.network)
    return made


def gradient(group, batch_size, pieces):
    """The gradient of the first step."""
    made = sharing(group)
    arguments = {"batch_size": batch_size, "accumulate": pieces, "clip": torch.inf, "group": group}
    next(pl.train(made, DATA.double(), Y, steps=1, **arguments))
    return {name: whole(p.grad) for name, p in made.field.named_parameters()}


def trained(group, steps=5, pieces=1, data=DATA, is_looked_at=False):
    """A training: what a checkpoint would hold of it, and the norms of its gradients."""
    made = sharing(group)
    ema, optimizer, norms, skipped = pl.EMA(made.field, 0.9), adamw(made, 1e-2), [], 0
    arguments = {"optimizer": optimizer, "ema": ema, "accumulate": pieces, "clip": 0.5, "group": group}
    for step in pl.train(made, data.double(), Y, steps=steps, batch_size=7, **arguments):
        norms.append(float(step.gradient_norm))
        skipped = int(step.skipped)
        if is_looked_at:
            with ema.applied():
                loss_by_time(made, DATA.double(), Y, bins=2)
    return made.field, ema, optimizer, norms, skipped


def numbers(field, ema, optimizer, *_):
    """Weights, averages and moments, whole."""
    held = checkpoint.contents(field, ema, optimizer)
    return {f"{file} {name}": x for file, part in held.items() for name, x in part.items() if "rng." not in name}


def everywhere(group):
    """What is asked of one process, of DDP and of FSDP2 alike."""
    plain, wild = trained(group), trained(group, steps=3, data=WILD)
    return {
        **{f"gradient {case}": gradient(group, *case) for case in PARTS},
        "plain": numbers(*plain),
        "in pieces": numbers(*trained(group, pieces=2)),
        "looked at": numbers(*trained(group, is_looked_at=True)),
        "wild": numbers(*wild),
        "norms": plain[3],
        "skipped": wild[4],
    }


def of_ddp(group):
    """What is asked of a group as such."""
    signals = Signals(group)
    wishes = [[group.is_first and step == 1, not group.is_first and step == 3] for step in range(6)]
    found = {
        "mean": float(group.mean(torch.tensor(group.rank + 1.0))),
        "of first": group.of_first(group.rank + 7),
        "signals": [signals.exchange(wish) for wish in wishes],
        "in turn": group.in_turn(lambda: sorted(path.name for path in Path.cwd().glob("made.*")) or leave("made.0")),
    }
    signals.close()
    states = checkpoint.random_states()
    found["drawn"] = torch.rand(4)
    checkpoint.put_back_random_states(states)
    return found | {"drawn again": torch.rand(4)}


def leave(name):
    Path(name).touch()
    return []


def of_fsdp(group):
    """What is asked of weights that are shared out."""
    field, ema, optimizer, *_ = trained(group, steps=3)
    own = [p.to_local().clone() for p in field.parameters()]
    with ema.applied():
        average = {f"ema {name}": whole(p) for name, p in field.named_parameters()}
    found = {
        "average": average,
        "came back": all(torch.equal(a, p.to_local()) for a, p in zip(own, field.parameters(), strict=True)),
        "held here": sum(x.numel() for x in own),
        "before": numbers(field, ema, optimizer),
    }
    held = checkpoint.contents(field, ema, optimizer)
    if group.is_first:
        checkpoint.write(Path("run"), 3, held, {}, {"ema_updates": ema.updates})
    group.wait()
    other = trained(group, steps=1)
    checkpoint.restore(checkpoint.load(Path("run"), 3), *other[:3])
    return found | {"restored": numbers(*other)}


def program():
    """What each of the two does: all of it with DDP, then with FSDP2."""
    torch.set_num_threads(1)
    with joined() as group:
        shared = Group(group.rank, group.size, is_sharded=True)
        found = {"ddp": everywhere(group) | of_ddp(group), "fsdp": everywhere(shared) | of_fsdp(shared)}
        torch.save(found, f"found.{group.rank}")


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """What each of two processes found."""
    folder = tmp_path_factory.mktemp("two")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    about = os.environ | {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    started = [
        subprocess.Popen(
            [sys.executable, __file__], cwd=folder, env=about | {"RANK": str(rank)}, stderr=subprocess.PIPE, text=True
        )
        for rank in range(2)
    ]
    try:
        told = [process.communicate(timeout=900)[1] for process in started]
    finally:
        for process in started:
            process.kill()
    assert told == ["", ""]  # no warnings either
    return [torch.load(folder / f"found.{rank}", weights_only=True) for rank in range(2)]


@pytest.fixture(scope="module")
def alone():
    """What one process finds."""
    return everywhere(ALONE)


def far(a, b):
    """The largest difference of numbers by name, over the largest number of that name."""
    assert a.keys() == b.keys()
    assert all(a[name].shape == b[name].shape for name in a)
    return max(float((a[name] - b[name]).abs().max() / b[name].abs().max().clamp(min=1e-12)) for name in a)


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


both_ways = pytest.mark.parametrize("way", ["ddp", "fsdp"])


@both_ways
@pytest.mark.parametrize("case", PARTS, ids=str)
def test_the_gradient_of_two_parts_is_that_of_the_batch(two, alone, way, case):
    for found in two:
        assert far(found[way][f"gradient {case}"], alone[f"gradient {case}"]) < 1e-12  # in float64


@both_ways
@pytest.mark.parametrize("what", ["plain", "in pieces"])
def test_two_processes_come_to_the_weights_averages_and_moments_of_one(two, alone, way, what):
    assert same(two[0][way][what], two[1][way][what])
    assert far(two[0][way][what], alone["plain"]) < 1e-10  # AdamW divides by gradients that are small at first


@both_ways
def test_a_gradient_is_clipped_by_its_norm_over_all_processes(two, alone, way):
    assert max(alone["norms"]) > 0.5  # else nothing was clipped
    for found in two:
        assert found[way]["norms"] == pytest.approx(alone["norms"], rel=1e-12)


@both_ways
def test_a_gradient_that_is_not_finite_in_one_process_is_left_out_by_both(two, alone, way):
    assert [found[way]["skipped"] for found in (*two, {way: alone})] == [1, 1, 1]
    assert same(two[0][way]["wild"], two[1][way]["wild"])
    assert all(x.isfinite().all() for x in two[0][way]["wild"].values())
    assert far(two[0][way]["wild"], alone["wild"]) < 1e-10


@both_ways
def test_a_look_at_the_average_does_not_disturb_training(two, way):
    assert same(two[0][way]["looked at"], two[0][way]["plain"])


def test_a_mean_is_over_processes_and_the_first_ones_number_is_known_to_all(two):
    assert [(found["ddp"]["mean"], found["ddp"]["of first"]) for found in two] == [(1.5, 7), (1.5, 7)]


def test_what_one_process_wishes_both_know_one_step_later(two):
    nothing, first, second = [False, False], [True, False], [False, True]
    assert [found["ddp"]["signals"] for found in two] == [[nothing, nothing, first, nothing, second, nothing]] * 2


def test_the_second_process_finds_what_the_first_left(two):
    assert [found["ddp"]["in turn"] for found in two] == [[], ["made.0"]]


def test_each_process_has_random_numbers_of_its_own_and_gets_its_state_back(two):
    assert all(torch.equal(found["ddp"]["drawn"], found["ddp"]["drawn again"]) for found in two)
    assert not torch.equal(two[0]["ddp"]["drawn"], two[1]["ddp"]["drawn"])


def test_weights_that_are_shared_out_are_held_once(two):
    total = sum(p.numel() for p in loss().parameters())
    held = [found["fsdp"]["held here"] for found in two]
    assert sum(held) == total and min(held) > total // 3


def test_the_average_is_in_place_for_a_while_where_weights_are_shared_out(two):
    before = {name: x for name, x in two[0]["fsdp"]["before"].items() if name.startswith("ema ")}
    assert same(two[0]["fsdp"]["average"], before) and all(found["fsdp"]["came back"] for found in two)


def test_shared_weights_come_back_from_a_checkpoint(two):
    assert all(same(found["fsdp"]["restored"], found["fsdp"]["before"]) for found in two)


if __name__ == "__main__":
    program()
