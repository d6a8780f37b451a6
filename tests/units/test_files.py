"""Data from files: what is read is what was written; what is refused is in tests/programs/test_bad_input.py."""

import io
import struct
import zipfile
import zlib

import numpy as np
import pytest
import torch

import pathline as pl

pytestmark = pytest.mark.fast

HEADED = "kind,width,height\nb,1,10.5\na,-2e-3,20\nb,3,30\n"
X = [[1, 10.5], [-0.002, 20], [3, 30]]


def read(tmp_path, text, label="", name="my.csv"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return pl.FileSource(str(path), label).load()


@pytest.mark.parametrize("mark", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("start", ["", "\ufeff"])
def test_a_table_is_its_numbers_and_classes(tmp_path, mark, end, start):
    samples = read(tmp_path, start + HEADED.replace(",", mark).replace("\n", end), "kind")
    assert samples.x.dtype == torch.float64 and samples.x.tolist() == X
    assert samples.y["class"].tolist() == [1, 0, 1] and samples.classes == ("a", "b")
    assert samples.columns == ("width", "height") and samples.normalisation is None
    assert "my.csv" in samples.title


def test_without_a_label_every_column_is_a_number(tmp_path):
    samples = read(tmp_path, "width,height\n1,2\n3,4\n")
    assert samples.x.tolist() == [[1, 2], [3, 4]] and not samples.y and samples.classes == ()


@pytest.mark.parametrize(
    ("text", "label", "columns", "x"),
    [
        ("5,7\n3,4\n", "", ("1", "2"), [[5, 7], [3, 4]]),
        ("1,2,b\n3,4,a\n5,6,a\n", "3", ("1", "2"), [[1, 2], [3, 4], [5, 6]]),
        ("1\n8\n", "", ("1",), [[1], [8]]),
        ("2001,2002\n3,4\n", "", ("1", "2"), [[2001, 2002], [3, 4]]),
        ("0.0,1.0\n3,4\n", "", ("1", "2"), [[0, 1], [3, 4]]),
        ("2,1\n3,4\n", "", ("1", "2"), [[2, 1], [3, 4]]),
    ],
    ids=["numbers", "label by number", "one column", "years", "fractions", "no count"],
)
def test_a_first_row_of_numbers_is_no_header(tmp_path, text, label, columns, x):
    samples = read(tmp_path, text, label)
    assert samples.columns == columns and samples.x.tolist() == x


@pytest.mark.parametrize("start", [0, 1])
def test_a_first_row_that_counts_its_columns_is_a_header(tmp_path, start):
    names = tuple(str(start + k) for k in range(3))
    samples = read(tmp_path, ",".join(names) + "\n0.5,7,b\n1.5,8,a\n2,9,a\n", names[2])
    assert samples.columns == names[:2] and samples.x.tolist() == [[0.5, 7], [1.5, 8], [2, 9]]
    assert samples.classes == ("a", "b")


def test_quotes_blanks_and_empty_lines_are_no_matter(tmp_path):
    text = '\n"width, cm";"height"\n\n 1 ; 2\n"3";4 \n\n'
    samples = read(tmp_path, text)
    assert samples.columns == ("width, cm", "height") and samples.x.tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["10", "9", "10", "2"], ("2", "9", "10")),
        (["b", "a", "10", "a"], ("10", "a", "b")),
        (["-1", "1", "1", "-1"], ("-1", "1")),
    ],
)
def test_classes_are_sorted_by_size_or_by_letters(tmp_path, words, names):
    samples = read(tmp_path, "x,y\n" + "".join(f"{i},{word}\n" for i, word in enumerate(words)), "y")
    assert samples.classes == names and [samples.classes[k] for k in samples.y["class"]] == words


@pytest.mark.parametrize(
    ("dtype", "kept"),
    [
        ("float16", torch.float32), ("float32", torch.float32), ("float64", torch.float64), ("uint8", torch.float32),
        ("int16", torch.float32), ("int64", torch.float64), ("bool", torch.float32), (">f8", torch.float64),
    ],
)  # fmt: skip
@pytest.mark.parametrize("shape", [(5, 2), (5, 1, 4, 4)])
def test_an_array_keeps_its_shape_and_its_precision(tmp_path, dtype, kept, shape):
    x = (np.random.default_rng(0).normal(size=shape) * 9).astype(dtype)
    np.save(tmp_path / "my.npy", x)
    samples = pl.FileSource(str(tmp_path / "my.npy")).load()
    assert samples.x.dtype == kept and np.array_equal(samples.x.numpy(), x.astype("float64"))
    assert not samples.y and samples.columns == () and samples.is_image == (len(shape) == 4)


