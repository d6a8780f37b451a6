"""Mutated images, IDX files, metadata and settings: a ValueError or nothing, little memory, and no code is run.

PATHLINE_FUZZ=10000 tries so many of each, in place of a few.
"""

import gzip
import io
import json
import os
import random
import re
import resource
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

COUNT = int(os.environ.get("PATHLINE_FUZZ", "150"))
MEMORY, SECONDS = 256, 5  # MiB beyond what reading good files takes; for one file
RUNS_CODE = (
    "os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "subprocess.", "exec", "compile", "import",
    "pickle.", "marshal.", "ctypes.", "code.", "socket.", "os.remove", "os.rename", "shutil.",
)  # fmt: skip
EDGES = [
    b"\0\0\0\0",
    b"\xff\xff\xff\xff",
    b"\x7f\xff\xff\xff",
    b"\0\0\xff\xff",
    b"\0\x01\0\0",
    b"\0\0\x10\0",
    b"\xff\xd8",
]
WORDS = [
    "nan", "-inf", "1e999", "9" * 400, "9" * 5000, "-1", "0", "[]", "[[1]]", "{}", "{a=1}", "true", '""', '"\\u0000"',
    "''''''", "1979-05-27", "07:32:00", "[" * 3000, "{a=" * 3000, '"moons"', "0x7fffffffffffffffff", "1_0", "0.0", "3",
]  # fmt: skip


def seeds() -> Iterator[tuple[str, bytes]]:
    """Good files of every kind that is read."""
    import numpy as np
    from PIL import Image

    draw = np.random.default_rng(0)

    def image(mode: str) -> Image.Image:
        made = Image.fromarray(draw.integers(0, 256, (12, 12, 4), dtype="uint8"))
        return made.convert("RGB").convert(mode) if mode not in ("RGBA", "I;16") else made

    deep = Image.fromarray(draw.integers(0, 1 << 16, (12, 12), dtype="uint16"))
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a thing"
    for suffix, made, options in (
        ("PNG", image("L"), {}), ("PNG", image("RGBA"), {"exif": exif}), ("PNG", image("P"), {"transparency": 3}),
        ("PNG", deep, {}), ("PNG", image("RGB"), {"dpi": (72, 72), "icc_profile": b"profile" * 9}),
        ("PNG", image("RGB"), {"save_all": True, "append_images": [image("RGB")]}),
        ("JPEG", image("RGB"), {"exif": exif}), ("JPEG", image("CMYK"), {}),
        ("JPEG", image("L"), {"progressive": True}),
        ("MPO", image("RGB"), {"save_all": True, "append_images": [image("RGB")]}),
        ("GIF", image("P"), {}), ("GIF", image("RGB"), {"save_all": True, "append_images": [image("RGB")] * 2}),
        ("TIFF", image("RGBA"), {"compression": "tiff_lzw"}), ("TIFF", image("CMYK"), {}), ("TIFF", deep, {}),
        ("TIFF", image("1"), {"compression": "group4"}), ("TIFF", image("RGB"), {"compression": "jpeg"}),
        ("WEBP", image("RGBA"), {"lossless": True}), ("WEBP", image("RGB"), {"exif": exif}),
        ("BMP", image("RGB"), {}), ("BMP", image("P"), {}), ("PPM", image("RGB"), {}), ("PPM", deep, {}),
    ):  # fmt: skip
        file = io.BytesIO()
        made.save(file, suffix, **options)
        yield "image", file.getvalue()
    body = bytes(draw.integers(0, 256, 5 * 4 * 4, dtype="uint8"))
    whole = b"\0\0\x08\x03" + struct.pack(">III", 5, 4, 4) + body
    yield "idx", whole
    yield "idx.gz", gzip.compress(whole)
    rows = [{"file_name": f"{k}.png", "label": k % 2, "text": "words", "age": k / 2} for k in range(4)]
    yield "jsonl", "\n".join(map(json.dumps, rows)).encode()
    for preset in sorted((Path(__file__).parents[2] / "pathline" / "presets").glob("*.toml")):
        yield "toml", b'preset = "moons"\n' + preset.read_bytes()


