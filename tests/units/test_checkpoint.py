"""Checkpoints: going on is as never having stopped, and nothing damaged is ever read."""

import io
import json
import os
import shutil
from contextlib import suppress
from pathlib import Path

import pytest
import torch

import pathline as pl
from pathline.noise import Noise
from pathline.training import checkpoint
from pathline.training.loop import adamw

pytestmark = pytest.mark.fast

FILES = ("model.safetensors", "ema.safetensors", "optimizer.safetensors", "state.json", "manifest.json")
DATA = Noise(9).normal((10, 2))


def kit(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        field = pl.NetworkField(pl.MLP(2, 4, 1, classes=2), pl.GaussianPath(pl.LinearSchedule()))
    loss = pl.MatchingLoss(field, drop=0.2)
    return loss, pl.EMA(field, 0.9), adamw(loss, 1e-2)


def train(parts, start=0, stop=12):
    loss, ema, optimizer = parts
    steps = pl.train(
        loss, DATA, torch.arange(10) % 2, steps=12, batch_size=4, optimizer=optimizer, ema=ema, start=start,
        lr_schedule=pl.warmup_cosine(),
    )  # fmt: skip
    for done in steps:
        if done.step == stop:
            break
    return parts


def numbers(parts):
    loss, ema, optimizer = parts
    moments = {
        f"{name}.{key}": value
        for name, p in loss.named_parameters()
        for key, value in optimizer.state.get(p, {}).items()
    }
    return {**loss.state_dict(), **{f"ema.{k}": v for k, v in ema.weights.items()}, **moments}


def save(run, step, parts):
    loss, ema, optimizer = parts
    return checkpoint.save(run, step, loss.field, ema, optimizer)


def restore(run, step, parts):
    loss, ema, optimizer = parts
    checkpoint.restore(checkpoint.load(run, step), loss.field, ema, optimizer)
    return parts


@pytest.mark.parametrize("stop", [1, 5, 7, 11])  # an epoch is two and a half steps
def test_going_on_from_a_checkpoint_is_as_never_having_stopped(tmp_path, stop):
    whole = train(kit())
    save(tmp_path, stop, train(kit(), stop=stop))
    again = train(restore(tmp_path, stop, kit(seed=1)), start=stop)
    truth, found = numbers(whole), numbers(again)
    assert found.keys() == truth.keys()
    assert all(torch.equal(found[name], truth[name]) for name in truth)
    assert again[1].updates == whole[1].updates == 12


def test_a_checkpoint_holds_what_was_written(tmp_path):
    parts = train(kit(), stop=3)
    folder = save(tmp_path, 3, parts)
    assert folder == tmp_path / "checkpoints" / "step-00000003"
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
    found = checkpoint.load(tmp_path, 3)
    assert all(torch.equal(found.model[k], v) for k, v in parts[0].field.state_dict().items())
    assert all(torch.equal(found.ema[k], v) for k, v in parts[1].weights.items())
    assert found.step == found.state["step"] == 3
    assert any("rng" in name for name in found.optimizer)


def test_the_random_state_comes_back(tmp_path):
    with torch.random.fork_rng():
        torch.manual_seed(4)
        parts = kit()
        save(tmp_path, 0, parts)
        expected = torch.rand(3)
        torch.manual_seed(5)
        restore(tmp_path, 0, parts)
        assert torch.equal(torch.rand(3), expected)


def test_steps_are_listed_in_order_and_nothing_else(tmp_path):
    for step in (20, 3, 100):
        save(tmp_path, step, kit())
    (tmp_path / "checkpoints" / ".step-00000007.1").mkdir()
    assert checkpoint.steps_of(tmp_path) == [3, 20, 100]
    assert checkpoint.steps_of(tmp_path / "nowhere") == []


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    run = tmp_path_factory.mktemp("run")
    save(run, 2, train(kit(), stop=2))
    return run


@pytest.fixture
def run(written, tmp_path):
    shutil.copytree(written, tmp_path / "run")
    return tmp_path / "run"


def refused(run, name):
    with pytest.raises(ValueError) as error:
        checkpoint.load(run, 2)
    assert name in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("name", FILES[:4])
@pytest.mark.parametrize("mask", [0x01, 0x20, 0xFF])
def test_a_flipped_byte_is_found_wherever_it_is(run, name, mask):
    path = run / "checkpoints" / "step-00000002" / name
    whole = path.read_bytes()
    for place in sorted({*range(0, len(whole), max(1, len(whole) // 60)), 7, 8, len(whole) - 1}):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ mask]) + whole[place + 1 :])
        assert "damaged" in refused(run, f"step-00000002/{name}")


@pytest.mark.parametrize("mask", [0x01, 0x20, 0xFF])
def test_a_flipped_byte_of_the_manifest_is_found_wherever_it_is(run, mask):
    path = run / "checkpoints" / "step-00000002" / "manifest.json"
    whole = path.read_bytes()
    missed = []
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ mask]) + whole[place + 1 :])
        try:
            checkpoint.load(run, 2)
        except ValueError as error:
            assert "step-00000002" in str(error)  # a hash that is wrong may be the file's fault
        else:
            missed.append(place)
    assert [whole[max(0, place - 8) : place + 8] for place in missed[:3]] == []


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named_with_the_way_out(run, name):
    (run / "checkpoints" / "step-00000002" / name).unlink()
    message = refused(run, f"step-00000002/{name}")
    assert "missing" in message and "remove" in message


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("share", [0, 0.5, 0.999])
def test_a_truncated_file_is_named(run, name, share):
    path = run / "checkpoints" / "step-00000002" / name
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    assert "damaged" in refused(run, f"step-00000002/{name}")


@pytest.mark.parametrize("name", FILES[:4])
def test_a_manifest_that_lacks_a_file_is_named(run, name):
    path = run / "checkpoints" / "step-00000002" / "manifest.json"
    manifest = json.loads(path.read_bytes())
    del manifest["files"][name]
    path.write_text(json.dumps(manifest, indent=1))
    refused(run, "manifest.json")


def test_a_damaged_checkpoint_names_the_one_to_go_on_from(run):
    save(run, 1, kit())
    (run / "checkpoints" / "step-00000002" / "model.safetensors").write_bytes(b"")
    assert "to use step 1" in refused(run, "model.safetensors")


def tree(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
        if path.name != "checkpoints"
    }


class Dead(BaseException):
    """The process is killed: no call of it is ever made again."""


class Disk:
    """A disk that fails at one call, from one on, or whose user is killed there; tests/torture does so in earnest."""

    CALLS = ("mkdir", "fsync", "rename", "unlink", "rmdir")

    def __init__(self, patch, failing, error, is_for_good):
        self.count, self.failing, self.error, self.is_for_good = 0, failing, error, is_for_good
        for name in self.CALLS:
            patch.setattr(os, name, self.made(getattr(os, name)))
        real = Path.open
        patch.setattr(
            Path, "open", lambda path, mode="r", **more: self.opened(path) if mode == "wb" else real(path, mode, **more)
        )

    def made(self, real):
        def call(*arguments, **keywords):
            self.tick()
            return real(*arguments, **keywords)

        return call

    def tick(self):
        self.count += 1
        if self.count == self.failing or (self.is_for_good and self.count > self.failing > 0):
            raise self.error

    def opened(self, path):
        disk = self

        class File(io.FileIO):
            def write(self, data):
                super().write(data[: len(data) // 2])
                disk.tick()
                return super().write(data[len(data) // 2 :])

        return File(path, "w")


def full():
    return OSError(28, "No space left on device")


@pytest.mark.parametrize("step", [2, 3, 4], ids=["the same step", "a damaged step", "a new step"])
@pytest.mark.parametrize(
    ("error", "is_for_good"), [(full(), False), (full(), True), (Dead(), True)], ids=["once", "for good", "killed"]
)
def test_a_save_that_fails_anywhere_leaves_all_old_or_all_new(written, tmp_path, error, is_for_good, step):
    other, begun = kit(seed=1), tmp_path / "begun"
    shutil.copytree(written, begun)
    save(begun, 1, kit(seed=2))
    save(begun, 3, kit(seed=3))
    (checkpoint.folder_of(begun, 3) / "state.json").write_bytes(b"")

    def saved(run, failing):
        shutil.copytree(begun, run)
        before = tree(run)
        with pytest.MonkeyPatch.context() as patch:
            disk = Disk(patch, failing, error, is_for_good)
            try:
                save(run, step, other)
                checkpoint.prune(run, 2, step)
                return disk.count, before, None
            except (OSError, Dead) as found:
                return disk.count, before, found

    calls, _, found = saved(tmp_path / "0", 0)
    assert found is None and calls >= 14
    new = {name: (checkpoint.folder_of(tmp_path / "0", step) / name).read_bytes() for name in FILES[:4]}
    for failing in range(1, calls + 1):
        run = tmp_path / str(failing)
        _, before, found = saved(run, failing)
        whole = {}
        for other_step in checkpoint.steps_of(run):
            with suppress(ValueError):
                checkpoint.load(run, other_step)
                folder = checkpoint.folder_of(run, other_step)
                whole[other_step] = {name: (folder / name).read_bytes() for name in FILES[:4]}
        old = {name: before[f"checkpoints/step-00000002/{name}"] for name in FILES[:4]}
        if step == 2:  # two renames are not one: a kill between them leaves the checkpoint before
            assert whole.get(2, old) in (old, new) and whole
        else:
            assert whole.get(step, new) == new and whole.get(2, old) == old
            assert max(whole) >= 2
        if found is not None and "cannot write" in str(found) and not is_for_good and whole.get(step) != new:
            assert tree(run) == before
        save(run, 5, kit())  # what is left is in nobody's way
        assert checkpoint.load(run, 5) and not list((run / "checkpoints").glob(".*"))


def test_what_somebody_put_into_a_damaged_checkpoint_stays(run):
    folder = checkpoint.folder_of(run, 2)
    (folder / "note.txt").write_text("mine")
    (folder / "model.safetensors").write_bytes(b"")
    save(run, 2, kit())
    assert checkpoint.load(run, 2).step == 2 and (folder / "note.txt").read_text() == "mine"


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_cannot_be_read_is_as_a_damaged_one(run, monkeypatch, name):
    save(run, 1, kit())
    bad, real = checkpoint.folder_of(run, 2) / name, Path.read_bytes

    def read_bytes(path):
        if path == bad:
            raise OSError(5, "Input/output error", str(path))
        return real(path)

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    assert "cannot be read: Input/output error" in refused(run, name)
    with pytest.warns(UserWarning, match="cannot be read: .*; an earlier checkpoint is used instead"):
        assert checkpoint.newest(run).step == 1


def test_the_oldest_are_removed_and_damaged_later_ones_count_for_nothing(tmp_path):
    for step in (1, 2, 3, 7):
        save(tmp_path, step, kit())
    (checkpoint.folder_of(tmp_path, 7) / "state.json").write_bytes(b"")
    checkpoint.prune(tmp_path, 1, 3)
    assert checkpoint.steps_of(tmp_path) == [3, 7] and checkpoint.load(tmp_path, 3).step == 3
    checkpoint.prune(tmp_path, 5, 3)
    assert checkpoint.steps_of(tmp_path) == [3, 7]


def test_every_file_and_the_folder_reach_the_disk(tmp_path, monkeypatch):
    synced, real = [], os.fsync

    def fsync(descriptor):
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    save(tmp_path, 0, kit())
    assert set(FILES) | {"checkpoints"} <= set(synced)


def test_what_a_killed_save_left_is_in_nobodys_way(tmp_path):
    # in a container the same process number comes again
    left = tmp_path / "checkpoints" / f".step-00000004.{os.getpid()}"
    left.mkdir(parents=True)
    (left / "model.safetensors").write_bytes(b"half")
    save(tmp_path, 4, kit())
    assert checkpoint.load(tmp_path, 4).step == 4
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000004"]


def test_a_step_saved_again_is_replaced(run):
    parts = train(kit(), stop=5)
    save(run, 2, parts)
    assert all(torch.equal(checkpoint.load(run, 2).model[k], v) for k, v in parts[0].field.state_dict().items())


def test_steps_beyond_eight_digits_are_seen(tmp_path):
    for step in (99_999_999, 100_000_000):
        save(tmp_path, step, kit())
    assert checkpoint.steps_of(tmp_path) == [99_999_999, 100_000_000]
    assert checkpoint.newest(tmp_path).step == 100_000_000
