"""Folders of images: what is read is what was written, to a level; every bad file is named; no bomb goes off."""

import io
import json
import os
import struct
import time
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import pathline as pl
from pathline.data.named import source_of
from pathline.data.pictures import MOST, Unusable, picture_of

DRAW = np.random.default_rng(0)
DEPTHS = {"grey": (0, 1), "rgb": (2, 3), "palette": (3, 1), "grey alpha": (4, 2), "rgb alpha": (6, 4)}


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(x: np.ndarray, *chunks: bytes, kind: str = "", size: tuple[int, int] | None = None) -> bytes:
    """A PNG of the array, written here so that no reader's own writer is trusted."""
    x = x.reshape(*x.shape[:2], -1)
    kind = kind or {1: "grey", 2: "grey alpha", 3: "rgb", 4: "rgb alpha"}[x.shape[2]]
    width, height = size or x.shape[1::-1]
    header = struct.pack(">IIBBBBB", width, height, 8 * x.dtype.itemsize, DEPTHS[kind][0], 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(x.dtype.newbyteorder(">")).tobytes() for row in x)
    body = chunk(b"IHDR", header) + b"".join(chunks) + chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b"")


def saved(x, suffix="PNG", mode=None, **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(x, mode).save(file, suffix, **options) if mode is None else Image.fromarray(x).convert(mode).save(
        file, suffix, **options
    )
    return file.getvalue()


def noise(*shape, dtype="uint8") -> np.ndarray:
    return DRAW.integers(0, np.iinfo(dtype).max + 1, shape, dtype=dtype)


def put(folder: Path, name: str, data: bytes | str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def levels(x: np.ndarray) -> np.ndarray:
    """What a picture must become, in fractions of a level: alpha over white, in its own depth, channels first."""
    most = np.iinfo(x.dtype).max
    x = x.reshape(*x.shape[:2], -1) / most
    if x.shape[2] in (2, 4):
        x = x[..., -1:] * x[..., :-1] + 1 - x[..., -1:]
    return most * x.transpose(2, 0, 1)


# ---- one picture


@pytest.mark.fast
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_a_png_of_any_depth_is_its_levels_over_white(channels, dtype):
    x = noise(40, 50, channels, dtype=dtype)
    x[:8, :, -1] = DRAW.choice([0, np.iinfo(dtype).max], (8, 50))  # the ends, where rounding is felt
    found = picture_of(png(x))
    assert found.dtype == dtype and found.shape == (1 if channels < 3 else 3, 40, 50)
    assert abs(found - levels(x)).max() <= 0.51


@pytest.mark.fast
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_a_colour_that_stands_for_nothing_is_white(channels, dtype):
    x = noise(9, 9, channels, dtype=dtype)
    x[2] = x[0, 0]
    clear = chunk(b"tRNS", x[0, 0].astype(">u2").tobytes())
    expected = levels(x)
    expected[:, (x == x[0, 0]).all(-1)] = np.iinfo(dtype).max
    assert abs(picture_of(png(x, clear)) - expected).max() <= 0.51


@pytest.mark.fast
def test_a_palette_is_its_colours_and_their_alpha_over_white():
    palette, alpha, index = noise(7, 3), noise(7), DRAW.integers(0, 7, (6, 5), dtype="uint8")
    found = picture_of(png(index, chunk(b"PLTE", palette.tobytes()), chunk(b"tRNS", alpha.tobytes()), kind="palette"))
    assert abs(found - levels(np.concatenate([palette, alpha[:, None]], 1)[index])).max() <= 0.51
    found = picture_of(png(index, chunk(b"PLTE", palette.tobytes()), kind="palette"))
    assert np.array_equal(found, palette[index].transpose(2, 0, 1))


@pytest.mark.fast
def test_exif_turns_a_picture_upright():
    x = noise(4, 6, 3)
    upright = {
        1: x, 2: x[:, ::-1], 3: x[::-1, ::-1], 4: x[::-1], 5: x.swapaxes(0, 1), 6: np.rot90(x, -1),
        7: np.rot90(x, 2).swapaxes(0, 1), 8: np.rot90(x),
    }  # fmt: skip
    for orientation, expected in upright.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        data = b"MM\0*\0\0\0\x08" + struct.pack(">HHHIHHI", 1, 0x0112, 3, 1, orientation, 0, 0)
        for file in (
            png(x, chunk(b"eXIf", data)),
            saved(x, "TIFF", exif=exif),
            saved(x, "WEBP", exif=exif, lossless=True),
        ):
            assert np.array_equal(picture_of(file), expected.transpose(2, 0, 1)), orientation
        smooth = np.kron(x, np.ones((16, 16, 1), "uint8"))
        found = picture_of(saved(smooth, "JPEG", exif=exif, quality=95, subsampling=0))
        assert abs(found[:, 8::16, 8::16] - expected.transpose(2, 0, 1).astype(int)).max() <= 3, orientation


@pytest.mark.fast
def test_cmyk_becomes_red_green_and_blue():
    ink = Image.fromarray(np.kron(noise(2, 2, 4), np.ones((16, 16, 1), "uint8")), "CMYK")
    file = io.BytesIO()
    ink.save(file, "TIFF")
    c, m, y, k = np.asarray(ink).transpose(2, 0, 1).astype(float)
    expected = np.stack([(255 - each) * (255 - k) / 255 for each in (c, m, y)])
    assert abs(picture_of(file.getvalue()) - expected).max() <= 1


@pytest.mark.fast
@pytest.mark.parametrize("suffix", ["PNG", "BMP", "GIF", "TIFF", "PPM"])
def test_a_picture_of_three_equal_channels_is_grey(suffix):
    x = noise(5, 4)
    for file in (saved(x, suffix), saved(np.stack([x] * 3, -1), suffix)):
        assert np.array_equal(picture_of(file), x[None])
    x = np.stack([x] * 3, -1)
    x[0, 0] = 1, 2, 3
    assert picture_of(saved(x, suffix)).shape == (3, 5, 4)


@pytest.mark.fast
def test_pgm_of_16_bits_and_bits_alone_are_levels():
    x = noise(5, 4, dtype="uint16")
    assert abs(picture_of(b"P5 4 5 65535\n" + x.astype(">u2").tobytes()) - levels(x)).max() <= 0.51
    assert np.array_equal(picture_of(saved(x > 999)), 255 * (x > 999)[None])


@pytest.mark.fast
def test_a_side_is_resized_with_antialiasing_and_the_other_cut_at_both_ends():
    fine = 255 * (np.indices((64, 96)).sum(0) % 2).astype("uint8")
    assert abs(picture_of(png(fine), 16).astype(float) - 127.5).max() < 10  # taking every fourth pixel gives 0 or 255
    ramp = np.tile(np.arange(96, dtype="uint8"), (32, 1))
    found = picture_of(png(ramp), 16)
    assert found.shape == (1, 16, 16) and abs(found[0, 8] - (32 + 2 * np.arange(16) + 0.5)).max() <= 1
    photograph = saved(np.kron(noise(2, 3, 3), np.ones((400, 400, 1), "uint8")), "JPEG")
    assert picture_of(photograph, 16).shape == (3, 16, 16)
    assert abs(picture_of(photograph, 8).astype(int) - picture_of(picture_file(picture_of(photograph)), 8)).max() <= 4


def picture_file(x: np.ndarray) -> bytes:
    return png(x.transpose(1, 2, 0))


def frames(suffix: str) -> bytes:
    file = io.BytesIO()
    first, *rest = (Image.fromarray(noise(5, 4, 3)) for _ in range(3))
    first.save(file, suffix, save_all=True, append_images=rest)
    return file.getvalue()


@pytest.mark.fast
@pytest.mark.parametrize(
    ("file", "said"),
    [
        (b"", "is empty"),
        (b"hello", "is no image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is no image"),  # another program would draw it
        *[(frames(suffix), "is animated") for suffix in ("GIF", "PNG", "WEBP", "TIFF")],
        *[(saved(noise(40, 40, 3), suffix)[:-900], "is damaged") for suffix in ("PNG", "JPEG", "BMP", "GIF", "PPM")],
        *[(saved(noise(40, 40, 3), suffix)[:-900], "is (damaged|no image)") for suffix in ("WEBP", "TIFF")],
        (saved(noise(4, 4).astype("float32"), "TIFF"), "save it in 8 or 16 bits"),
        (saved(noise(4, 4).astype("int32"), "TIFF"), "save it in 8 or 16 bits"),
    ],
)  # fmt: skip
def test_a_picture_that_cannot_be_used_says_why(file, said):
    with pytest.raises(Unusable, match=said):
        picture_of(file)


@pytest.mark.parametrize(
    "file",
    [
        png(noise(1, 1), size=(50_000, 50_000)),
        png(noise(1, 1), size=(9_000, 9_000)),
        png(np.zeros((2_000, 2_000, 4), "uint16")),  # whole, and flat
        png(noise(4, 4), chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1 << 28)))),
        png(noise(4, 4), chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(1 << 28)))),
        struct.pack("<6sHHBBB", b"GIF89a", 60_000, 60_000, 0, 0, 0) + b",\0\0\0\0`\xea`\xea\0\x08\x01\0\0;",
        b"P5 60000 60000 255\n",
        b"BM" + struct.pack("<IIIIiiHHIIiiII", 99, 0, 54, 40, 60_000, 60_000, 1, 24, 0, 0, 0, 0, 0, 0),
    ],
    ids=["png", "png that Pillow lets by", "flat png", "text", "profile", "gif", "pgm", "bmp"],
)  # fmt: skip
def test_a_bomb_is_refused_by_what_it_declares(file):
    tracemalloc.start()
    begin = time.process_time()
    with pytest.raises(Unusable):
        picture_of(file)
    assert tracemalloc.get_traced_memory()[1] < 1 << 24  # of Python's; Pillow's own is in test_fuzz_images.py
    tracemalloc.stop()
    assert time.process_time() - begin < 2
    assert MOST < 9_000**2


