"""From captions to prompts on the command line: `shapes`, a folder with captions, several conditions at once."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import pathline as pl
from pathline.cli.conditions import bound
from pathline.cli.main import main

SMALL = ["--width", "8", "--depth", "2", "--steps", "3", "--batch-size", "8", "--lr-schedule", "constant"]
FEW = ["--steps", "2"]


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    """A run on few shapes, which has learned next to nothing."""
    out = tmp_path_factory.mktemp("runs") / "shapes"
    assert main(["train", "shapes", "--data", "shapes:100", "--out", str(out), *SMALL]) == 0
    return out


@pytest.fixture(scope="module")
def cats(tmp_path_factory):
    """A run on images with a class, a number and a caption each."""
    folder = tmp_path_factory.mktemp("cats")
    noise = np.random.default_rng(0)
    with (folder / "metadata.jsonl").open("w") as lines:
        for i in range(40):
            Image.fromarray(noise.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(folder / f"{i}.png")
            row = {"label": ("cat", "dog")[i % 2], "age": i / 4, "text": f"{('grey', 'red')[i // 2 % 2]} with a hat"}
            lines.write(json.dumps({"file_name": f"{i}.png", **row}) + "\n")
    out = folder.with_name("run")
    flags = ["--label", "label", "--numbers", "age", "--text", "words", "--drop-each", "text=0.2,class=0.1"]
    assert main(["train", "images", "--data", str(folder), *flags, "--out", str(out), *SMALL]) == 0
    return out


def sampled(run, tmp_path, *flags):
    assert main(["sample", str(run), "--out", str(tmp_path / "x.npz"), *FEW, *flags]) == 0
    with np.load(tmp_path / "x.npz", allow_pickle=False) as file:
        return file["x"], file["y"]


def test_a_run_keeps_its_words_and_some_captions(shapes):
    run = pl.Run.open(shapes)
    assert run.kinds == ("text",) and run.classes == () and run.numbers == ()
    captions, seen = run.kept()["text"], set(run.config.load().captions)
    assert set(captions) <= seen and not set(captions) & set(run.unseen_captions)
    pairs = ("purple circle", "orange square", "green triangle", "yellow cross")
    assert run.unseen_captions and all(any(pair in caption for pair in pairs) for caption in run.unseen_captions)
    assert not any(pair in caption for caption in captions for pair in pairs)
    assert {"red", "circle", "above", "of"} <= set(run.encoder.words)
    for name in ("grid.png", "noise-to-data.gif", "loss.png"):
        assert (shapes / "samples" / name).stat().st_size
    assert "A text-conditional model of shapes" in (shapes / "README.md").read_text()
    assert "captions, read by words (sha256" in (shapes / "README.md").read_text()


def test_samples_follow_the_prompt_that_is_given(shapes, tmp_path):
    run = pl.Run.open(shapes)
    x, y = sampled(shapes, tmp_path, "--prompt", "a red circle", "--count", "3", "--guidance", "4")
    assert y.tolist() == ["a red circle"] * 3 and x.shape == (3, 3, 16, 16)
    field = run.field()
    text = run.encoder.encode(["a red circle"])
    truth = pl.sample(pl.ClassifierFree(field.given(text), field.given(None), 4.0), (3, 3, 16, 16), steps=2, seed=0)
    assert np.allclose(x, run.normalisation.back(truth).numpy(), atol=1e-3)


def test_a_negative_prompt_takes_the_place_of_no_condition(shapes, tmp_path):
    run = pl.Run.open(shapes)
    flags = ["--prompt", "a red circle", "--negative", "a blue square", "--guidance", "3", "--count", "2"]
    x, _ = sampled(shapes, tmp_path, *flags)
    field, (to, away) = run.field(), (run.encoder.encode([text]) for text in ("a red circle", "a blue square"))
    truth = pl.sample(pl.ClassifierFree(field.given(to), field.given(away), 3.0), (2, 3, 16, 16), steps=2, seed=0)
    assert np.allclose(x, run.normalisation.back(truth).numpy(), atol=1e-3)


def test_a_file_of_prompts_is_gone_through_in_turn(shapes, tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_text("a red circle\n\n  a small blue square left of a red cross \n")
    x, y = sampled(shapes, tmp_path, "--prompts", str(path), "--count", "5")
    assert y.tolist() == ["a red circle", "a small blue square left of a red cross"] * 2 + ["a red circle"]
    alone, _ = sampled(shapes, tmp_path, "--prompt", "a red circle", "--count", "5")
    assert np.allclose(x[::2], alone[::2], atol=1e-3)  # sample i depends on the seed and i, and on its own prompt


def test_an_empty_prompt_is_no_condition(shapes, tmp_path):
    run = pl.Run.open(shapes)
    x, _ = sampled(shapes, tmp_path, "--prompt", "", "--count", "2")
    truth = pl.sample(run.field().given(None), (2, 3, 16, 16), steps=2, seed=0)
    assert np.allclose(x, run.normalisation.back(truth).numpy(), atol=1e-3)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--prompt", "a purpel circle"], "has the word 'purpel', which is not known; did you mean 'purple'?"),
        (["--prompt", "a red circle " * 9], "has 27 words, and words takes 16 at most; shorten it"),
        (["--prompt", "a circle", "--prompts", "x.txt"], "either --prompt or --prompts is to be given"),
        (["--prompts", "nowhere.txt"], "--prompts must be a file of text, got nowhere.txt: No such file"),
        (["--prompt", "a circle", "--negative", "a cross"], "--negative is what guidance leads away from"),
        (["--negative", "a grene cross", "--guidance", "3"], "has the word 'grene'"),
        (["--class", "3"], "--class needs a model with classes"),
        (["--numbers", "3"], "--numbers needs a model with numbers"),
    ],
)
def test_what_cannot_be_followed_is_refused_in_a_sentence(shapes, capsys, flags, said):
    assert main(["sample", str(shapes), *FEW, *flags]) == 2
    told = capsys.readouterr().err
    assert said in told and "Traceback" not in told


def test_a_file_of_prompts_with_none_or_no_text_is_refused(shapes, tmp_path, capsys):
    (tmp_path / "blank.txt").write_text("\n \n")
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfe\x00")
    for name, said in (("blank.txt", "which has none"), ("bytes.txt", "must be a file of text in UTF-8")):
        assert main(["sample", str(shapes), "--prompts", str(tmp_path / name)]) == 2
        assert said in capsys.readouterr().err


def test_prompts_for_an_unconditional_model_are_refused(bare, capsys):
    assert main(["sample", str(bare), "--prompt", "a red circle"]) == 2
    assert "--prompt needs a model with text" in capsys.readouterr().err


def test_an_empty_prompt_is_refused_where_no_condition_was_never_learned(shapes):
    run = pl.Run.open(shapes)
    never = replace(run, config=replace(run.config, drop=0.0))
    with pytest.raises(ValueError, match=r"--prompt must not be empty, .* never learned"):
        bound(never, run.field(), 2, prompts=["a red circle", " "])
    assert bound(never, run.field(), 2, prompts=["a red circle"])[1]["text"].tolist() == ["a red circle"] * 2


def test_captions_may_be_left_alone():
    samples = pl.Config(data="shapes:60").load()
    assert samples.conditions == {} and samples.captions == () and samples.x.shape == (60, 3, 16, 16)


def test_captions_are_asked_for_where_there_are_none(tmp_path, capsys):
    assert main(["train", "digits", "--text", "words", "--out", str(tmp_path / "run")]) == 2
    assert "text is for" in capsys.readouterr().err and not (tmp_path / "run").exists()
    assert main(["train", "shapes", "--text", "wrods", "--out", str(tmp_path / "run")]) == 2
    assert "unknown encoder 'wrods'; did you mean 'words'?" in capsys.readouterr().err


def test_a_class_a_number_and_a_caption_come_together(cats, tmp_path):
    run = pl.Run.open(cats)
    assert run.kinds == ("class", "numbers", "text") and run.config.shares() == {"all": 0.1, "text": 0.2, "class": 0.1}
    _, y = sampled(cats, tmp_path, "--count", "4")
    rows = {(("cat", "dog")[i % 2], i / 4, f"{('grey', 'red')[i // 2 % 2]} with a hat") for i in range(40)}
    assert {(name, v[0], text) for name, v, text in y.tolist()} <= rows  # those of one training sample
    x, y = sampled(cats, tmp_path, "--class", "dog", "--numbers", "3", "--prompt", "red with a hat", "--count", "2")
    assert y.dtype.names == ("class", "numbers", "text") and y[0].tolist()[0] == "dog"
    assert y["numbers"].tolist() == [[3.0], [3.0]] and set(y["text"]) == {"red with a hat"}
    given = run.conditions(
        {"class": torch.tensor([1]), "numbers": torch.tensor([[3.0]]).double(), "text": y["text"][:1]}
    )
    truth = pl.sample(run.field().given(given), (2, 3, 8, 8), steps=2, seed=0)
    assert np.allclose(x, run.normalisation.back(truth).numpy(), atol=1e-3)


def test_a_kind_that_was_dropped_on_its_own_is_null_where_only_others_are_given(cats, tmp_path):
    _, y = sampled(cats, tmp_path, "--prompt", "red with a hat", "--count", "2")
    assert y.dtype.names == ("numbers", "text")  # the class has a null of its own; numbers were never dropped alone
    _, y = sampled(cats, tmp_path, "--class", "cat", "--count", "2")
    assert y.dtype.names == ("class", "numbers")


def test_a_negative_prompt_stands_beside_what_is_never_null_alone(cats, tmp_path):
    flags = ("--class", "dog", "--numbers", "3", "--prompt", "red with a hat", "--count", "1")
    x, y = sampled(cats, tmp_path, *flags, "--negative", "grey with a hat", "--guidance", "3")
    run = pl.Run.open(cats)
    given = {"class": torch.tensor([1]), "numbers": torch.tensor([[3.0]]).double(), "text": y["text"]}
    away = {"numbers": given["numbers"], "text": np.array(["grey with a hat"])}  # a class was dropped alone: null
    field = pl.guided(run.field(), run.conditions(given), 3.0, run.conditions(away))
    assert np.allclose(x, run.normalisation.back(pl.sample(field, (1, 3, 8, 8), steps=2, seed=0)).numpy(), atol=1e-3)


def test_an_edit_under_a_prompt_keeps_the_other_conditions_of_its_sample(cats, tmp_path):
    run, out = pl.Run.open(cats), tmp_path / "edits.npz"
    samples = run.config.load()
    _, held_out = samples.split(run.config.held_out, run.config.seed)
    assert main(["edit", str(cats), "--prompt", "red with a hat", *FEW, "--out", str(out)]) == 0
    with np.load(out, allow_pickle=False) as file:
        y = file["y"]
    assert y.dtype.names == ("class", "numbers", "text") and set(y["text"]) == {"red with a hat"}
    assert y["class"].tolist() == [run.classes[k] for k in held_out.y["class"].tolist()]
    assert np.allclose(y["numbers"], held_out.conditions["numbers"])


def test_samples_without_captions_are_taken_under_none(shapes, tmp_path, capsys):
    np.savez(tmp_path / "plain.npz", x=np.full((2, 3, 16, 16), 24.0))
    flags = ["--data", str(tmp_path / "plain.npz"), *FEW, "--out"]
    assert main(["edit", str(shapes), *flags, str(tmp_path / "x.png")]) == 0
    assert "plain comes without conditions" in capsys.readouterr().err
    assert main(["edit", str(shapes), "--prompt", "a red circle", *flags, str(tmp_path / "x.png")]) == 0
    assert main(["likelihood", str(shapes), "--divergence", "hutchinson:2", *flags, str(tmp_path / "x.csv")]) == 0
    assert "comes without captions, so all is scored under the null condition" in "".join(capsys.readouterr())


def test_what_is_to_be_tried_next_can_be(tmp_path, capsys):
    with (tmp_path / "metadata.jsonl").open("w") as lines:
        for i in range(20):
            Image.new("RGB", (8, 8)).save(tmp_path / f"{i}.png")
            lines.write(json.dumps({"file_name": f"{i}.png", "text": ("", "?!", "red")[i % 3]}) + "\n")
    flags = ["--data", str(tmp_path), "--text", "words", "--drop", "0", "--out", str(tmp_path / "run"), *SMALL]
    assert main(["train", "images", *flags]) == 0
    assert "--prompt red\n" in "".join(capsys.readouterr())  # a caption with a word, and no guidance without a null


def test_shares_of_kinds_that_the_model_has_not_are_refused_before_there_is_a_run(cats, tmp_path, capsys):
    data, out = pl.Run.open(cats).config.data, tmp_path / "run"
    flags = ["--data", data, "--label", "label", "--text", "words", *SMALL, "--out", str(out), "--drop-each"]
    assert main(["train", "images", *flags, "numbers=0.2"]) == 2
    assert "conditioned on, class, text, got 'numbers'" in capsys.readouterr().err and not out.exists()
    with pytest.raises(ValueError, match="of class, numbers, text, such as"):
        pl.Config(drop_each="all=0.2")  # which is what drop says


def test_all_commands_take_a_model_of_several_conditions(cats, tmp_path, capsys):
    out = str(tmp_path / "scores.csv")
    assert (
        main(["likelihood", str(cats), "--count", "4", "--steps", "2", "--divergence", "hutchinson:2", "--out", out])
        == 0
    )
    assert (tmp_path / "scores.csv").read_text().splitlines()[0].endswith("class,age,text")
    assert main(["info", str(cats)]) == 0
    said = capsys.readouterr().out
    assert "read by words" in said and "age 0 to 9.75" in said
    assert main(["sample", str(cats), *FEW, "--count", "3", "--out", str(tmp_path / "x.png")]) == 0
    assert main(["verify", str(cats), "--quick"]) in (0, 1)
    assert "class and numbers and text" in capsys.readouterr().out


def scores(folder):
    """Each sample's score, and its conditions, as the command writes them."""
    lines = (folder / "scores.csv").read_text().splitlines()
    return [line.split(",")[1:] for line in lines[1:]]