def test_an_npy_of_fortrans_order_and_an_upper_case_name_are_read(tmp_path):
    x = np.asfortranarray(np.arange(6.0).reshape(3, 2))
    np.save(tmp_path / "my.npy", x)
    (tmp_path / "my.npy").rename(tmp_path / "MY.NPY")
    assert pl.FileSource(str(tmp_path / "MY.NPY")).load().x.tolist() == x.tolist()


@pytest.mark.parametrize(
    ("y", "names", "index"),
    [
        (np.array([7, 3, 7, 10]), ("3", "7", "10"), [1, 0, 1, 2]),
        (np.array([1.0, 0.0, 1.0, 2.0]), ("0", "1", "2"), [1, 0, 1, 2]),
        (np.array(["b", "a", "b", "c"]), ("a", "b", "c"), [1, 0, 1, 2]),
        (np.array([b"b", b"a", b"b", b"c"]), ("a", "b", "c"), [1, 0, 1, 2]),
        (np.array([True, False, True, True]), ("False", "True"), [1, 0, 1, 1]),
    ],
    ids=["integers", "whole floats", "words", "bytes", "truths"],
)
def test_y_of_an_npz_are_classes(tmp_path, y, names, index):
    np.savez(tmp_path / "my.npz", x=np.arange(8.0).reshape(4, 2), y=y)
    samples = pl.FileSource(str(tmp_path / "my.npz")).load()
    assert samples.classes == names and samples.y["class"].tolist() == index and samples.y["class"].dtype == torch.long


def test_an_npz_may_hold_x_alone(tmp_path):
    np.savez_compressed(tmp_path / "my.npz", x=np.ones((4, 2)))
    assert pl.FileSource(str(tmp_path / "my.npz")).load().y == {}


# ---- numbers to condition on


@pytest.mark.parametrize(
    ("numbers", "x", "y"),
    [
        ("age", [[1, 3, 4], [5, 7, 8], [9, 11, 12]], [[2], [6], [10]]),
        ("d, a", [[2, 3], [6, 7], [10, 11]], [[4, 1], [8, 5], [12, 9]]),
        ('"b,c"', [[1, 2, 4], [5, 6, 8], [9, 10, 12]], [[3], [7], [11]]),
    ],
)
def test_numbers_are_columns_in_the_order_of_their_names(tmp_path, numbers, x, y):
    path = tmp_path / "my.csv"
    path.write_text('a,age,"b,c",d\n1,2,3,4\n5,6,7,8\n9,10,11,12\n')
    samples = pl.FileSource(str(path), numbers=numbers).load()
    assert (
        samples.x.tolist() == x and samples.y["numbers"].tolist() == y and samples.y["numbers"].dtype == torch.float64
    )
    assert samples.classes == () and len(samples.numbers) == len(y[0])
    assert all(name in numbers for name in samples.numbers)
    assert samples.take(slice(1, 3)).y["numbers"].tolist() == y[1:]


@pytest.mark.parametrize(
    ("y", "names"),
    [
        (np.array([0.5, 1, 2, 3]), ("y",)),
        (np.arange(8).reshape(4, 2), ("y1", "y2")),
        (np.array([[1.0], [2], [3], [4]]), ("y",)),
    ],
    ids=["fractions", "columns", "a column"],
)
def test_y_of_an_npz_may_be_numbers(tmp_path, y, names):
    np.savez(tmp_path / "my.npz", x=np.arange(8.0).reshape(4, 2), y=y)
    samples = pl.FileSource(str(tmp_path / "my.npz")).load()
    assert samples.numbers == names and samples.classes == ()
    assert samples.y["numbers"].dtype == torch.float64 and samples.y["numbers"].tolist() == y.reshape(4, -1).tolist()