# ---- folders


def read(folder: Path, **options) -> pl.Samples:
    return pl.ImageFolderSource(str(folder), **options).load()


def refused(folder: Path, **options) -> str:
    begin = time.process_time()
    with pytest.raises(ValueError) as error:
        read(folder, **options)
    assert time.process_time() - begin < 2
    return str(error.value)


def shown(samples: pl.Samples) -> dict[str, list[int]]:
    """The level that fills each picture, by class."""
    found: dict[str, list[int]] = {name: [] for name in samples.classes or ("",)}
    for x, k in zip(samples.x[:], samples.y.get("class", [0] * len(samples)), strict=True):
        found[(samples.classes or ("",))[int(k)]].append(int(x.flatten()[0]))
    return found


def flat(level: int, size: int = 4) -> bytes:
    return png(np.full((size, size), level, "uint8"))


@pytest.mark.fast
def test_folders_are_classes_and_nested_ones_are_of_their_class(tmp_path):
    for name, level in {"b/1.png": 1, "b/deep/er/2.PNG": 2, "a/3.gif.png": 3, "10/4": 4, "9/5.jpeg": 5}.items():
        put(tmp_path, name, flat(level))
    for name in (
        "b/._1.png",
        ".hidden/1.png",
        "__MACOSX/b/._1.png",
        "b/Thumbs.db",
        ".DS_Store",
        "README",
        "b/notes.txt",
    ):
        put(tmp_path, name, "no image")
    samples = read(tmp_path)
    assert shown(samples) == {"10": [4], "9": [5], "a": [3], "b": [1, 2]}
    assert samples.x.dtype == torch.float32 and samples.shape == (1, 4, 4) and samples.is_image
    assert samples.normalisation == pl.Normalisation(127.5, 127.5)
    assert samples.units.into(torch.tensor([0, 255], dtype=torch.uint8)).tolist() == [-1, 1]