@pytest.mark.parametrize("name", ["shapes", "cats"])
def test_samples_that_were_made_are_read_back_with_what_they_were_made_under(name, request, tmp_path, capsys):
    run, flags = request.getfixturevalue(name), ["--steps", "2", "--divergence", "hutchinson:2"]
    _, y = sampled(run, tmp_path, "--count", "4")
    out = ["--out", str(tmp_path / "scores.csv")]
    assert main(["likelihood", str(run), "--data", str(tmp_path / "x.npz"), *flags, *out]) == 0
    assert "null condition" not in "".join(capsys.readouterr())
    texts = y["text"] if name == "cats" else y
    assert [row[-1] for row in scores(tmp_path)] == texts.tolist()
    if name == "cats":
        found = [(row[-3], float(row[-2])) for row in scores(tmp_path)]
        assert found == [(name, age) for name, (age,), _ in y.tolist()]
    assert main(["edit", str(run), "--data", str(tmp_path / "x.npz"), *FEW, "--out", str(tmp_path / "y.npz")]) == 0
    with np.load(tmp_path / "y.npz", allow_pickle=False) as file:
        assert file["y"].tolist() == y.tolist()


def test_an_array_with_captions_trains_a_model_that_takes_prompts(tmp_path):
    np.savez(tmp_path / "my.npz", x=np.zeros((20, 1, 8, 8)) + 0.5, y=np.array(["a cat", "a dog"] * 10))
    flags = ["--data", str(tmp_path / "my.npz"), "--text", "words", "--out", str(tmp_path / "run"), *SMALL]
    assert main(["train", "images", *flags]) == 0
    assert pl.Run.open(tmp_path / "run").kinds == ("text",)
    _, y = sampled(tmp_path / "run", tmp_path, "--prompt", "a dog", "--count", "2")
    assert y.tolist() == ["a dog"] * 2


