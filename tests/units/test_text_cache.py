"""The cache of encoded captions: what is read is what was made, to the bit, and damage is made good."""

import os
import shutil
import threading
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch

from pathline.networks.text import Text, TextForm
from pathline.text import embedded as module
from pathline.text.embedded import FILE, MANIFEST, embedded
from pathline.text.encoder import Encoder, digest_of, null
from pathline.text.function import FunctionEncoder
from pathline.text.words import WordsEncoder

pytestmark = pytest.mark.fast

CAPTIONS = ["a cat", "", "a dog", "a cat", "three blind mice", "a dog"]


@dataclass(frozen=True)
class Letters(Encoder):
    """A vector for each letter of a text, drawn from its code; it counts what it encodes."""

    scale: float = 1.0
    length: int = 20
    seen: list[str] = field(default_factory=list, compare=False)

    kind = "letters"
    is_kept = True

    @property
    def form(self) -> TextForm:
        return TextForm(self.length, features=3, pooled=2)

    @property
    def digest(self) -> str:
        return digest_of(self.kind, self.scale, self.length)

    def encode(self, texts: Sequence[str]) -> Text:
        text = null(self.form, len(texts))
        for row, one in enumerate(texts):
            self.seen.append(one)
            for place, letter in enumerate(one):
                draw = torch.Generator().manual_seed(ord(letter))
                text.tokens[row, place] = self.scale * torch.randn(3, generator=draw)
            text.mask[row, : len(one)] = True
            text.pooled[row] = text.tokens[row].sum(0)[:2]
        return text

    def check(self, texts: Sequence[str]) -> None:
        if max(map(len, texts)) > self.length:
            raise ValueError("too long")

    def fitted(self, captions: Sequence[str], others: Sequence[str] = ()) -> "Letters":
        return self

    def state(self) -> dict[str, object]:
        return {}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty cache."""
    monkeypatch.setenv("PATHLINE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "text"


def same(one: Text, other: Text) -> bool:
    return all(
        a.shape == b.shape and a[:].dtype == b[:].dtype and torch.equal(a[:], b[:])
        for a, b in zip(one, other, strict=True)
    )


def kept(place):
    return sorted(path.name for path in place.iterdir())


def test_each_caption_is_encoded_once_and_read_ever_after(place):
    encoder = Letters()
    text = embedded(encoder, CAPTIONS)
    assert sorted(filter(None, encoder.seen)) == ["a cat", "a dog", "three blind mice"]
    assert same(text, Letters().encode(CAPTIONS))
    assert [place.stat().st_mode & 0o777 for place in next(place.iterdir()).iterdir()] == [0o666 & ~umask()] * 2
    again = Letters()
    assert same(embedded(again, CAPTIONS), text) and same(embedded(again, CAPTIONS[::-1]), again.encode(CAPTIONS[::-1]))
    assert again.seen == CAPTIONS[::-1]  # by the test's own call
    assert len(kept(place)) == 1 and kept(place)[0].startswith(f"{encoder.digest[:24]}-")
    for part in text:
        part[:].zero_()  # the caller's own
    assert same(embedded(Letters(), CAPTIONS), Letters().encode(CAPTIONS))


def test_only_words_are_held_and_each_caption_finds_its_own(place):
    for _ in range(2):  # made, and read
        text = embedded(Letters(), CAPTIONS)
        padded = text.tokens.x
        assert padded.tokens.shape == (5 + 0 + 5 + 16, 3) and padded.shape == (4, 20, 3) and padded.ndim == 3
        for index in (torch.tensor([4, 0, 4, 1]), slice(1, 5), slice(0, 0)):
            whole = Letters().encode([CAPTIONS[k] for k in torch.arange(6)[index].tolist()])
            assert all(torch.equal(a[index], b) for a, b in zip(text, whole, strict=True))
    others = text.tokens.take(torch.tensor([2, 1]))
    assert torch.equal(others[:], Letters().encode(["a dog", ""]).tokens)


def umask() -> int:
    before = os.umask(0)
    os.umask(before)
    return before


def test_another_encoder_or_other_captions_are_made_on_their_own(place):
    for encoder, captions in ((Letters(), CAPTIONS), (Letters(2.0), CAPTIONS), (Letters(), ["a cat"])):
        assert same(embedded(encoder, captions), encoder.encode(captions))
    assert len(kept(place)) == 3
    assert embedded(Letters(), []).tokens.shape == (0, 20, 3) and len(kept(place)) == 3


def test_captions_without_words_are_kept_too(place):
    for _ in range(2):
        assert same(embedded(Letters(), ["", ""]), Letters().encode(["", ""]))


@pytest.mark.parametrize("name", [FILE, MANIFEST])
@pytest.mark.parametrize("damage", ["gone", "cut", "empty", "flipped", "added", "folder"])
def test_what_is_damaged_is_made_anew(place, name, damage):
    truth = embedded(Letters(), CAPTIONS)
    path = next(place.iterdir()) / name
    data = bytearray(path.read_bytes())
    if damage == "flipped":
        data[len(data) // 2] ^= 1
    path.unlink()
    if damage == "folder":
        path.mkdir()
    elif damage != "gone":
        path.write_bytes({"cut": data[:-9], "empty": b"", "flipped": data, "added": data + b"}"}[damage])
    encoder = Letters()
    assert same(embedded(encoder, CAPTIONS), truth) and encoder.seen
    assert same(embedded(again := Letters(), CAPTIONS), truth) and not again.seen
    assert len(kept(place)) == 1


def test_large_ones_are_rounded_the_first_time_as_well(place, monkeypatch):
    truth = Letters().encode(CAPTIONS)
    monkeypatch.setattr(module, "LARGE", 0)
    first = embedded(Letters(), CAPTIONS)
    assert same(embedded(again := Letters(), CAPTIONS), first) and not again.seen
    error = (first.tokens[:] - truth.tokens).abs()
    assert 0 < error.max() and (error <= 2.0**-11 * truth.tokens.abs()).all()  # half a unit of float16's last place
    assert torch.equal(first.pooled[:], truth.pooled)
    assert same(embedded(Letters(1e6), CAPTIONS), Letters(1e6).encode(CAPTIONS))  # beyond what float16 holds


def test_several_at_once_make_one_folder(place):
    start, found = threading.Barrier(4), []

    def work():
        encoder = Letters()
        start.wait()
        found.append(embedded(encoder, CAPTIONS))

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(found) == 4 and all(same(text, Letters().encode(CAPTIONS)) for text in found)
    assert len(kept(place)) == 1


@pytest.mark.parametrize("is_whole", [True, False])
def test_where_another_process_was_faster_its_folder_stays_if_it_is_whole(place, monkeypatch, is_whole):
    rename = Path.rename

    def late(path, target):
        if path.name == "whole":
            monkeypatch.setattr(Path, "rename", rename)
            shutil.copytree(path, target)
            (target / "theirs").touch()
            if not is_whole:
                (target / FILE).write_bytes(b"")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", late)
    truth = Letters().encode(CAPTIONS)
    with nullcontext() if is_whole else pytest.warns(UserWarning, match="cannot be kept"):
        assert same(embedded(Letters(), CAPTIONS), truth)
    assert len(kept(place)) == 1 and (place / kept(place)[0] / "theirs").exists()
    assert same(embedded(encoder := Letters(), CAPTIONS), truth) and bool(encoder.seen) != is_whole
    assert same(embedded(encoder := Letters(), CAPTIONS), truth) and not encoder.seen


def test_what_killed_processes_left_goes_after_an_hour(place):
    embedded(Letters(), CAPTIONS)
    name = kept(place)[0]
    old, new = (place / f".{name}-{end}" for end in ("old", "new"))
    for draft in (old, new):
        (draft / "whole").mkdir(parents=True)
    for path in (old / "whole", old):
        os.utime(path, (time.time() - 2 * module.ABANDONED,) * 2)
    embedded(Letters(2.0), CAPTIONS)
    assert not old.exists() and new.exists()


def test_a_cache_that_cannot_be_written_is_said_and_no_harm(place):
    place.parent.mkdir(parents=True)
    place.write_text("a file where a folder should be")
    with pytest.warns(UserWarning, match=r"cannot be kept in .*they are made anew .*PATHLINE_CACHE"):
        assert same(embedded(Letters(), CAPTIONS), Letters().encode(CAPTIONS))


def test_a_full_disk_is_said_and_no_harm(place, monkeypatch):
    def full(*_):
        raise module.SafetensorError("No space left on device")

    monkeypatch.setattr(module.safetensors.torch, "save_file", full)
    with pytest.warns(UserWarning, match="No space left on device"):
        assert same(embedded(Letters(), CAPTIONS), Letters().encode(CAPTIONS))
    assert kept(place) == []


def test_words_and_functions_are_not_kept(place):
    words = WordsEncoder().fitted(CAPTIONS)
    assert same(embedded(words, CAPTIONS), words.encode(CAPTIONS))
    function = FunctionEncoder(lambda texts: torch.tensor([[float(len(text))] for text in texts]), "length")
    assert same(embedded(function, CAPTIONS), function.encode(CAPTIONS))
    assert not place.exists()


def test_progress_is_told_and_a_caption_that_is_too_long_stops_all_at_once(place, monkeypatch):
    monkeypatch.setattr(module, "CHUNK", 2)
    told = []
    many = [f"{k}" * (k % 7) for k in range(9)] + ["x"] * 5
    text = embedded(Letters(), many, lambda done, all_: told.append((done, all_)))
    assert same(text, Letters().encode(many))
    assert told == [(2, 9), (4, 9), (6, 9), (8, 9), (9, 9)]
    encoder = Letters(length=3)
    with pytest.raises(ValueError, match="too long"):
        embedded(encoder, many)
    assert not encoder.seen
    with pytest.raises(ValueError, match="several strings"):
        embedded(encoder, "abc")