@pytest.mark.fast
def test_pictures_without_folders_have_no_classes(tmp_path):
    for level in range(3):
        put(tmp_path, f"{level}.png", flat(level))
    (tmp_path / "empty").mkdir()
    samples = read(tmp_path)
    assert shown(samples) == {"": [0, 1, 2]} and not samples.y and samples.classes == ()


@pytest.mark.fast
@pytest.mark.parametrize("first", [True, False])
def test_one_coloured_picture_makes_all_of_three_channels(tmp_path, first, monkeypatch):
    monkeypatch.setattr("pathline.data.pictures.BLOCK", 100)  # blocks of two, so that grey ones were read before
    for level in range(7):
        put(tmp_path, f"{level}.png", flat(level))
    put(tmp_path, "-.png" if first else "9.png", png(np.full((4, 4, 3), (20, 30, 40), "uint8")))
    found = read(tmp_path).x[:]
    assert found.shape == (8, 3, 4, 4)
    assert found[0 if first else 7, :, 3, 3].tolist() == [20, 30, 40]
    assert found[1 if first else 0 :][:7, :, 2, 1].tolist() == [[k] * 3 for k in range(7)]


@pytest.mark.fast
def test_of_a_folder_of_parts_train_is_read(tmp_path):
    for name in ("train/a/1.png", "train/b/2.png", "test/a/3.png", "validation/b/4.png"):
        put(tmp_path, name, flat(int(name[-5])))
    samples = read(tmp_path)
    assert shown(samples) == {"a": [1], "b": [2]} and samples.title.startswith(f"{tmp_path.name}/train: 2")
    put(tmp_path, "plane/a/5.png", flat(5))  # now train is one class of things among others
    assert set(read(tmp_path).classes) == {"train", "test", "validation", "plane"}


