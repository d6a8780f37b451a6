"""IDX files: what is read is what was written; a header is not believed further than its file goes."""

import gzip
import struct
import time
import tracemalloc

import numpy as np
import pytest

import pathline as pl
from pathline.data.named import source_of

pytestmark = pytest.mark.fast

DRAW = np.random.default_rng(0)
X = DRAW.integers(0, 256, (30, 6, 4), dtype="uint8")
Y = DRAW.permutation(np.repeat([7, 3, 5], 10)).astype("uint8")


def idx(x: np.ndarray, *, kind: int = 8, sizes: tuple[int, ...] | None = None) -> bytes:
    sizes = x.shape if sizes is None else sizes
    return bytes([0, 0, kind, len(sizes)]) + struct.pack(f">{len(sizes)}I", *sizes) + x.tobytes()


def put(folder, images=None, labels=None, mark="-", packed=False, part="train"):
    end = ".gz" if packed else ""
    for name, data in ((f"{part}-images{mark}idx3-ubyte", images), (f"{part}-labels{mark}idx1-ubyte", labels)):
        if data is not None:
            (folder / f"{name}{end}").write_bytes(gzip.compress(data) if packed else data)
    return folder / f"{part}-images{mark}idx3-ubyte{end}"


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("mark", ["-", "."])
@pytest.mark.parametrize("is_folder", [True, False])
def test_images_and_the_labels_beside_them_are_read(tmp_path, packed, mark, is_folder, monkeypatch):
    monkeypatch.setattr("pathline.data.idx.BLOCK", 100)  # four images at a time
    put(tmp_path, idx(X[:3]), idx(Y[:3]), mark, packed, part="t10k")
    path = put(tmp_path, idx(X), idx(Y), mark, packed)
    samples = source_of(str(tmp_path if is_folder else path)).load()
    assert np.array_equal(samples.x[:], X[:, None]) and samples.is_image
    assert samples.classes == ("3", "5", "7") and [int(samples.classes[k]) for k in samples.y["class"]] == Y.tolist()
    assert samples.normalisation == pl.Normalisation(127.5, 127.5) and path.name in samples.title


def test_images_alone_have_no_classes(tmp_path):
    samples = pl.IDXSource(str(put(tmp_path, idx(X)))).load()
    assert not samples.y and samples.classes == () and "without classes" in samples.title
    (tmp_path / "my.idx").write_bytes(idx(X))
    assert len(source_of(str(tmp_path / "my.idx")).load()) == 30


def test_an_unpacked_file_goes_before_its_packed_twin_and_labels_may_be_packed_alone(tmp_path):
    put(tmp_path, idx(X), idx(Y), packed=True)
    path = put(tmp_path, idx(X))
    samples = pl.IDXSource(str(tmp_path)).load()
    assert f"{path.name}:" in samples.title and samples.y


def refused(path) -> str:
    begin = time.process_time()
    tracemalloc.start()
    with pytest.raises(ValueError) as error:
        source_of(str(path)).load()
    assert tracemalloc.get_traced_memory()[1] < 1 << 26
    tracemalloc.stop()
    assert time.process_time() - begin < 2
    return str(error.value)


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (b"", "is cut short"),
        (b"\0\0\x08\x03\0\0", "is cut short"),
        (idx(X)[:-1], "must have the 736 bytes that it declares, got 735"),
        (idx(X) + b"1", "must have the 736 bytes that it declares, got 737"),
        (idx(X, kind=13), "begins with the bytes 0 0 8 3, got 0 0 13 3"),
        (idx(Y), "begins with the bytes 0 0 8 3, got 0 0 8 1"),
        (b"\x89PNG" + bytes(99), "begins with the bytes 0 0 8 3, got 137 80 78 71"),
        (idx(X[:0]), "got the sizes (0, 6, 4)"),
        (idx(X, sizes=(30, 24, 0)), "got the sizes (30, 24, 0)"),
        (idx(X, sizes=(1, 60_000, 60_000)), "got the sizes (1, 60000, 60000)"),
        (idx(X, sizes=(2**32 - 1, 6, 4)), "bytes that it declares"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_a_file_that_is_not_what_it_declares_is_refused(tmp_path, images, said):
    assert said in refused(put(tmp_path, images))


@pytest.mark.parametrize(
    ("packed", "said"),
    [
        (gzip.compress(idx(X))[:-20], "is no whole gzip file"),
        (gzip.compress(idx(X))[:-8] + bytes(8), "is no whole gzip file"),  # its sum is wrong
        (idx(X), "is no whole gzip file"),
        (gzip.compress(idx(X)[:-1]), "is cut short"),
        (gzip.compress(idx(X) + b"1"), "holds more than it declares"),
        (gzip.compress(idx(X) + bytes(1 << 26)), "holds more than it declares"),
        (gzip.compress(idx(X, sizes=(10**6, 28, 28)) + bytes(1 << 20)), "as a decompression bomb does"),
    ],
    ids=["cut", "sum", "plain", "short", "long", "bomb of more", "bomb of zeros"],
)
def test_a_packed_file_that_is_not_what_it_declares_is_refused(tmp_path, packed, said):
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(packed)
    assert said in refused(path)


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (idx(Y[:-1]), "must have a label for each of 30 images, got 29"),
        (idx(X), "begins with the bytes 0 0 8 1, got 0 0 8 3"),
        (idx(Y)[:-1], "must have the 38 bytes that it declares, got 37"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_labels_that_do_not_fit_are_refused(tmp_path, labels, said):
    assert said in refused(put(tmp_path, idx(X), labels))


def test_files_that_are_not_told_apart_are_named(tmp_path):
    assert "there is no file" in refused(tmp_path / "train-images-idx3-ubyte")
    for part in ("letters-train", "digits-train"):
        put(tmp_path, idx(X), part=part)
    assert "got digits-train-images-idx3-ubyte, letters-train-images-idx3-ubyte; name the file" in refused(tmp_path)


def test_an_option_for_another_kind_of_data_is_refused(tmp_path):
    for option, said in (({"size": 8}, "size is for folders"), ({"skip_bad": True}, "skip_bad is for folders")):
        with pytest.raises(ValueError, match=said):
            source_of(str(put(tmp_path, idx(X))), **option)
