"""A config.json that was edited after training is noticed: before, samples were made by another equation, or scale."""

import json

import pytest

from pathline.cli.main import main
from pathline.runs import Run
from pathline.trainer import Trainer
from pathline.training import checkpoint


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of one step, without its pictures."""
    from pathline.config import load_config

    folder = tmp_path_factory.mktemp("edited") / "run"
    config = load_config("moons")
    config = type(config)(**config.to_dict() | {"steps": 1, "width": 8, "depth": 1, "batch_size": 8}).resolved()
    samples = config.load()
    training, held_out = samples.split(config.held_out, config.seed)
    run = Run.create(folder, config, training)
    trainer = Trainer(run, training, held_out)
    trainer.begin()
    for _ in trainer.steps():
        pass
    return folder


EDITS = [
    pytest.param({"prediction": "noise"}, "prediction is 'noise', and", id="prediction"),
    pytest.param({"schedule": "cosine"}, "schedule is 'cosine', and", id="schedule"),
    pytest.param({"samples": {"classes": ["lower", "upper"]}}, "classes is ['lower', 'upper']", id="names of classes"),
    pytest.param({"samples": {"normalisation": {"shift": 0.0, "scale": 9.0}}}, "normalisation is [0", id="scale"),
]


@pytest.mark.parametrize(("edit", "words"), EDITS)
def test_an_edit_that_changes_what_weights_mean_is_refused(trained, edit, words, capsys):
    path = trained / "config.json"
    before = path.read_text()
    values = json.loads(before)
    try:
        path.write_text(json.dumps(values | edit | {"samples": values["samples"] | edit.get("samples", {})}))
        assert main(["sample", str(trained), "--count", "2"]) == 2
    finally:
        path.write_text(before)
    told = capsys.readouterr()
    assert "has been edited" in told.err and words in told.err and told.err.count("\n") == 1


def test_info_tells_of_an_edit(trained, capsys):
    path = trained / "config.json"
    before = path.read_text()
    try:
        path.write_text(json.dumps(json.loads(before) | {"prediction": "noise"}))
        assert main(["info", str(trained)]) == 1
    finally:
        path.write_text(before)
    assert "has been edited" in " ".join(capsys.readouterr().out.split())


def test_a_checkpoint_of_before_is_opened_as_it_is(trained):
    run = Run.open(trained)
    found = checkpoint.load(trained, 1)
    del found.state["meaning"]
    run.check(found)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("[" * 100_000, id="deep JSON"),
        pytest.param('{"samples": {"normalisation": {"shift": 0, "scale": 1}, "shape": [1e999]}}', id="infinite shape"),
        pytest.param('{"samples": 3}', id="a number where a table is due"),
        pytest.param(
            '{"samples": {"normalisation": {"shift": 0, "scale": 1}, "shape": [2]}, "width": {"a": 1}}', id="a table"
        ),
        pytest.param("", id="nothing"),
    ],
)
def test_a_config_of_nonsense_is_one_sentence(tmp_path, text, capsys):
    (tmp_path / "config.json").write_text(text)
    assert main(["info", str(tmp_path)]) == 2
    told = capsys.readouterr()
    assert "config.json" in told.err and told.err.count("\n") == 1