LINES = [
    {"file_name": "x/1.png", "label": "b", "text": "one", "age": 1},
    {"file_name": "2.png", "label": "a", "text": "two", "age": 2.5},
    {"file_name": "./3.png", "label": "b", "text": "three", "age": 3},
]


def described(folder: Path, lines, metadata: str = "metadata.jsonl", mark: str = "") -> Path:
    for name in ("x/1.png", "2.png", "3.png"):
        put(folder, name, flat(int(name[-5])))
    put(folder, metadata, mark + "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return folder


@pytest.mark.fast
def test_metadata_gives_classes_or_numbers(tmp_path):
    described(tmp_path, [*LINES, "", " "], mark="\ufeff")
    assert shown(read(tmp_path)) == {"b": [1, 3], "a": [2]}
    assert "captions are not used (--text words conditions on them)" in read(tmp_path).title
    samples = read(tmp_path, numbers="age")
    assert samples.y["numbers"].tolist() == [[1], [2.5], [3]] and samples.numbers == ("age",) and samples.classes == ()
    described(tmp_path, [{"file_name": line["file_name"], "text": line["text"]} for line in LINES])
    assert read(tmp_path).y == {} and len(read(tmp_path)) == 3
    described(tmp_path, [{"file_name": line["file_name"], "kind": k % 2 + 9} for k, line in enumerate(LINES)])
    assert read(tmp_path).y == {} and read(tmp_path, label="kind").classes == ("9", "10")


@pytest.mark.fast
def test_metadata_of_parts_names_those_of_train(tmp_path):
    for name in ("train/1.png", "test/2.png"):
        put(tmp_path, name, flat(int(name[-5])))
    put(tmp_path, "metadata.jsonl", '{"file_name": "train/1.png", "label": 1}\n{"file_name": "test/2.png", "label": 2}')
    assert shown(read(tmp_path)) == {"1": [1]}
    put(tmp_path, "train/metadata.jsonl", '{"file_name": "1.png", "label": 7}')
    assert shown(read(tmp_path)) == {"7": [1]}


@pytest.mark.fast
@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "metadata.jsonl, line 2 is not JSON"),
        ("[" * 100_000, "line 2 is not JSON"),
        ("3", 'line 2 needs a "file_name"'),
        ({"file_name": 3}, 'line 2 needs a "file_name"'),
        ({"file_name": "../2.png", "label": "a"}, "line 2 must name a file inside the folder"),
        ({"file_name": "/etc/passwd", "label": "a"}, "line 2 must name a file inside the folder"),
        ({"file_name": "4.png", "label": "a"}, "line 2 names '4.png', which is not there"),
        ({"file_name": "2.png\0", "label": "a"}, "which is not there"),
        ({"file_name": "x/1.png", "label": "a"}, "line 2 names 'x/1.png', as one before it"),
        ({"file_name": "2.png"}, "line 2: 2.png needs a class in 'label', a word or a whole number, got None"),
        ({"file_name": "2.png", "label": 1.5}, "got 1.5"),
        ({"file_name": "2.png", "label": ["a"]}, "got ['a']"),
        ("", "2.png is not named in metadata.jsonl"),
    ],
)
def test_metadata_that_is_wrong_is_told_by_its_line(tmp_path, line, said):
    described(tmp_path, [LINES[0], line, LINES[2]])
    told = refused(tmp_path)
    assert said in told and "--skip-bad" in told
    with pytest.warns(UserWarning, match="are left out"):
        assert shown(read(tmp_path, is_forgiving=True)) == {"b": [1, 3]}