def mutated(kind: str, data: bytes, draw: random.Random) -> bytes:
    """The same with a few bytes, words or pieces changed; sums of a PNG are made right, for its insides to be read."""
    found = bytearray(data)
    for _ in range(draw.choice([1, 1, 2, 4, 16])):
        at = draw.randrange(len(found) + 1)
        way = draw.randrange(7)
        if way <= 1 and found:
            found[at % len(found)] = draw.randrange(256)
        elif way == 2:
            found[at : at + 4] = draw.choice(EDGES)
        elif way == 3:
            found[at:at] = found[draw.randrange(len(found) + 1) :][: draw.randrange(64)]
        elif way == 4:
            del found[at : at + draw.randrange(1, 32)]
        elif way == 5 and draw.random() < 0.3:
            del found[at:]
        elif kind in ("toml", "jsonl"):
            words = list(re.finditer(rb"(?<=[=:] )[^,\n}]+", found))
            if words:
                word = draw.choice(words)
                found[word.start() : word.end()] = draw.choice(WORDS).encode()
    return _summed(bytes(found)) if draw.random() < 0.7 else bytes(found)


def _summed(data: bytes) -> bytes:
    if not data.startswith(b"\x89PNG\r\n\x1a\n"):
        return data
    found, at = bytearray(data), 8
    while at + 12 <= len(found):
        end = at + 8 + int.from_bytes(found[at : at + 4])
        if end + 4 > len(found):
            break
        found[end : end + 4] = zlib.crc32(found[at + 4 : end]).to_bytes(4)
        at = end + 4
    return bytes(found)


def reader(folder: Path) -> Callable[[str, bytes], object]:
    """What reads a file of a kind, as training would."""
    from pathline.config import load_config
    from pathline.data.idx import IDXSource
    from pathline.data.images import ImageFolderSource
    from pathline.data.pictures import picture_of

    pictures = folder / "pictures"
    pictures.mkdir()
    for k in range(4):
        (pictures / f"{k}.png").write_bytes(next(data for kind, data in seeds()))
    idx, packed, toml = folder / "my-idx3-ubyte", folder / "my-idx3-ubyte.gz", folder / "my.toml"

    def read(kind: str, data: bytes) -> object:
        if kind == "image":
            return picture_of(data, len(data) % 2 * 8)
        if kind == "toml":
            toml.write_bytes(data)
            return load_config(str(toml))
        if kind == "jsonl":
            (pictures / "metadata.jsonl").write_bytes(data)
            return list(ImageFolderSource(str(pictures), numbers="age" if len(data) % 2 else "").read())
        path = packed if kind == "idx.gz" else idx
        path.write_bytes(data)
        return list(IDXSource(str(path)).read())

    return read


def main(count: int) -> None:
    """Read mutated files; a line for each thing that must not happen, and a last one that counts."""
    done: list[str] = []
    is_watching = False

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        if is_watching and event.startswith(RUNS_CODE):
            done.append(f"{event} {str(arguments)[:100]}")

    with tempfile.TemporaryDirectory() as folder:
        os.environ["PATHLINE_CACHE"] = folder
        read, good = reader(Path(folder)), list(seeds())
        for kind, data in good:  # what is imported late is there now
            try:
                read(kind, data)
            except ValueError as error:
                assert "animated" in str(error), error
        sys.addaudithook(watch)
        refused, told, draw = 0, 0, random.Random(0)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for kinds in (("image",), ("idx", "idx.gz", "jsonl"), ("toml",)):
            some = [each for each in good if each[0] in kinds]
            for k in range(count):
                kind, seed = some[k % len(some)]
                data = mutated(kind, seed, draw)
                begin, is_watching = time.process_time(), True
                try:
                    read(kind, data)
                except ValueError:
                    refused += 1
                except BaseException as error:
                    done.append(f"{kind} {k}: {error!r}"[:300])
                is_watching = False
                if time.process_time() - begin > SECONDS:
                    done.append(f"{kind} {k}: took {time.process_time() - begin:.1f} s")
                for each in done[told : told + 20]:
                    print(each, data[:40], flush=True)
                told = len(done)
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024
        if grown > MEMORY:
            print(f"{grown} MiB more", flush=True)
        print(f"{3 * count} files, {refused} refused, {grown} MiB more")


def fuzzed(count: int) -> list[str]:
    done = subprocess.run([sys.executable, __file__, str(count)], capture_output=True, text=True, timeout=3600)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.splitlines()


def test_mutated_files_are_read_or_refused_and_run_no_code():
    *wrong, last = fuzzed(COUNT)
    assert wrong == []
    refused = int(last.split()[2])
    assert COUNT < refused < 3 * COUNT  # the mutations bite, and do not always


@pytest.mark.fast
@pytest.mark.parametrize("event", ["os.system", "exec", "subprocess.Popen"])
def test_the_watch_knows_what_runs_code(event):
    assert event.startswith(RUNS_CODE)


if __name__ == "__main__":
    main(int(sys.argv[1]))