@pytest.mark.parametrize("dtype", ["int64", "uint64"])
@pytest.mark.parametrize("name", ["x", "y"])
def test_whole_numbers_that_would_be_rounded_are_refused_by_their_place(tmp_path, name, dtype):
    arrays = {"x": np.arange(8).reshape(4, 2), "y": np.arange(8).reshape(4, 2)}
    large = np.full((4, 2), 2**53 - 1, dtype)
    np.savez(tmp_path / "my.npz", **(arrays | {name: large}))
    samples = pl.FileSource(str(tmp_path / "my.npz")).load()
    assert (samples.x if name == "x" else samples.y["numbers"]).tolist() == large.tolist()
    large[2, 1] = 2**53 + 1
    np.savez(tmp_path / "my.npz", **(arrays | {name: large}))
    with pytest.raises(ValueError, match=rf"{name}\[2, 1\] must be .* below 2\*\*53, .*offset.*got 9007199254740993"):
        pl.FileSource(str(tmp_path / "my.npz")).load()


def test_whole_y_that_are_all_different_may_become_numbers(tmp_path):
    np.savez(tmp_path / "my.npz", x=np.arange(8.0).reshape(4, 2), y=np.array([31.0, 45, 62, 70]))
    with pytest.raises(
        ValueError,
        match=r"for each of the 4 samples; save y.astype\(float\)\[:, None\] to condition on them as numbers",
    ):
        pl.FileSource(str(tmp_path / "my.npz")).load()


# ---- several conditions at once

WORDS = ["a cat", " a dog ", "a cat", ""]


def record(**parts):
    """Conditions as one array, of fields with these names."""
    parts = {name: np.asarray(part) for name, part in parts.items()}
    found = np.empty(4, [(name, part.dtype, part.shape[1:]) for name, part in parts.items()])
    for name, part in parts.items():
        found[name] = part
    return found


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_y_of_an_npz_may_be_of_several_kinds(tmp_path, save):
    y = record(numbers=np.arange(8).reshape(4, 2) / 2, text=WORDS, **{"class": ["b", "a", "b", "b"]})
    save(tmp_path / "my.npz", x=np.arange(8.0).reshape(4, 2), y=y)
    samples = pl.FileSource(str(tmp_path / "my.npz"), text=True).load()
    assert samples.classes == ("a", "b") and samples.conditions["class"].tolist() == [1, 0, 1, 1]
    assert samples.numbers == ("y1", "y2") and samples.conditions["numbers"].tolist() == y["numbers"].tolist()
    assert [samples.captions[k] for k in samples.conditions["text"].tolist()] == ["a cat", "a dog", "a cat", ""]
    assert "3 different captions, 1 of the samples with an empty one" in samples.title
    unread = pl.FileSource(str(tmp_path / "my.npz")).load()
    assert list(unread.conditions) == ["class", "numbers"] and unread.captions == ()
    assert "its captions are not used (--text words" in unread.title and unread.classes == ("a", "b")


def test_words_in_y_of_an_npz_are_captions_if_they_are_asked_for(tmp_path):
    np.savez(tmp_path / "my.npz", x=np.arange(8.0).reshape(4, 2), y=np.array(WORDS))
    samples = pl.FileSource(str(tmp_path / "my.npz"), text=True).load()
    assert list(samples.conditions) == ["text"] and samples.classes == ()
    assert [samples.captions[k] for k in samples.y["text"].tolist()] == ["a cat", "a dog", "a cat", ""]


@pytest.mark.parametrize(
    ("y", "said"),
    [
        (record(age=[1, 2, 3, 4]), r"y must have the fields class, numbers, text or some of them, got \('age',\)"),
        (record(text=[1, 2, 3, 4]), r"y\['text'\] must hold captions, got the type int64"),
        (record(text=[["a", "b"]] * 4), r"y\['text'\] must have shape \(4,\), a caption for each .* got \(4, 2\)"),
        (record(text=["a", "b" * 10_001, "", ""]), r"y\['text'\] needs a caption of up to 10,000 letters"),
        (record(numbers=["a"] * 4), r"y\['numbers'\] must be real numbers, got the type <U1"),
        (record(numbers=[1, 2, np.inf, 4]), r"y\['numbers'\]\[2\] must be a finite number, got inf"),
        (record(numbers=np.zeros((4, 2, 2))), r"y\['numbers'\] must have a row for each of the 4 .* got \(4, 2, 2\)"),
        (record(**{"class": np.zeros((4, 2))}), r"y\['class'\] must have shape \(4,\), a class for each"),
        (np.array([b"a", b"b", b"a", b"b"]), r"y must hold captions for --text, .* got the type \|S1 in shape \(4,\)"),
        (record(**{"class": [1, 2, 1, 2]}), r"y must hold captions for --text, an array of words or a field text"),
        (record(text=["a"] * 4)[:3], r"y\['text'\] must have shape \(4,\), a caption for each sample of x, got \(3,\)"),
    ],
)
def test_fields_of_y_that_cannot_be_read_are_named(tmp_path, y, said):
    np.savez(tmp_path / "my.npz", x=np.arange(8.0).reshape(4, 2), y=y)
    with pytest.raises(ValueError, match=said):
        pl.FileSource(str(tmp_path / "my.npz"), text=True).load()