@pytest.mark.fast
def test_numbers_that_are_none_are_told_by_their_line(tmp_path):
    described(tmp_path, [LINES[0], LINES[1] | {"age": "old"}, LINES[2] | {"age": 10**400}])
    told = refused(tmp_path, numbers="age")
    assert "line 2: 2.png needs a finite number in 'age', got 'old'" in told and "line 3: 3.png " in told
    assert "no line of" in refused(tmp_path, numbers="agee") and "did you mean 'age'" in refused(
        tmp_path, numbers="agee"
    )
    assert "numbers must name other columns than label, got 'age'" in refused(tmp_path, numbers="age", label="age")


def captions_of(samples: pl.Samples) -> list[str]:
    return [samples.captions[k] for k in samples.conditions["text"]]


@pytest.mark.fast
def test_metadata_gives_captions_and_each_image_has_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr("pathline.data.pictures.BLOCK", 100)  # blocks of two
    words = ['a "b"', " two\nlines ", "  ", 'a "b"', "", "été, 🎈", "x" * 10_000]
    for level in range(7):
        put(tmp_path, f"{level}.png", flat(level))
    lines = [json.dumps({"file_name": f"{level}.png", "text": text}) for level, text in enumerate(words)]
    put(tmp_path, "metadata.jsonl", "\n".join(reversed(lines)))  # files are not in the order of the lines' names
    for _ in range(2):  # the second time, from the cache
        samples = read(tmp_path, text=True)
        level = samples.x[:, 0, 0, 0].long().tolist()
        assert captions_of(samples) == [words[k].strip() for k in level] and sorted(level) == list(range(7))
        assert len(samples.captions) == len(set(samples.captions)) == 5 and samples.y["text"].dtype == torch.long
        assert "with 5 different captions, 2 of the samples with an empty one" in samples.title
    assert read(tmp_path).y == {} and read(tmp_path, text="text").digest == samples.digest != read(tmp_path).digest


@pytest.mark.fast
def test_metadata_gives_all_kinds_of_condition_at_once(tmp_path):
    described(tmp_path, LINES)
    asked = {"class": {"label": "label"}, "numbers": {"numbers": "age"}, "text": {"text": True}}
    for kinds in (("class", "numbers"), ("class", "text"), ("numbers", "text"), ("class", "numbers", "text")):
        samples = read(tmp_path, **{name: value for kind in kinds for name, value in asked[kind].items()})
        level = samples.x[:, 0, 0, 0].long().tolist()
        names = {"class": samples.classes, "text": samples.captions}
        truth = {"class": ["b", "a", "b"], "numbers": [[1], [2.5], [3]], "text": ["one", "two", "three"]}
        assert list(samples.y) == list(kinds)
        for kind, y in samples.y.items():
            found = [names[kind][k] for k in y] if kind in names else y.tolist()
            assert found == [truth[kind][k - 1] for k in level], kind
    assert list(read(tmp_path, text=True).conditions) == ["text"]  # a label that nobody asked for is left alone
    assert list(read(tmp_path, numbers="age").conditions) == ["numbers"]