def test_a_run_whose_words_are_gone_or_changed_says_so(shapes, capsys):
    path = shapes / "text.json"
    kept = path.read_bytes()
    try:
        path.write_bytes(kept.replace(b"circle", b"cercle"))
        assert main(["sample", str(shapes), "--prompt", "a red circle"]) == 2
        assert "text.json, what captions are read by, cannot be read: its bytes are not" in capsys.readouterr().err
        path.unlink()
        assert main(["sample", str(shapes)]) == 2
        assert "text.json" in capsys.readouterr().err
    finally:
        path.write_bytes(kept)


@pytest.mark.slow
def test_a_training_with_captions_goes_on_as_if_it_had_not_stopped(shapes, tmp_path):
    flags = ["--data", "shapes:300", *SMALL]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert main(["train", "shapes", *flags, "--steps", "4", "--checkpoint-every", "2", "--out", str(whole)]) == 0
    shutil.copytree(whole, broken)
    shutil.rmtree(broken / "checkpoints" / "step-00000004")
    (broken / "README.md").unlink()
    assert main(["train", "--resume", str(broken)]) == 0
    first, second = (pl.Run.open(path).checkpoint().model for path in (whole, broken))
    assert first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("command", ["sample", "edit"])
def test_a_folder_in_the_place_of_a_file_is_refused_before_the_work(shapes, tmp_path, capsys, command):
    (tmp_path / "a.npz").mkdir()
    assert main([command, str(shapes), "--out", str(tmp_path / "a.npz")]) == 2
    assert "--out must be a file, and there is a folder" in capsys.readouterr().err
