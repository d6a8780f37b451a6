"""Training a run: it goes on bit for bit, leaves out what is not finite, and is changed by nothing that looks at it."""

import json
import math
import os
import shutil
from dataclasses import replace
from itertools import combinations, pairwise, product
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import pathline as pl
from pathline.cli.train import Previews
from pathline.noise import Noise
from pathline.trainer import Trainer
from pathline.training import checkpoint
from pathline.training.augment import FlipAugmentation
from pathline.training.batches import Batches, Order
from pathline.training.loop import adamw, warmup_constant
from pathline.training.precision import kind_of

TENSORS = ("model.safetensors", "ema.safetensors", "optimizer.safetensors")
OF_THE_CLOCK = {"seconds", "samples_per_second", "memory_mb"}
SIZE, BATCH = 30, 8  # an epoch is 3.75 steps
FACTORS = {
    "workers": (0, 2),
    "accumulate": (1, 3),
    "ema": (0.0, 0.9),
    "precision": ("float32", "bfloat16"),
    "augmentation": ("none", "flip"),
    "drop": (0.0, 0.5),
}


def samples(shape=(2,), size=SIZE, stream=1):
    x = Noise(7, stream=stream).normal((size, *shape))
    return pl.Samples(x, torch.arange(size) % 2, ("a", "b"), pl.Normalisation(0.0, 1.0), "", "", "")


def trainer(folder, data=None, held_out=None, **settings):
    """A new run and what trains it: small, of points unless the data are pictures."""
    data = data or samples()
    network = "unet" if data.is_image else "mlp"
    small = {"width": 8, "depth": 1, "batch_size": BATCH, "workers": 0, "precision": "float32", "learning_rate": 0.01}
    often = {"log_every": 1, "evaluate_every": 4, "checkpoint_every": 1000}
    config = pl.Config(network=network, **small | often | settings)
    run = pl.Run.create(folder, config, data)
    return Trainer(run, data, held_out or samples(data.shape, 12, stream=2))


def trained(folder, data=None, held_out=None, until=math.inf, **settings):
    made = trainer(folder, data, held_out, **settings)
    made.begin()
    for _ in made.steps(lambda: made.step >= until):
        pass
    return made


def gone_on(made, folder, step):
    """The training of a copy of a run, gone on with from the checkpoint of a step, as if it was killed after it."""
    shutil.copytree(made.run.folder, folder)
    for later in checkpoint.steps_of(folder):
        if later > step:
            shutil.rmtree(checkpoint.folder_of(folder, later))
    run = pl.Run.open(folder)
    again = Trainer(run, samples(run.shape), samples(run.shape, 12, stream=2))
    assert again.restore(run.checkpoint()) == [] and again.step == step
    for _ in again.steps():
        pass
    return again


def weights(made, step):
    folder = checkpoint.folder_of(made.run.folder, step)
    return {name: (folder / name).read_bytes() for name in TENSORS}


def log(made):
    return [{k: v for k, v in line.items() if k not in OF_THE_CLOCK} for line in made.run.metrics()]


@pytest.fixture(autouse=True)
def own_random_state():
    with torch.random.fork_rng():
        yield


# ---- going on


def is_as_never_stopped(tmp_path, monkeypatch, cut, steps, **settings):
    """Compare the weights, moments, random states, metrics and samples seen after a step with those of one go."""
    seen, real = {}, Batches.rows

    def rows(self, order, step):
        found = real(self, order, step)
        seen.setdefault(step, []).append(found)
        return found

    monkeypatch.setattr(Batches, "rows", rows)
    torch.manual_seed(0)
    whole = trained(tmp_path / "whole", samples((1, 4, 4)), steps=steps, checkpoint_every=cut, keep=99, **settings)
    torch.manual_seed(1)
    again = gone_on(whole, tmp_path / "again", cut)
    assert weights(again, steps) == weights(whole, steps)
    assert log(again) == log(whole)
    for step in range(cut, steps):
        first, second = seen[step]
        assert torch.equal(first, second), step
    assert weights(whole, cut) != weights(whole, steps)