@pytest.mark.fast
def test_images_without_captions_are_all_named_or_left_out(tmp_path):
    bad = [{}, {"text": None}, {"text": 3}, {"text": "\ud800"}, {"text": "x" * 10_001}, {"text": ["a"]}]
    for level in range(8):
        put(tmp_path, f"{level}.png", flat(level))
    rows = [{"text": "good"}, *bad]
    put(tmp_path, "metadata.jsonl", "\n".join(json.dumps({"file_name": f"{k}.png", **r}) for k, r in enumerate(rows)))
    first, *told = refused(tmp_path, text=True).splitlines()
    assert first.startswith("7 of 8 images") and "--skip-bad" in first
    said = ['or "" for none, got None'] * 2 + [
        "got 3",
        "surrogates",
        "10,000 letters in 'text', got 10,001",
        "got ['a']",
    ]
    for k, (line, reason) in enumerate(zip(told[:6], said, strict=True), start=2):
        assert f"metadata.jsonl, line {k}: {k - 1}.png needs a caption" in line and reason in line
    assert "7.png is not named in metadata.jsonl" in told[6] and len(told) == 7
    with pytest.warns(UserWarning, match="7 of 8 images cannot be used, and are left out"):
        samples = read(tmp_path, text=True, is_forgiving=True)
    assert captions_of(samples) == ["good"] and shown(samples) == {"": [0]}


@pytest.mark.fast
def test_a_picture_that_is_bad_leaves_no_caption(tmp_path):
    described(tmp_path, LINES)
    put(tmp_path, "2.png", b"hello")
    with pytest.warns(UserWarning, match=r"2\.png is no image"):
        samples = read(tmp_path, text=True, is_forgiving=True)
    assert samples.captions == ("one", "three") and samples.y["text"].tolist() == [0, 1]


@pytest.mark.fast
def test_captions_that_are_nowhere_are_missed(tmp_path):
    described(tmp_path, [{"file_name": line["file_name"], "label": line["label"]} for line in LINES])
    told = refused(tmp_path, text=True)
    assert "no line of" in told and "has the key 'text', which holds the caption of its image; add them, or" in told


@pytest.mark.fast
def test_data_without_captions_says_who_has_some(tmp_path):
    for data in ("digits", "moons"):
        with pytest.raises(ValueError, match=r"text is for .*metadata\.jsonl, .* got True for .*; leave it"):
            source_of(data, text=True)
    described(tmp_path / "a", LINES)
    assert captions_of(source_of(str(tmp_path / "a"), text=True).load()) == ["one", "two", "three"]
    assert captions_of(source_of("shapes:9", text=True).load()) == captions_of(source_of("shapes:9").load())


@pytest.mark.fast
def test_a_folder_that_cannot_be_trained_on_says_so_at_once(tmp_path):
    assert "there is no folder" in refused(tmp_path / "nothing")
    (tmp_path / "a").mkdir()
    assert "there are no images in" in refused(tmp_path)
    put(tmp_path, "b/1.png", flat(1))
    assert "a/ is a folder without an image" in refused(tmp_path)
    put(tmp_path, "a/2.png", flat(2, size=6))
    told = refused(tmp_path)
    assert "6 x 6 pixels of a/2.png" in told and "4 x 4 of b/1.png" in told and "--size N" in told
    samples = read(tmp_path, size=8)
    assert shown(samples) == {"a": [2], "b": [1]} and samples.shape == (1, 8, 8)
    put(tmp_path, "3.png", flat(3))
    assert "3.png lies beside the folders of classes" in refused(tmp_path, size=8)
    for asked in ({"label": "kind"}, {"numbers": "age"}, {"text": True}):
        told = refused(tmp_path, **asked)
        assert "label, numbers and text name keys of metadata.jsonl, got " in told and "which has no metadata" in told
    assert "size must be 0 or more" in refused(tmp_path, size=-1) and "size must be up to" in refused(
        tmp_path, size=10**6
    )


@pytest.mark.fast
def test_a_class_for_each_picture_is_refused(tmp_path):
    for name in "abc":
        put(tmp_path, f"{name}/1.png", flat(1))
    assert "its folders must be classes, got a different one for each of the 3" in refused(tmp_path)


@pytest.mark.fast
def test_one_class_and_one_sample_are_read(tmp_path):
    put(tmp_path, "a/1.png", flat(1))
    samples = read(tmp_path)
    assert samples.classes == ("a",) and len(samples) == 1
    with pytest.raises(ValueError, match="held_out must leave samples on both sides of the split"):
        samples.split(0.2)
    put(tmp_path, "a/2.png", flat(2))
    assert shown(read(tmp_path)) == {"a": [1, 2]}