@pytest.mark.parametrize("name", ["my.csv", "my.npy"])
def test_captions_of_files_are_those_of_an_npz(tmp_path, name):
    (tmp_path / name).write_text("1,2\n")
    with pytest.raises(ValueError, match=f"text is of captions in y of an .npz, got True for .*{name}"):
        pl.FileSource(str(tmp_path / name), text=True).load()


# ---- bombs


def zeros(start, size, bits):
    """What unpacks to `start` and so many zeros, without packing them: a megabyte of them is the same each time."""
    packer = zlib.compressobj(9, zlib.DEFLATED, bits)
    head = packer.compress(start) + packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    return head + block * (size >> 20) + packer.flush()


def header(shape):
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": shape})
    return file.getvalue()


def zipped(path, data, declared, method=8):
    """An .npz that declares of its x what it is told."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("x.npy", data)
    found = bytearray(file.getvalue())
    for signature, of_method, of_size in ((b"PK\3\4", 8, 22), (b"PK\1\2", 10, 24)):
        place = found.index(signature)
        struct.pack_into("<H", found, place + of_method, method)
        struct.pack_into("<I", found, place + of_size, declared)
    path.write_bytes(found)


def test_a_bomb_in_an_npz_is_refused_by_what_it_declares(tmp_path, monkeypatch):
    path, size = tmp_path / "my.npz", 3 << 30
    start = header((size // 16, 2))
    zipped(path, zeros(start, size, -15), len(start) + size)
    monkeypatch.setattr(zipfile.ZipExtFile, "read", limited(zipfile.ZipExtFile.read))
    with pytest.raises(ValueError, match=r"x unpacks to 3,221,225,600 bytes .* only a decompression bomb .*savez"):
        pl.FileSource(str(path)).load()


def limited(read):
    """A reader that fails beyond a megabyte."""
    seen = []

    def checked(self, size=-1):
        seen.append(read(self, size))
        assert sum(map(len, seen)) < 1 << 20
        return seen[-1]

    return checked


@pytest.mark.parametrize("size", [1 << 20, 3 << 30])
def test_an_npz_that_unpacks_to_more_than_it_declares_is_damaged(tmp_path, size):
    path = tmp_path / "my.npz"
    start = header((size // 16, 2))
    zipped(path, zeros(start, 2 << 20, -15), 2000)
    with pytest.raises(ValueError, match=r"my\.npz cannot be read"):
        pl.FileSource(str(path)).load()


def test_an_array_larger_than_its_file_is_refused(tmp_path):
    (tmp_path / "my.npy").write_bytes(header((1 << 40, 2)) + bytes(160))
    with pytest.raises(ValueError, match=r"my\.npy cannot be read"):
        pl.FileSource(str(tmp_path / "my.npy")).load()


def test_an_array_larger_than_the_disk_is_refused(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "my.npz", x=np.random.default_rng(0).normal(size=(100, 10)))
    monkeypatch.setattr("pathline.data.arrays.free_bytes", lambda: 8000)
    with pytest.raises(ValueError, match=r"needs 8,128 bytes in .*, and 8,000 are free; .*PATHLINE_CACHE"):
        pl.FileSource(str(tmp_path / "my.npz")).load()


@pytest.mark.parametrize("row", ["0,0\n", "\0", ",", "\n"], ids=["rows", "no text", "no line", "blank lines"])
def test_a_bomb_in_a_packed_table_is_refused(tmp_path, row):
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    head = packer.compress(b"a,b\n1,2\n") + packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(row.encode() * ((1 << 20) // len(row))) + packer.flush(zlib.Z_FULL_FLUSH)
    (tmp_path / "my.csv.gz").write_bytes(head + block * 1000)
    with pytest.raises(ValueError, match=r"my\.csv\.gz unpacks to .* only a decompression bomb .*unpack it"):
        pl.FileSource(str(tmp_path / "my.csv.gz")).load()