def covering():
    """Six settings in which each two factors take all four pairs of values: three-subsets of five all meet."""
    ones = list(combinations(range(5), 3))
    for row in range(-1, 5):
        yield {name: pair[row in ones[k]] for k, (name, pair) in enumerate(FACTORS.items())}


@pytest.mark.parametrize("settings", list(covering()), ids=lambda s: "-".join(map(str, s.values())))
def test_a_run_goes_on_as_if_it_had_never_stopped(tmp_path, monkeypatch, settings):
    is_as_never_stopped(tmp_path, monkeypatch, 5, 12, **settings)


@pytest.mark.slow
@pytest.mark.parametrize("values", list(product(*FACTORS.values())), ids=lambda v: "-".join(map(str, v)))
def test_a_run_goes_on_as_if_it_had_never_stopped_in_every_setting(tmp_path, monkeypatch, values):
    is_as_never_stopped(tmp_path, monkeypatch, 10, 60, **dict(zip(FACTORS, values, strict=True)))


@pytest.mark.fast
def test_a_run_goes_on_from_a_stop_at_any_step(tmp_path):
    whole = trained(tmp_path / "whole", steps=9)
    for stop in range(1, 9):
        part = trained(tmp_path / f"{stop}", steps=9, until=stop)
        assert part.step == stop and checkpoint.steps_of(part.run.folder) == [0, stop]
        again = gone_on(part, tmp_path / f"{stop}-again", stop)
        assert weights(again, 9) == weights(whole, 9) and log(again) == log(whole)


@pytest.mark.fast
@pytest.mark.parametrize("step", [4, 8])
def test_a_validation_that_was_broken_off_is_made_up_for(tmp_path, monkeypatch, step):
    whole = trained(tmp_path / "whole", steps=8)
    part, is_asked = trainer(tmp_path / "part", steps=8), []
    part.begin()
    real = part.validate

    def interrupted(*arguments):
        if part.step == step:
            is_asked.append(True)
        real(*arguments)

    monkeypatch.setattr(part, "validate", interrupted)
    for _ in part.steps(lambda: bool(is_asked)):
        pass
    assert part.step == step and "held_out_loss" not in log(part)[-1]
    again = gone_on(part, tmp_path / "again", step)
    assert log(again) == log(whole) and weights(again, 8) == weights(whole, 8)
    held = Trainer(part.run, samples(), samples(stream=2))
    held.restore(part.run.checkpoint())
    assert list(held.steps(lambda: True)) == [] and held.step == step  # asked again, before it is made up for


@pytest.mark.fast
def test_batches_made_ahead_are_the_same(tmp_path):
    found = [
        weights(trained(tmp_path / f"{n}", steps=7, workers=n, coupling="optimal-transport"), 7) for n in (0, 1, 2)
    ]
    assert found[0] == found[1] == found[2]


@pytest.mark.fast
def test_what_is_not_as_it_was_is_told(tmp_path):
    made = trained(tmp_path / "run", steps=2)
    found = made.run.checkpoint()
    assert made.restore(found) == []
    for name, value in (("threads", 77), ("torch", "1.0"), ("device", "abacus"), ("processes", 3), ("accumulate", 5)):
        changed = replace(found, state=found.state | {name: value})
        (note,) = made.restore(changed)
        assert note.startswith(f"{name} was {value} and is ") and "no longer bit for bit" in note
    held = {
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "device": kind_of(torch.device("cpu")),
        "processes": 1,
    }
    assert held.items() <= found.state.items()


# ---- checkpoints in time


@pytest.mark.fast
@pytest.mark.parametrize(("every", "steps"), [(1000, [4, 7, 10, 12]), (5, [4, 5, 8, 10, 12])])
def test_a_checkpoint_is_written_when_it_is_time(tmp_path, monkeypatch, every, steps):
    clock = SimpleNamespace(now=0.0)

    def monotonic():
        clock.now += 1e-6
        return clock.now

    monkeypatch.setattr("pathline.trainer.time", SimpleNamespace(monotonic=monotonic))
    made = trainer(tmp_path / "run", steps=12, checkpoint_every=every, checkpoint_seconds=25.0, keep=99)
    for _ in made.steps():
        clock.now += 10.0
    assert checkpoint.steps_of(made.run.folder) == steps  # the first more than 25 seconds after the one before


