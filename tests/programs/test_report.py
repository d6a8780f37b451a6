"""`pathline verify RUN`: what is told of a model, and what of one that is wrong in a known way."""

import json
import shutil

import pytest
import torch
from PIL import Image

import pathline as pl
from pathline.cli import report as command
from pathline.cli.main import main
from pathline.verify import report
from pathline.verify.parts import field, mixture
from pathline.verify.report import QUICK, Effort, Subject, examined

TURN = torch.tensor([[0.0, 1.0], [-1.0, 0.0]], dtype=torch.float64)
EFFORT = Effort(draws=600, points=24, samples=200, steps=60)


def told(subject, effort=EFFORT):
    """Every finding by its name, and every note."""
    parts = [find() for _, find in examined(subject, effort)]
    return {each.name: each for part in parts for each in part.findings}, [
        note for part in parts for note in part.notes
    ]


def of_modes(model, training=1000):
    return Subject(model, mixture().sample(training, seed=1), mixture().sample(400, seed=2))


class Heads(pl.Field):
    """The exact velocity of the three modes, and a score of one's own making."""

    def __init__(self, score):
        super().__init__()
        self.exact, self.path, self.prediction, self.own = field(), field().path, (pl.VELOCITY, pl.SCORE), score

    def forward(self, x, t):
        u, s = self.exact.read(x, t, *self.prediction)
        return u, self.own(s)


def test_a_tiny_run_is_told_of(digits, capsys):
    assert main(["verify", str(digits), "--quick"]) == 0
    out = capsys.readouterr().out
    assert "known by heart" in out and "worry" in out and "note: velocity and score are read from one head" in out
    values = json.loads((digits / "verify" / "report.json").read_text())
    names = {each["name"]: each for each in values["findings"]}
    assert names["error of the velocity, early"]["verdict"] == "worry"  # after 6 steps
    assert names["known by heart"]["value"] < 0.1
    assert values["step"] == 6 and values["training_samples"] + values["held_out_samples"] == 1797
    assert len(values["curves"]["velocity"]["held-out points"]) == 10
    with Image.open(digits / "verify" / "report.png") as page:
        assert min(page.size) > 1000


def test_of_a_bridge_is_told_what_can_be(bridge, capsys, tmp_path):
    assert main(["verify", str(bridge), "--quick", "--out", str(tmp_path / "page.png")]) == 0
    out = capsys.readouterr().out
    assert (
        "the exact field of a bridge between two data sets is not known" in out
        and "error of the velocity, early" not in out
    )
    assert "Fokker-Planck residual" in out and "memorisation ratio" in out
    assert {path.name for path in tmp_path.iterdir()} == {"page.png", "page.json"}
    assert main(["verify", str(bridge), "--quick", "--json"]) == 0
    same = json.loads(capsys.readouterr().out)
    assert same == json.loads((tmp_path / "page.json").read_text())  # the same seed, the same figures


def test_an_interruption_leaves_nothing(digits, tmp_path, monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(report, "gaps", interrupted)
    assert command.verify_run(digits, True, False, 0, tmp_path / "page.png") == 130
    assert "interrupted; nothing was written" in capsys.readouterr().err and not [*tmp_path.iterdir()]


def test_other_data_is_refused(moons, tmp_path, monkeypatch):
    run = shutil.copytree(moons, tmp_path / "run")
    config = json.loads((run / "config.json").read_text())
    config["samples"]["digest"] = "another"
    (run / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="moons has changed since"):
        command.verify_run(run, True, False, 0, None)
    with pytest.raises(ValueError, match=r"must end in \.png"):
        command.verify_run(moons, True, False, 0, tmp_path / "page.pdf")


def test_an_exact_field_has_no_fault():
    found, notes = told(of_modes(field()))
    assert {each.verdict for each in found.values()} <= {"fine", ""}
    assert found["Fokker-Planck residual"].value < 1e-12 and found["asymmetry of the score"].value < 1e-12
    assert notes == ["velocity and score are read from one head, so they cannot contradict each other"]


def test_a_data_set_known_by_heart_is_called_out():
    training = mixture().sample(60, seed=1)
    found, _ = told(of_modes(pl.EmpiricalField(training, field().path, bandwidth=1e-3), 60))
    assert found["known by heart"].value == pytest.approx(1, abs=0.02)
    for name in ("known by heart", "memorisation ratio", "slope of the score"):
        assert found[name].verdict == "worry"
    assert found["Fokker-Planck residual"].verdict == "fine"  # it is the true field of something


@pytest.mark.parametrize(
    ("score", "names"),
    [
        pytest.param(
            lambda s: -s,
            ("score head against the velocity head", "slope of the score", "drift between sigmas"),
            marks=pytest.mark.filterwarnings("ignore:the spread of the samples"),  # its samples explode
        ),
        (lambda s: 0.7 * s, ("score head against the velocity head", "slope of the score")),
        (lambda s: s + 0.5 * s @ TURN, ("score head against the velocity head", "asymmetry of the score")),
    ],
    ids=["sign", "size", "turn"],
)
@pytest.mark.filterwarnings("ignore:sigma renews")
def test_a_planted_fault_is_called_out(score, names):
    found, _ = told(of_modes(Heads(score)))
    assert [found[name].verdict for name in names] == ["worry"] * len(names)


def test_points_of_many_numbers_are_looked_at_by_probes():
    torch.manual_seed(0)
    model = pl.NetworkField(pl.UNet(1, 8, 1), pl.GaussianPath(pl.LinearSchedule()))
    torch.nn.init.normal_(model.network.last[-1].weight, std=0.1)
    x = torch.randn(40, 1, 12, 12)
    part = report.equations(Subject(model, x[:30], x[30:]), QUICK, 0)
    assert part.findings[0].value > 0.05 and all(0 <= value < 1 for value in part.curves["asymmetry"])
