"""The cache: what is read once is the same ever after, and what is damaged, cut short or out of date is never used."""

import os
import resource
import signal
import stat
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

import pathline as pl
from pathline.data import cache, mapped
from pathline.data.cache import About, Block, CachedSource
from pathline.data.mapped import Mapped
from pathline.data.rows import BLOCK, Rows, blocks_of

pytestmark = pytest.mark.fast

TABLE = "a,b,kind\n1,2,y\n3,4,x\n5,6,y\n"


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty cache."""
    monkeypatch.setenv("PATHLINE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def table(tmp_path, place):
    path = tmp_path / "my.csv"
    path.write_text(TABLE)
    return path


def load(path, label="kind"):
    return pl.FileSource(str(path), label).load()


def same(one, other):
    assert torch.equal(one.x[:], other.x[:]) and list(one.conditions) == list(other.conditions)
    assert all(torch.equal(y, other.conditions[kind]) for kind, y in one.conditions.items())
    assert replace(one, x=None, y=None) == replace(other, x=None, y=None)


@dataclass(frozen=True)
class Made(CachedSource):
    """Blocks that a test makes."""

    make: Callable[[], object]

    def identity(self):
        return {"files": "made"}

    def read(self):
        yield Block(np.zeros((3, 2)))
        self.make()
        yield About("made")


ROWS = [("two b", "b"), ("", "a"), ("two b", "b"), ("an a", "a"), ("", "b"), ("an a", "b")]


@dataclass(frozen=True)
class Described(CachedSource):
    """Six samples in blocks of two, with conditions of these kinds: b is met before a."""

    kinds: tuple[str, ...] = ("class", "numbers", "text")
    but: str = "an a"

    def identity(self):
        return {"kinds": self.kinds, "but": self.but}

    def read(self):
        met = list(dict.fromkeys(text for text, _ in ROWS))
        for k in (0, 2, 4):
            y = {
                "text": np.array([met.index(text) for text, _ in ROWS[k : k + 2]]),
                "numbers": np.array([[k, -k], [k + 1, -k - 1]], "float64"),
                "class": np.array(["ba".index(kind) for _, kind in ROWS[k : k + 2]], "int32"),
            }
            yield Block(np.array([[k], [k + 1.0]]), {kind: y[kind] for kind in y if kind in self.kinds})
        yield About(
            "described",
            classes=("a", "b") if "class" in self.kinds else (),
            relabel=(1, 0) if "class" in self.kinds else (),
            numbers=("up", "down") if "numbers" in self.kinds else (),
            captions=tuple(self.but if text == "an a" else text for text in met) if "text" in self.kinds else (),
        )


def refuse():
    raise AssertionError("it is read again")


def test_a_second_start_reads_nothing(table, monkeypatch):
    first = load(table)
    monkeypatch.setattr(pl.FileSource, "read", lambda self: refuse())
    same(load(table), first)
    assert first.digest == replace(first, fingerprint="").digest


def test_a_touched_file_has_the_same_digest_and_a_changed_one_another(table, place):
    first = load(table)
    os.utime(table, (1, 1))
    same(load(table), first)
    table.write_text(TABLE.replace("5", "7"))
    os.utime(table, (2, 2))
    second = load(table)
    assert second.x[2].tolist() == [7, 6] and second.digest != first.digest
    assert len(list(place.iterdir())) == 1  # one of each file: the old one is gone


def test_a_file_put_in_place_of_one_of_the_same_size_and_time_is_read(table):
    first, before = load(table), table.stat()
    other = table.with_name("other.csv")
    other.write_text(TABLE.replace("5", "7"))
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(table)
    assert table.stat().st_mtime_ns == before.st_mtime_ns and load(table).x[2].tolist() == [7, 6] != first.x[2].tolist()
    table.write_text(TABLE)  # the same file
    os.utime(table, ns=(before.st_atime_ns, before.st_mtime_ns))
    same(load(table), first)


def test_classes_met_in_another_order_are_other_data(table):
    first = load(table)
    table.write_text(TABLE.replace("x", "z").replace("y", "x").replace("z", "y"))
    second = load(table)
    assert (
        second.y["class"].tolist() == [0, 1, 0]
        and first.y["class"].tolist() == [1, 0, 1]
        and first.digest != second.digest
    )


@pytest.mark.parametrize("name", ["x.bin", "class.bin", "numbers.bin", "text.bin", "captions.json", "about.json"])
@pytest.mark.parametrize(
    "change",
    [
        lambda d: d[:-1] + bytes([d[-1] ^ 1]),
        lambda d: d[:3] + bytes([d[3] ^ 1]) + d[4:],  # another letter of a caption
        lambda d: d[:-1],
        lambda d: b"",
        lambda d: d + b"1",
        None,
    ],
    ids=["flipped", "flipped inside", "cut", "empty", "longer", "gone"],
)
def test_a_damaged_cache_is_made_anew(place, name, change):
    first = Described().load()
    (file,) = place.glob(f"*/{name}")
    if change is None:
        file.unlink()
    else:
        before = file.stat().st_mtime_ns
        file.write_bytes(change(file.read_bytes()))
        os.utime(file, ns=(before + 1, before + 1))
    same(Described().load(), first)
    assert len(list(place.iterdir())) == 1


@pytest.mark.parametrize(
    "kinds", [("class",), ("numbers",), ("text",), ("class", "text"), ("class", "numbers", "text")]
)
def test_conditions_of_all_kinds_are_those_that_were_handed_over(place, monkeypatch, kinds):
    samples = Described(kinds).load()
    truth = {"class": [kind for _, kind in ROWS], "numbers": [[k, -k] for k in range(6)]}
    assert list(samples.conditions) == list(kinds) and samples.x.tolist() == [[k] for k in range(6)]
    for kind, y in samples.conditions.items():
        names = {"class": samples.classes, "text": samples.captions}.get(kind)
        assert (y.tolist() if names is None else [names[k] for k in y]) == truth.get(kind, [text for text, _ in ROWS])
    assert samples.classes in ((), ("a", "b")) and samples.captions in ((), ("two b", "", "an a"))
    assert samples.digest == replace(samples, fingerprint="").digest
    monkeypatch.setattr(Described, "read", lambda self: refuse())
    same(Described(kinds).load(), samples)


def test_another_caption_is_another_digest(place):
    first = Described().load()
    assert Described(but="an A").load().digest != first.digest != Described(("class", "text")).load().digest


def test_facts_that_were_changed_are_not_used(table, place):
    load(table)
    (file,) = place.glob("*/about.json")
    file.write_text(file.read_text().replace('"y"', '"z"', 1))
    assert load(table).classes == ("x", "y")


def test_what_fails_leaves_nothing(place):
    with pytest.raises(AssertionError):
        Made(refuse).load()
    assert list(place.iterdir()) == []


def test_a_killed_process_leaves_nothing_that_is_used_or_stays(place):
    child = os.fork()
    if not child:
        Made(lambda: os.kill(os.getpid(), signal.SIGKILL)).load()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    left = list(place.iterdir())
    assert left and all(path.name.startswith(".") for path in left)
    assert Made(lambda: None).load().x.tolist() == [[0, 0]] * 3
    assert any(path.exists() for path in left)  # it may still be at work
    for path in place.rglob("*"):
        os.utime(path, (1, 1))
    (place / ".ssh").mkdir()
    os.utime(place / ".ssh", (1, 1))
    table = place.parent / "other.csv"
    table.write_text(TABLE)
    load(table)
    assert sorted(path.name for path in place.iterdir() if path.name.startswith(".")) == [".ssh"]


@pytest.mark.parametrize("can_lock", [True, False])
def test_many_at_once_are_right_and_read_once_where_files_can_be_locked(place, monkeypatch, can_lock):
    def no_lock(*_):
        raise OSError

    if not can_lock:
        monkeypatch.setattr("fcntl.flock", no_lock)
    reads, found = [], []
    threads = [
        threading.Thread(target=lambda: found.append(Made(lambda: reads.append(1)).load().x.tolist())) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [[[0, 0]] * 3] * 8 and 1 <= len(reads) <= (1 if can_lock else 8)
    assert len(list(place.iterdir())) == 1


def test_others_may_read_what_the_mask_lets_them(table, place):
    before = os.umask(0o027)
    try:
        load(table)
    finally:
        os.umask(before)
    (folder,) = place.iterdir()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o750
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o640}


def test_a_full_disk_is_told_and_nothing_stays(tmp_path, place):
    np.save(tmp_path / "my.npy", np.asfortranarray(np.zeros((100_000, 2))))
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, limit[1]))
    try:
        with pytest.raises(ValueError, match=r"cannot keep .*cache: .*1,600,000 bytes .* free.*PATHLINE_CACHE"):
            load(tmp_path / "my.npy", "")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert list(place.iterdir()) == []


def test_a_cache_that_is_no_folder_is_told(table, tmp_path, monkeypatch):
    monkeypatch.setenv("PATHLINE_CACHE", str(table / "cache"))
    with pytest.raises(ValueError, match=r"cannot keep what was read in .*my\.csv/cache: .*PATHLINE_CACHE"):
        load(table)


def test_a_file_that_grows_while_it_is_read_is_refused(table, monkeypatch):
    read = pl.FileSource.read

    def late(self):
        yield from read(self)
        table.write_text(TABLE + "7,8,x\n")

    monkeypatch.setattr(pl.FileSource, "read", late)
    with pytest.raises(ValueError, match=r"my\.csv was changed while it was read"):
        load(table)
    monkeypatch.undo()
    assert len(load(table)) == 4


# ---- larger than memory


@pytest.fixture
def unbounded(monkeypatch):
    """Nothing is small enough to be read whole."""
    monkeypatch.setattr(cache, "IN_MEMORY", 0)


def arrays(tmp_path, dtype="float64", order="C"):
    x = (np.random.default_rng(0).normal(size=(200, 3)) * 9).astype(dtype)
    np.save(tmp_path / "my.npy", np.asarray(x, order=order))
    return x.astype("float64"), tmp_path / "my.npy"


@pytest.mark.parametrize("order", "CF")
@pytest.mark.parametrize("dtype", ["float64", "uint8", ">f4", "int64", "bool"])
def test_rows_of_a_file_are_those_of_the_array(tmp_path, place, unbounded, dtype, order):
    x, path = arrays(tmp_path, dtype, order)
    samples = load(path, "")
    assert isinstance(samples.x, Rows) and samples.x.shape == (200, 3)
    index = torch.tensor([7, 3, 199, 3])
    for found, rows in ((samples.x[:], x), (samples.x[5:9], x[5:9]), (samples.take(index).x[:], x[index])):
        assert found.is_floating_point() and np.array_equal(found.numpy(), rows)
    assert torch.equal(samples.take(index).take(slice(1, 3)).x[:], samples.x[index[1:3]])
    assert bool(list(place.glob("*/x.bin"))) == (order == "F")  # what can be mapped is not copied


@pytest.mark.parametrize("is_mapped", [True, False])
def test_rows_are_asked_for_as_those_of_a_tensor(tmp_path, is_mapped):
    x, path = torch.arange(600.0).reshape(200, 3), tmp_path / "x.bin"
    np.concatenate((x.numpy().ravel(), np.full(300, -1, "float32"))).tofile(path)  # what follows is no row
    whole = Rows(Mapped(path, "float32", (200, 3)) if is_mapped else x)
    mask = x[:, 0] % 7 == 0
    for rows, truth in ((whole, x), (whole.take(torch.arange(199, -1, -1)), x.flip(0))):
        for index in (torch.tensor([-1, 3, -200, 3]), mask, torch.zeros(200, dtype=torch.bool), torch.tensor([5, 6])):
            for given in (index, index.numpy(), index if index.dtype == torch.bool else index.int()):
                assert torch.equal(rows[given], truth[index]) and torch.equal(rows.take(given)[:], truth[index])
                assert len(rows.take(given)) == len(truth[index])
        for index in ([200], [-201], [0, 3 * 10**9]):
            for ask in (rows.__getitem__, rows.take):
                with pytest.raises(IndexError, match=f"rows must be from -200 to 199, got {index[-1]}"):
                    ask(torch.tensor(index))
        for index in (mask[:-1], torch.tensor(3), torch.ones(2, 2, dtype=torch.long), torch.zeros(3)):
            with pytest.raises(IndexError, match=r"or a mask of shape \(200,\), got"):
                rows[index]


def test_arrays_of_an_npz_that_is_not_packed_are_mapped_in_it(tmp_path, place, unbounded):
    x = np.arange(600.0).reshape(200, 3)
    y = np.arange(200) % 3
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "my.npz", x=x, y=y)
        samples = load(tmp_path / "my.npz", "")
        assert np.array_equal(samples.x[:].numpy(), x) and np.array_equal(samples.y["class"].numpy(), y)
        assert bool(list(place.glob("*/x.bin"))) == (save is np.savez_compressed)


def test_a_split_in_a_file_is_that_in_memory_and_its_units_are_kept(tmp_path, place, monkeypatch):
    path = arrays(tmp_path)[1]
    small = load(path, "").split(0.2)
    monkeypatch.setattr(cache, "IN_MEMORY", 0)
    for _ in range(2):  # once they were learned, the units are read
        large = load(path, "").split(0.2)
        assert all(torch.equal(a.x, b.x[:]) for a, b in zip(small, large, strict=True))
        assert large[0].normalisation == large[1].normalisation == small[0].normalisation
        monkeypatch.setattr(pl.Normalisation, "_learned", lambda raw: refuse())
    monkeypatch.undo()
    monkeypatch.setenv("PATHLINE_CACHE", str(place))
    monkeypatch.setattr(cache, "IN_MEMORY", 0)
    assert load(path, "").split(0.3)[0].normalisation != small[0].normalisation
    for memo in place.glob("*/units-*"):
        memo.write_text("[[1")
    assert load(path, "").split(0.2)[0].normalisation == small[0].normalisation


def test_units_of_many_blocks_are_those_of_one(monkeypatch):
    x = torch.randn(1000, 3, generator=torch.Generator().manual_seed(0)).double() * torch.tensor([1, 1e-6, 1e3]) + 1e6
    whole = pl.Normalisation.of(x)
    monkeypatch.setattr("pathline.data.rows.BLOCK", 8 * 3 * 7)
    pieces = pl.Normalisation.of(x)
    assert pieces.shift == pytest.approx(x.mean(0).tolist(), rel=1e-15)
    assert pieces.scale == pytest.approx(whole.scale, rel=1e-4)  # 1e-6 about 1e6 is near what float64 can tell apart
    pictures = x.reshape(-1, 1, 3, 1)
    units = pl.Normalisation.of(pictures)
    assert units.shift == pytest.approx((float(x.mean()),), rel=1e-15)
    assert units.ends == ((float(x.min()),), (float(x.max()),))


def test_a_mapped_file_that_is_cut_short_is_told_and_kills_nobody(tmp_path, place, unbounded):
    path = arrays(tmp_path)[1]
    samples = load(path, "")
    os.truncate(path, 500)
    with pytest.raises(ValueError, match=r"my\.npy was cut short while it was read"):
        samples.x[:]


@pytest.mark.parametrize("in_order", [True, False])
def test_what_was_read_of_a_mapped_file_does_not_stay_in_memory(tmp_path, monkeypatch, in_order):
    def resident():
        with Path("/proc/self/status").open() as file:
            return next(int(line.split()[1]) << 10 for line in file if line.startswith("RssFile"))

    monkeypatch.setattr(mapped, "HELD", 1 << 24)
    path = tmp_path / "zeros"
    path.touch()
    os.truncate(path, 1 << 28)
    rows = Rows(Mapped(path, "float32", (1 << 20, 64)))
    before, most = resident(), 0
    if in_order:
        for block in blocks_of(rows):
            most = max(most, resident())
            assert block.nbytes <= BLOCK
    else:
        for index in torch.randperm(1 << 20, generator=torch.Generator().manual_seed(0))[:8192].split(64):
            rows[index]
            most = max(most, resident())
    assert most - before < 1 << 26


@pytest.mark.parametrize(
    ("given", "place"),
    [
        ({"PATHLINE_CACHE": "/a", "XDG_CACHE_HOME": "/b", "HOME": "/c"}, "/a"),
        ({"PATHLINE_CACHE": "", "XDG_CACHE_HOME": "/b", "HOME": "/c"}, "/b/pathline"),
        ({"HOME": "/c"}, "/c/.cache/pathline"),
    ],
)
def test_the_cache_is_where_it_is_named(monkeypatch, given, place):
    for name in ("PATHLINE_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert cache.cache_folder() == Path(place)