@pytest.mark.fast
def test_the_newest_checkpoints_are_kept_and_what_somebody_put_there(tmp_path):
    made = trainer(tmp_path / "run", steps=6, checkpoint_every=1, keep=2)
    made.begin()
    note = checkpoint.folder_of(made.run.folder, 0) / "note.txt"
    note.write_text("mine")
    counts = [len(checkpoint.steps_of(made.run.folder)) for _ in made.steps()]
    assert checkpoint.steps_of(made.run.folder) == [0, 5, 6] and counts == [2, 3, 3, 3, 3, 3]
    assert note.read_text() == "mine" and checkpoint.load(made.run.folder, 0).step == 0


@pytest.mark.fast
@pytest.mark.parametrize("keep", [1, 2])
def test_damaged_checkpoints_do_not_push_out_whole_ones(tmp_path, keep):
    made = trained(tmp_path / "run", steps=9, checkpoint_every=3, keep=9)
    for step in (6, 9):
        (checkpoint.folder_of(made.run.folder, step) / "state.json").write_bytes(b"{}")
    run = replace(made.run, config=replace(made.run.config, keep=keep, checkpoint_every=1))
    again = Trainer(run, samples(), samples(stream=2))
    with pytest.warns(UserWarning, match="damaged"):
        again.restore(run.checkpoint())
    for done in again.steps():
        assert checkpoint.load(run.folder, done.step).step == done.step
    assert checkpoint.steps_of(run.folder) == [9, 8][:keep][::-1]


# ---- looking


def test_nothing_that_looks_at_a_training_changes_it(tmp_path):
    bare = trained(tmp_path / "bare", steps=3, log_every=1000, evaluate_every=1000)
    has_board = True
    try:
        import tensorboard  # noqa: F401
    except ImportError:
        has_board = False
    settings = {"evaluate_every": 1, "checkpoint_every": 1, "preview_every": 1, "tensorboard": has_board}
    made = trainer(tmp_path / "watched", steps=3, **settings)
    with Previews(made) as previews:
        for done in made.steps():
            state = {name: value.clone() for name, value in made.loss.state_dict().items()}
            average = {name: value.clone() for name, value in made.ema.weights.items()}
            previews(done.step)
            made.validate()
            assert all(torch.equal(value, state[name]) for name, value in made.loss.state_dict().items())
            assert all(torch.equal(value, average[name]) for name, value in made.ema.weights.items())
            assert made.loss.training
    assert weights(made, 3) == weights(bare, 3)
    assert len(list(made.run.samples_folder.glob("preview-*.png"))) == 3


# ---- updates that are left out


def wild(*rows):
    """Samples of which some rows are so large that their squared errors overflow float32."""
    data = samples()
    data.x[list(rows)] = 1e30
    return data


BAD = Order(SIZE, Noise(0)).rows(2 * BATCH, BATCH + 1)[[0, -1]].tolist()  # samples of steps 3 and 4


def bad_steps(steps, *rows):
    """The steps, from 1, whose batch holds one of the rows."""
    order = Order(SIZE, Noise(0))
    return [k + 1 for k in range(steps) if {*order.rows(k * BATCH, BATCH).tolist()} & {*rows}]