@pytest.mark.fast
def test_a_name_that_is_no_text_is_refused(tmp_path):
    put(tmp_path, "a\nb/1.png", flat(1))
    assert "must be letters, got 'a\\nb/1.png'" in refused(tmp_path)
    Path(tmp_path / "a\nb").rename(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    assert "must be letters, got '\\udcff/1.png'" in refused(tmp_path)


@pytest.mark.fast
def test_links_are_followed_once_and_one_to_nothing_is_bad(tmp_path):
    put(tmp_path, "far/1.png", flat(1))
    (tmp_path / "near").mkdir()
    (tmp_path / "near/a").symlink_to(tmp_path / "far")
    (tmp_path / "far/back").symlink_to(tmp_path / "near")
    assert shown(read(tmp_path / "near")) == {"a": [1]}
    (tmp_path / "far/2.png").symlink_to(tmp_path / "nothing")
    assert "a/2.png cannot be read: No such file" in refused(tmp_path / "near")


@pytest.mark.fast
def test_a_changed_folder_is_read_again_and_an_unchanged_one_is_not(tmp_path, monkeypatch):
    for level in range(3):
        put(tmp_path, f"{level}.png", flat(level))
    before = read(tmp_path)
    monkeypatch.setattr("pathline.data.pictures.picture_of", None)  # reading would fail
    assert torch.equal(read(tmp_path).x, before.x)
    monkeypatch.undo()
    put(tmp_path, "1.png", flat(77))
    assert shown(read(tmp_path)) == {"": [0, 77, 2]} and read(tmp_path).digest != before.digest


def heap(folder: Path, count: int) -> dict[str, str]:
    """So many pictures in three classes, one in twenty of them bad: name and reason of each."""
    x = noise(16, 16, 3)
    good = [
        png(x), saved(x, "JPEG"), png(noise(16, 16, dtype="uint16")), png(noise(16, 16, 2)), saved(x, "GIF"),
        saved(x, "TIFF", "CMYK"), png(noise(16, 16, 4)), saved(x, "WEBP"), saved(x, "PNG", "P"),
    ]  # fmt: skip
    wrong = [
        (saved(noise(16, 16, 3))[:300], "is damaged"), (b"", "is empty"), (frames("GIF"), "is animated"),
        (b"hello", "is no image"), (png(x, size=(60_000, 60_000)), "declares"), (saved(x, "JPEG")[:200], "is "),
    ]  # fmt: skip
    bad = {}
    for k in range(count):
        name = f"{'abc'[k % 3]}/{k:04}.png"
        content, reason = wrong[k // 20 % 6] if k % 20 == 7 else (good[k % 9], "")
        put(folder, name, content)
        bad |= {name: reason} if reason else {}
        if k % 20 == 9:
            put(folder, f"{'abc'[k % 3]}/._{k:04}.png", b"\0\5\x16\7")
    return bad


@pytest.mark.parametrize("count", [60, 1000])
def test_every_bad_file_is_named_before_anything_is_trained(tmp_path, count):
    bad = heap(tmp_path, count)
    with pytest.raises(ValueError) as error:
        read(tmp_path)
    first, *told = str(error.value).splitlines()
    assert first.startswith(f"{len(bad)} of {count:,} images in {tmp_path} cannot be used") and "--skip-bad" in first
    assert len(told) == len(bad) == count // 20
    assert all(
        line.strip().startswith(f"{name} {reason}")
        for line, (name, reason) in zip(told, sorted(bad.items()), strict=True)
    )
    for _ in range(2):  # the second time, from the cache
        with pytest.warns(UserWarning) as warned:
            samples = source_of(str(tmp_path), skip_bad=True).load()
        assert [str(warning.message).splitlines()[1:] for warning in warned] == [told]
    assert len(samples) == count - len(bad) and samples.shape == (3, 16, 16)
    assert f"{len(bad)} bad ones left out" in samples.title and str(tmp_path) not in samples.title
