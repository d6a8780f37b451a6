"""Conditions that are numbers: from their units through fields, losses and runs to samples, and back."""

import json
import math

import numpy as np
import pytest
import torch
from torch import nn

import pathline as pl
from pathline.cli.main import main
from pathline.cli.pictures import labels
from pathline.config import source_of

PATH = pl.GaussianPath(pl.LinearSchedule())
UNITS = torch.tensor([2.0, 300.0]), torch.tensor([2020.0, -50.0])  # scale and shift of the numbers
NAN = math.nan


def made(numbers=2, wrap=lambda network: network):
    """A field whose network is not zero, as it is at the start, and some points."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = pl.MLP(3, 16, 1, numbers=numbers)
        nn.init.normal_(network.last.weight)
        nn.init.normal_(network.condition.numbers.none)
        return pl.NetworkField(wrap(network), PATH), torch.randn(5, 3)


def samples(count=200, numbers=("age", "dose $")):
    """Vectors that go with two numbers, in units far from those of a model."""
    noise = pl.Noise(3).normal((count, 4), dtype=torch.float64)
    y = noise[:, :2] * UNITS[0] + UNITS[1]
    x = 5 * noise[:, :1] + noise[:, 1:2] * torch.tensor([0.0, 2.0]) + noise[:, 2:]
    return pl.Samples(x, y, (), None, "doses", "none", "here", ("left", "right"), numbers=numbers)


# ---- fields


@pytest.mark.parametrize("wrap", [lambda n: n, lambda n: pl.Preconditioned(n, PATH.schedule)], ids=["bare", "edm"])
def test_none_is_nan_is_no_condition(wrap):
    field, x = made(wrap=wrap)
    none = field.velocity(x, 0.5)
    for y in (None, torch.full((2,), NAN), torch.tensor([[0.0, NAN]] * 5)):
        assert torch.allclose(field.given(y).velocity(x, 0.5), none, atol=1e-5)
    assert not torch.allclose(field.given([0.0, 0.0]).velocity(x, 0.5), none, atol=1e-2)


def test_numbers_of_all_or_of_each():
    field, x = made()
    y = torch.randn(5, 2)
    each = field.given(y).velocity(x, 0.5)
    for i in range(5):
        for one in (y[i], y[i].tolist(), y[i : i + 1], y[i].expand(5, 2)):
            assert torch.allclose(field.given(one).velocity(x, 0.5)[i], each[i], atol=1e-5)
    with pytest.raises(ValueError, match="one per sample, 5, got 4"):
        field.given(y[:4]).velocity(x, 0.5)
    with pytest.raises(ValueError, match=r"floats of shape \(5, 2\)"):
        field.given(0.5).velocity(x, 0.5)


def test_a_single_number_needs_no_dimension_of_its_own():
    field, x = made(numbers=1)
    y = torch.randn(5)
    each = field.given(y[:, None]).velocity(x, 0.5)
    assert torch.equal(field.given(y).velocity(x, 0.5), each)
    assert torch.equal(field.given(y.tolist()).velocity(x, 0.5), each)
    for one in (float(y[2]), y[2], y[2:3], y[2:3, None]):
        assert torch.allclose(field.given(one).velocity(x, 0.5)[2], each[2], atol=1e-5)


def test_a_field_under_numbers_knows_some_of_its_samples_and_several_times_all():
    field, x = made()
    bound = field.given(torch.randn(5, 2))
    whole, index = bound.velocity(x, 0.5), torch.tensor([3, 0])
    assert torch.allclose(bound.take(index).velocity(x[index], 0.5), whole[index], atol=1e-5)
    assert torch.allclose(bound.take(slice(2, 3)).velocity(x[2:3], 0.5), whole[2:3], atol=1e-5)
    assert torch.allclose(bound.repeat(2).velocity(x.repeat(2, 1), 0.5), whole.repeat(2, 1), atol=1e-5)
    one = field.given([0.3, -1.0])
    assert torch.allclose(one.take(index).velocity(x[index], 0.5), one.velocity(x, 0.5)[index], atol=1e-5)


@pytest.mark.parametrize("y", [[0.3, -1.0], "each"])
@pytest.mark.parametrize("w", [0.0, 1.0, 2.5, torch.tensor([0.0, 1, 2, 3, 4])])
def test_guidance_mixes_with_and_without_numbers(y, w):
    field, x = made()
    y = torch.randn(5, 2, dtype=torch.float64) if y == "each" else y
    given, free = field.given(y).velocity(x, 0.5), field.velocity(x, 0.5)
    scale = w[:, None] if isinstance(w, torch.Tensor) else w
    guided = pl.ClassifierFree(field.given(y), field.given(None), w)
    assert torch.allclose(guided.velocity(x, 0.5), (1 - scale) * free + scale * given, atol=1e-4)


def test_dropped_numbers_are_none_all_at_once_and_leave_finite_gradients():
    field, _ = made()
    loss, y = pl.MatchingLoss(field, drop=0.3), torch.randn(4000, 2, dtype=torch.float64)
    dropped = loss.dropped(y, 0, len(y))["numbers"]
    gone = dropped.isnan()
    assert torch.equal(gone[:, 0], gone[:, 1]) and torch.equal(dropped[~gone], y[~gone])
    assert abs(float(gone[:, 0].double().mean()) - 0.3) < 4.5 * math.sqrt(0.3 * 0.7 / len(y))
    loss(torch.randn(64, 3), y[:64]).backward()
    assert all(p.grad.isfinite().all() and p.grad.abs().max() > 0 for p in field.parameters())


def test_a_single_number_is_dropped_with_and_without_a_dimension_of_its_own():
    field, _ = made(numbers=1)
    loss, x, y = pl.MatchingLoss(field, drop=0.3), torch.randn(50, 3), torch.randn(50)
    assert torch.equal(loss(x, y, 0), loss(x, y[:, None], 0))
    assert 0 < loss.dropped(y, 0, 50)["numbers"].isnan().sum() < 50


# ---- units


def test_numbers_have_mean_0_and_deviation_1_where_they_are_trained_on_and_come_back():
    training, held = samples().split(0.2)
    y = training.units_of_numbers.into(training.y["numbers"]).double()
    assert y.mean(0).abs().max() < 1e-6 and (y.std(0, correction=0) - 1).abs().max() < 1e-6
    assert held.units_of_numbers == training.units_of_numbers
    for part in (training, held):
        back = part.units_of_numbers.back(part.units_of_numbers.into(part.y["numbers"]))
        assert ((back - part.y["numbers"]).abs() <= 4 * torch.finfo(torch.float32).eps * UNITS[0]).all()


def test_only_numbers_have_units():
    labelled = pl.Samples(torch.zeros(4, 2), torch.tensor([0, 1, 1, 0]), ("a", "b"), None, "", "", "")
    assert labelled.units_of_numbers is None and labelled.split(0.5)[0].units_of_numbers is None


# ---- settings and runs


def settings(**change):
    return pl.Config(**{"data": "doses.csv", "network": "mlp", "width": 8, "depth": 1} | change)


def test_a_field_for_numbers_drops_and_refuses_transport_within_classes():
    config = settings(drop=0.3)
    field = config.field((2,), 0, 2)
    assert field.null["numbers"].isnan().tolist() == [[True, True]] and config.loss(field).drop == 0.3
    with pytest.raises(ValueError, match=r"coupling must be independent for .* more than classes"):
        settings(coupling="optimal-transport").loss(field)
    assert settings(coupling="optimal-transport:0").loss(field).coupling == pl.OptimalTransportCoupling(False)
    assert settings().field((2,), 0).null is None


def test_numbers_are_those_of_a_table_unless_they_are_not_used(tmp_path):
    (tmp_path / "doses.csv").write_text("left,age,right\n" + "".join(f"{i},{2000 + i},{-i}\n" for i in range(30)))
    config = settings(data=str(tmp_path / "doses.csv"), numbers="age")
    found = config.load()
    assert found.numbers == ("age",) and found.y["numbers"][:2].tolist() == [[2000.0], [2001.0]]
    bare = settings(data=config.data, numbers="age", is_conditional=False).load()
    assert not bare.y and bare.numbers == () and bare.columns == ("left", "right")
    with pytest.raises(ValueError, match=r"numbers names columns of a .csv.* got 'age' for moons"):
        source_of("moons", numbers="age")


@pytest.fixture(scope="module")
def doses(tmp_path_factory):
    """A run on a table with two numbers, trained for a moment."""
    folder = tmp_path_factory.mktemp("doses")
    found = samples()
    table = torch.cat((found.x, found.y["numbers"]), 1).numpy()
    np.savetxt(folder / "doses.csv", table, "%.17g", ",", header="left,right,age,dose $", comments="")
    flags = "--steps 2 --batch-size 16 --width 8 --depth 1".split()
    data = ["--data", str(folder / "doses.csv"), "--numbers", "age,dose $"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pathline.cli.pictures.save_gif", lambda frames, path: None)
        patch.setattr("pathline.cli.pictures.frame_of", lambda ax: None)  # films take seconds
        assert main(["train", "vectors", *data, *flags, "--out", str(folder / "run")]) == 0
    return folder / "run"


def trained_on(run):
    return run.config.load().split(run.config.held_out, run.config.seed)[0]


def test_a_run_keeps_the_units_of_its_numbers_and_some_of_them(doses):
    run = pl.Run.open(doses)
    training = trained_on(run)
    assert run.numbers == ("age", "dose $") and run.normalisation_of_numbers == training.units_of_numbers
    assert torch.equal(run.conditions(training.y)["numbers"], training.units_of_numbers.into(training.y["numbers"]))
    kept = run.kept()["numbers"]
    assert sorted(kept.tolist()) == sorted(training.y["numbers"].tolist())  # fewer than the most that are kept
    assert not torch.equal(kept, training.y["numbers"])  # in an order of their own


def test_the_card_and_the_info_name_the_numbers(doses, capsys):
    assert r"| conditioned on | age, dose \$ |" in (doses / "README.md").read_text()
    assert "A conditional model of" in (doses / "README.md").read_text()
    assert main(["info", str(doses)]) == 0
    assert "conditioned on" in (said := capsys.readouterr().out) and "dose $" in said


def sampled(run, folder, *flags):
    assert main(["sample", str(run), *flags, "--steps", "3", "--out", str(folder / "x.npz")]) == 0
    with np.load(folder / "x.npz") as file:
        return file["x"], file.get("y")


@pytest.mark.parametrize(("w", "flags"), [(1.0, ()), (2.5, ("--guidance", "2.5")), (0.0, ("--guidance", "0"))])
def test_samples_are_under_the_numbers_that_are_given_in_the_units_of_the_data(doses, tmp_path, w, flags):
    run = pl.Run.open(doses)
    x, y = sampled(doses, tmp_path, "--numbers", "2021,-350", "--count", "7", *flags)
    assert y is None if w == 0 else np.array_equal(y, [[2021.0, -350.0]] * 7)  # guidance 0 ignores the numbers
    inside = run.normalisation_of_numbers.into(torch.tensor([[2021.0, -350.0]], dtype=torch.float64))
    assert torch.allclose(inside, torch.tensor([[0.5, -1.0]]), atol=0.3)  # in deviations from the mean
    truth = pl.sample(pl.guided(run.field(), inside, w), (7, 2), steps=3, seed=0)
    assert np.allclose(x, run.normalisation.back(truth).numpy(), atol=1e-4)


def test_samples_are_under_the_numbers_of_training_samples_unless_told(doses, tmp_path):
    run = pl.Run.open(doses)
    x, y = sampled(doses, tmp_path, "--count", "200")
    kept = run.kept()["numbers"]
    assert np.array_equal(y, torch.cat((kept, kept))[:200].numpy())
    truth = pl.sample(run.field().given(run.conditions(torch.from_numpy(y))), (200, 2), steps=3, seed=0)
    assert np.allclose(x, run.normalisation.back(truth).numpy(), atol=1e-4)


def test_a_table_of_samples_has_their_numbers_last(doses, tmp_path):
    out = tmp_path / "x.csv"
    assert main(["sample", str(doses), "--count", "4", "--steps", "3", "--out", str(out)]) == 0
    x, y = sampled(doses, tmp_path, "--count", "4")
    assert out.read_text().splitlines()[0] == "left,right,age,dose $"
    assert np.array_equal(np.loadtxt(out, delimiter=",", skiprows=1), np.concatenate((x, y), 1))


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--numbers", "3"], "one for each of age, dose $, with commas between, got '3'"),
        (["--numbers", "1,2,3"], "got '1,2,3'"),
        (["--numbers", "1,nan"], "--numbers must be finite numbers"),
        (["--numbers", "1,many"], "got '1,many'; pathline info tells their ranges"),
        (["--class", "1"], "--class needs a model with classes"),
    ],
)
def test_what_are_no_numbers_of_a_run_is_refused(doses, capsys, flags, said):
    assert main(["sample", str(doses), *flags]) == 2
    assert said in capsys.readouterr().err


def test_a_run_whose_numbers_are_gone_says_so_and_samples_under_given_ones(doses, tmp_path, capsys):
    kept = (doses / "conditions.safetensors").read_bytes()
    (doses / "conditions.safetensors").unlink()
    try:
        assert main(["sample", str(doses)]) == 2
        assert "conditions.safetensors, conditions to make samples under, cannot be read" in capsys.readouterr().err
        sampled(doses, tmp_path, "--numbers", "2021,-350", "--count", "2")
    finally:
        (doses / "conditions.safetensors").write_bytes(kept)


def test_numbers_of_a_run_without_any_are_refused(tmp_path, capsys):
    pl.Run.create(tmp_path / "bare", settings(data="moons"), pl.ToySource("moons", 20).load())
    about = json.loads((tmp_path / "bare" / "config.json").read_text())["samples"]
    assert about["numbers"] == [] and about["normalisation_of_numbers"] is None
    assert not (tmp_path / "bare" / "conditions.safetensors").exists()
    assert pl.Run.open(tmp_path / "bare").normalisation_of_numbers is None


def test_rows_of_pictures_go_up_by_the_first_number(tmp_path):
    x, y = torch.zeros(500, 1, 8, 8), torch.stack((torch.arange(500.0).flip(0), torch.arange(500.0)), 1).double()
    images = pl.Samples(x, y, (), None, "images", "none", "here", numbers=("size", "age"))
    run = pl.Run.create(tmp_path / "run", settings(network="unet"), images)
    rows = labels(run, 100, 10)["numbers"].reshape(10, 10, 2)
    assert torch.equal(rows, rows[:, :1].expand_as(rows))
    assert rows[:, 0, 0].tolist() == [25.0 + 50 * row for row in range(10)]  # the middle of each tenth
    assert (rows.sum(-1) == 499).all()  # the other number is that of the same training sample


# ---- what is learned


def test_a_bent_mean_is_learned_and_so_is_having_no_number():
    generator = torch.Generator().manual_seed(0)
    y = torch.randn(6000, 1, generator=generator)
    x = (2 * y).sin() + 0.3 * torch.randn(6000, 1, generator=generator)
    torch.manual_seed(0)
    field = pl.NetworkField(pl.MLP(1, 32, 2, numbers=1), PATH)
    loss, cosine = pl.MatchingLoss(field, drop=0.1), pl.warmup_cosine()
    for _ in pl.train(loss, x, y, steps=400, batch_size=256, learning_rate=5e-3, lr_schedule=cosine):
        pass
    at = torch.linspace(-1.5, 1.5, 7)
    made = pl.sample(field.given(at.repeat_interleave(400)), (2800, 1), steps=20, seed=1).reshape(7, 400)
    assert (made.mean(1) - (2 * at).sin()).abs().max() < 0.15  # 1 for a model that does not see y
    assert (made.std(1) - 0.3).abs().max() < 0.1
    assert abs(float(pl.sample(field.given(None), (2000, 1), steps=20, seed=1).std() - x.std())) < 0.1


@pytest.mark.slow
def test_a_linear_gaussian_is_learned_under_numbers_and_without():
    """x | y ~ N(A y + b, S) with y ~ N(0, C), so that x ~ N(b, A C A^T + S)."""
    A, b = torch.tensor([[1.0, -0.5], [0.3, 0.8]]), torch.tensor([0.5, -1.0])
    S, C = torch.tensor([[0.3, 0.1], [0.1, 0.2]]), torch.tensor([[1.0, 0.6], [0.6, 1.0]])
    generator = torch.Generator().manual_seed(0)
    y, noise = torch.randn(2, 20000, 2, generator=generator)
    y = y @ torch.linalg.cholesky(C).T
    x = y @ A.T + b + noise @ torch.linalg.cholesky(S).T
    torch.manual_seed(0)
    field = pl.NetworkField(pl.MLP(2, 64, 2, numbers=2), PATH)
    ema, loss, cosine = pl.EMA(field, 0.995), pl.MatchingLoss(field, drop=0.1), pl.warmup_cosine()
    for _ in pl.train(loss, x, y, steps=1500, batch_size=512, learning_rate=3e-3, lr_schedule=cosine, ema=ema):
        pass
    cases = [(p, A @ p + b, S) for p in torch.tensor([[0.0, 0.0], [1.0, 1.0], [-1.5, -0.5], [0.5, -0.5]])]
    with ema.applied():
        for point, mean, covariance in [*cases, (None, b, A @ C @ A.T + S)]:
            made = pl.sample(field.given(point), (4000, 2), steps=20, seed=1)
            white = torch.linalg.inv(torch.linalg.cholesky(covariance))
            assert (white @ (made.mean(0) - mean)).norm() < 0.15
            assert (white @ torch.cov(made.T) @ white.T - torch.eye(2)).abs().max() < 0.2