@pytest.mark.fast
@pytest.mark.parametrize(
    "make",
    [
        lambda loss: adamw(loss, 0.01),
        lambda loss: torch.optim.AdamW(loss.parameters(), fused=False),
        lambda loss: torch.optim.SGD(loss.parameters(), lr=0.01, momentum=0.9),
    ],
    ids=["fused", "AdamW", "SGD"],
)
def test_an_update_that_is_not_finite_is_left_out_and_counted(make):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        field = pl.NetworkField(pl.MLP(2, 8, 1), pl.GaussianPath(pl.LinearSchedule()))
    loss = pl.MatchingLoss(field)
    optimizer, bad = make(loss), bad_steps(12, *BAD)
    assert 1 not in bad and 4 <= len(bad) <= 8 and any(b - a == 1 for a, b in pairwise(bad))

    def numbers():
        moments = [value.clone() for state in optimizer.state.values() for value in state.values()]
        return [*(p.detach().clone() for p in loss.parameters()), *moments]

    before, count, in_a_row = None, 0, 0
    for done in pl.train(loss, wild(*BAD).x, steps=12, batch_size=BATCH, optimizer=optimizer):
        after = numbers()
        count, in_a_row = count + (done.step in bad), (in_a_row + 1) * (done.step in bad)
        assert (int(done.skipped), int(done.skipped_in_a_row)) == (count, in_a_row)
        assert bool(done.gradient_norm.isfinite()) == (done.step not in bad)
        if before is not None:
            is_same = all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
            assert is_same == (done.step in bad), done.step
        before = after
    assert all(value.isfinite().all() for value in before)


@pytest.mark.fast
def test_updates_left_out_are_counted_in_the_run_and_on_after_a_stop(tmp_path):
    bad = bad_steps(12, *BAD)
    made = trained(tmp_path / "run", wild(*BAD), steps=12, checkpoint_every=1, keep=99)
    assert [line["skipped"] for line in log(made) if "loss" in line] == [sum(b <= k for b in bad) for k in range(1, 13)]
    assert [line["loss"] is None for line in log(made) if "loss" in line] == [k in bad for k in range(1, 13)]
    for step in (bad[0], bad[1], 12):
        state = json.loads((checkpoint.folder_of(made.run.folder, step) / "state.json").read_bytes())
        assert state["skipped"] == sum(b <= step for b in bad)
    again = Trainer(made.run, wild(*BAD), samples(stream=2))
    again.restore(made.run.checkpoint(bad[1]))
    for _ in again.steps():
        pass
    assert again.skipped == made.skipped == len(bad) and log(again) == log(made)


@pytest.mark.fast
@pytest.mark.parametrize("stop", [None, 4])
def test_training_stops_when_updates_are_left_out_in_a_row(tmp_path, stop):
    made = trainer(tmp_path / "run", wild(*range(SIZE)), steps=50, skips=6, log_every=50, checkpoint_every=2)
    made.begin()
    message = r"not finite in the last 6 steps up to step 6, .* checkpoints made before are kept"
    if stop:  # what was left out in a row before counts
        assert [done.step for done in made.steps(lambda: made.step >= stop)][-1] == stop
        made = Trainer(made.run, wild(*range(SIZE)), samples(stream=2))
        made.restore(made.run.checkpoint())
    with pytest.raises(ValueError, match=message):
        list(made.steps())
    found = made.run.checkpoint()
    assert all(value.isfinite().all() for value in (found.model | found.ema).values())


@pytest.mark.fast
def test_a_last_update_that_is_left_out_ends_a_resumed_run_as_one_in_one_go(tmp_path):
    row = int(Order(SIZE, Noise(0)).rows(4 * BATCH, 1))  # seen in step 5, and once in the epoch before it
    steps = bad_steps(12, row)[1]
    whole = trained(tmp_path / "run", wild(row), steps=steps, checkpoint_every=1, keep=99)
    again = Trainer(whole.run, wild(row), samples(stream=2))
    again.restore(whole.run.checkpoint(steps - 1))
    assert [done.step for done in again.steps()] == [steps] and again.skipped == whole.skipped == 2


# ---- the log


@pytest.mark.fast
def test_a_line_that_is_being_written_is_not_read_yet(tmp_path):
    made = trained(tmp_path / "run", steps=4)
    lines = made.run.metrics()
    with (made.run.folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 5, "lo')
    assert made.run.metrics() == lines and len(lines) == 5
    made.run.forget_after(3)
    assert [line["step"] for line in made.run.metrics()] == [1, 2, 3]
    assert (made.run.folder / "metrics.jsonl").read_text().endswith("}\n")


@pytest.mark.fast
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_told_with_the_file_that_did_not_fit(tmp_path):
    made = trainer(tmp_path / "run", steps=4)
    (made.run.folder / "metrics.jsonl").symlink_to("/dev/full")
    with pytest.raises(OSError, match=r"No space left on device: '.*metrics.jsonl'"):
        made.run.log(step=1)


# ---- batches


@pytest.mark.fast
def test_pieces_give_the_gradient_of_the_whole_batch():
    def new_loss():
        with torch.random.fork_rng():
            torch.manual_seed(0)
            field = pl.NetworkField(pl.MLP(2, 16, 2, classes=2), pl.GaussianPath(pl.LinearSchedule()))
        return pl.MatchingLoss(field, drop=0.3)

    def gradient_of(loss):
        return torch.cat([p.grad.flatten() for p in loss.parameters()])

    data, truth = samples(), new_loss()
    rows = Order(SIZE, Noise(0)).rows(2 * BATCH, BATCH)  # the third step, over the end of no epoch
    value = truth(data.x[rows], data.y["class"][rows], index=2 * BATCH)
    value.backward()
    for pieces in (1, 3, 8):
        loss = new_loss()
        frozen = torch.optim.SGD(loss.parameters(), lr=0.0)
        settings = {"steps": 3, "batch_size": BATCH, "optimizer": frozen, "clip": math.inf, "accumulate": pieces}
        *_, last = pl.train(loss, data.x, data.y, **settings)
        assert float((gradient_of(loss) - gradient_of(truth)).norm() / gradient_of(truth).norm()) < 1e-6
        assert float(last.loss) == pytest.approx(float(value.detach()), rel=1e-6)


@pytest.mark.fast
@pytest.mark.parametrize(("size", "stretch"), [(7, 3), (10, 10), (5, 13)])
def test_any_stretch_of_the_order_is_that_of_whole_epochs(size, stretch):
    order = Order(size, Noise(3))
    epochs = torch.cat([order.rows(k * size, size) for k in range(6)])
    assert all(sorted(epoch.tolist()) == list(range(size)) for epoch in epochs.split(size))
    assert len({tuple(epoch.tolist()) for epoch in epochs.split(size)}) > 4  # six of at least 120 orders
    for start in (0, 4, 2 * size - 1, 11):
        assert torch.equal(Order(size, Noise(3)).rows(start, stretch), epochs[start : start + stretch])


@pytest.mark.fast
def test_a_mirrored_image_is_one_of_two_and_depends_on_its_place_only():
    x = torch.arange(4000.0 * 6).reshape(4000, 1, 2, 3)
    assert torch.equal(FlipAugmentation(1.0)(x, Noise(1)), x[..., [2, 1, 0]])
    assert torch.equal(FlipAugmentation(0.0)(x, Noise(1)), x)
    found = FlipAugmentation(0.3)(x, Noise(1))
    flipped, same = ((found == truth).flatten(1).all(1) for truth in (x[..., [2, 1, 0]], x))
    assert (flipped ^ same).all()
    assert abs(float(flipped.float().mean()) - 0.3) < 5 * math.sqrt(0.3 * 0.7 / 4000)
    assert torch.equal(FlipAugmentation(0.3)(x[100:107], Noise(1).at(100)), found[100:107])
    with pytest.raises(ValueError, match="flip is for images"):
        FlipAugmentation()(torch.zeros(4, 3), Noise(1))


@pytest.mark.fast
def test_the_learning_rate_rises_and_stays():
    factor = warmup_constant(0.1)
    assert [factor(share) for share in (0.1, 0.5, 1.0)] == [1, 1, 1]
    rises = [factor(share) for share in (0.0, 0.025, 0.05, 0.075)]
    assert 0 < rises[0] < 0.02 and [b - a for a, b in pairwise(rises)] == pytest.approx([0.025 / 0.101] * 3)


# ---- memory


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_memory_stays_as_it_is_over_10_000_steps(tmp_path):
    def resident():
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    made = trainer(tmp_path / "run", steps=10_000, log_every=20, evaluate_every=1000, checkpoint_every=500, workers=1)
    found = {done.step: resident() for done in made.steps() if done.step in (1000, 10_000)}
    assert found[10_000] - found[1000] < 10e6
