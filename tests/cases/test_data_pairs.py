"""Pairs stay pairs where the user says so: what a bridge begins at for sample i is row i of its source."""

import json
import re

import numpy as np
import pytest
import torch

import pathline as pl
from pathline.cli.main import main
from pathline.noise import Noise
from pathline.training.augment import NONE, FlipAugmentation
from pathline.training.batches import Batches, Order
from pathline.training.distributed import Group

X = Noise(3).normal((60, 1))  # the pairs are (x, -x)


def loss_of(source=X, is_paired=True, sigma=0.0, **more):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        field = pl.NetworkField(pl.MLP(source.shape[1], 32, 2), pl.BridgePath(sigma))
    return pl.MatchingLoss(field, source=source, is_paired=is_paired, **more)


def correlation(a, b):
    return float(torch.corrcoef(torch.stack((a[:, 0], b[:, 0])))[0, 1])


def ends(loss, group, pieces, steps):
    """The two ends of every path that a process sees."""
    batches = Batches(loss, -X, None, 7, pieces, NONE, group, False)
    order = Order(len(X), loss.noise)
    points = [piece.point for step in steps for piece in batches.make(step, batches.rows(order, step))]
    return torch.cat([point.noise for point in points]), torch.cat([point.data for point in points])


# before, there was no is_paired: the source was drawn at random, and the correlation of the ends was 0.1 or so
@pytest.mark.parametrize("steps", [range(20), range(13, 20)], ids=["from the start", "resumed in mid-epoch"])
@pytest.mark.parametrize("pieces", [1, 2], ids=["whole", "in pieces"])
@pytest.mark.parametrize("group", [Group(), Group(0, 2), Group(1, 2)], ids=["alone", "first of two", "second of two"])
def test_each_path_begins_at_the_partner_of_its_sample(group, pieces, steps):
    begin, data = ends(loss_of(), group, pieces, steps)
    assert torch.equal(begin, -data)
    assert abs(correlation(*ends(loss_of(is_paired=False), group, pieces, steps))) < 0.7


def test_workers_make_the_same_paths():
    def weights(workers):
        loss = loss_of()
        steps = list(pl.train(loss, -X, steps=9, batch_size=7, workers=workers))
        return [float(step.loss) for step in steps], [p.clone() for p in loss.parameters()]

    (plain, one), (threaded, other) = weights(0), weights(3)
    assert plain == threaded and all(map(torch.equal, one, other))


def test_a_loop_of_ones_own_says_which_rows_it_gives():
    loss, rows = loss_of(), torch.tensor([5, 2, 40])
    assert torch.equal(loss.draw(-X[rows], 0, rows=rows).noise, X[rows])
    assert torch.equal(loss.draw(-X, 0).noise, X)  # all of the data, in its order
    assert loss(-X[rows], rows=rows) > 0


# Each sample keeps its second number, by which the network can tell where its path began: straight lines never cross.
# Got before: -0.88, with every source as likely for a sample as its own; the least that |z| can be is 0
def test_a_trained_bridge_carries_each_sample_to_its_partner():
    source = Noise(1).normal((2000, 1)).expand(2000, 2).clone()
    data = source * torch.tensor([-1.0, 1.0])
    found = {}
    for is_paired in (True, False):
        loss = loss_of(source, is_paired)
        for _ in pl.train(loss, data, steps=150, batch_size=256, learning_rate=5e-3):
            pass
        x = pl.sample(loss.field.eval(), tuple(source.shape), steps=10, start=source)
        found[is_paired] = correlation(source, x)
    assert found[True] < -0.999 and found[False] > -0.95, found


# On a line a flow keeps the order of its points, so pairs (x, -x) need a network that is told where a path began.
# Got before: +0.999, as the source was drawn at random
@pytest.mark.slow
def test_a_network_that_is_told_where_a_path_began_keeps_crossing_pairs():
    source = Noise(1).normal((2000, 1))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        field = pl.NetworkField(pl.MLP(1, 64, 3, numbers=1), pl.BridgePath())
    loss = pl.MatchingLoss(field, source=source, is_paired=True)
    for _ in pl.train(loss, -source, source, steps=300, batch_size=256, learning_rate=5e-3):
        pass
    x = pl.sample(field.eval().given(source), (2000, 1), steps=20, start=source)
    assert correlation(source, x) < -0.999


REFUSED = {
    "no source": (
        lambda: pl.MatchingLoss(pl.NetworkField(pl.MLP(1), pl.GaussianPath(pl.LinearSchedule())), is_paired=True),
        "source must be given for is_paired=True",
    ),
    "a coupling": (
        lambda: loss_of(coupling=pl.OptimalTransportCoupling()),
        "coupling must be left out for is_paired=True, as it would pair source and data anew",
    ),
    "other lengths": (
        lambda: pl.train(loss_of(), -X[:50], steps=1),
        "a row for each of the 50 samples of the data for is_paired=True, got 60",
    ),
    "another shape": (
        lambda: pl.train(loss_of(), torch.zeros(60, 2), steps=1),
        r"source must hold samples of the data's shape, \(2,\), got \(60, 1\)",
    ),
    "an augmentation": (
        lambda: pl.train(loss_of(), -X, steps=1, augmentation=FlipAugmentation()),
        "augmentation must be left out for paired samples",
    ),
    "a part without its rows": (lambda: loss_of()(-X[:7]), "rows must say which of the 60 rows of the data these 7"),
    "rows that are no numbers": (lambda: loss_of()(-X[:7], rows=torch.ones(7)), "rows must be whole numbers"),
    "validation without partners": (lambda: pl.loss_by_time(loss_of(), -X[:7]), "begin must hold .* 7 .*, got none"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_would_part_pairs_is_refused(case):
    attempt, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        attempt()


def test_validation_looks_at_the_pairs_that_it_is_given():
    loss, still = loss_of(), loss_of(is_paired=False)
    torch.nn.init.zeros_(loss.field.network.last.weight), torch.nn.init.zeros_(loss.field.network.last.bias)
    expected = float((2 * X).square().mean())  # of a network that says 0, of targets -x - x
    assert float(pl.loss_by_time(loss, -X, begin=X).mean()) == pytest.approx(expected, rel=1e-5)
    assert not still.is_paired


# ---- the command


@pytest.fixture
def files(tmp_path):
    x = Noise(4).normal((200, 2)).numpy()
    np.save(tmp_path / "from.npy", x)
    np.save(tmp_path / "to.npy", -5 * x + 3)
    np.save(tmp_path / "short.npy", x[:150])
    return tmp_path


def command(*arguments):
    """The exit code of a command: what is wrong with a flag may end it as the parser does."""
    try:
        return main(list(map(str, arguments)))
    except SystemExit as end:
        return end.code


def train(folder, *more, start="from.npy"):
    tiny = "--network mlp --width 8 --depth 1 --batch-size 16 --steps 6 --device cpu --checkpoint-every 3".split()
    flags = ["--data", folder / "to.npy", "--start", folder / start, "--out", folder / "run", *tiny, *more]
    return command("train", "vectors", *flags)


def test_the_command_keeps_pairs_through_the_split_and_resume(files, monkeypatch):
    monkeypatch.setattr("pathline.cli.train.draw_all", lambda run, training: None)
    assert train(files, "--paired") == 0
    run = pl.Run.open(files / "run")
    whole = run.config.load()
    training, held_out = whole.split(run.config.held_out, run.config.seed)
    for part, begin in ((training, run.source()), (held_out, run.held_out_source())):
        back = run.normalisation.back(begin)
        assert torch.allclose(-5 * back + 3, part.x[:].to(back), atol=1e-4)
    loss = pl.Trainer(run, training, held_out).loss
    assert loss.is_paired and len(loss.source) == len(training)
    first = [line for line in run.metrics() if "held_out_loss" in line]
    (files / "run" / "README.md").unlink()
    (files / "from.npy").unlink()  # what it began at is kept in the run
    assert main(["train", "--resume", str(files / "run")]) == 0
    assert [line["held_out_loss"] for line in run.metrics() if "held_out_loss" in line][-1] == first[-1][
        "held_out_loss"
    ]
    settings = json.loads((files / "run" / "config.json").read_text())
    assert settings["paired"] is True


@pytest.mark.parametrize(
    ("flags", "start", "said"),
    [
        (["--paired"], "short.npy", "as many samples as the data for --paired, 200 of .*, got 150 of"),
        (["--paired", "--coupling", "optimal-transport"], "from.npy", "coupling must be independent for paired"),
        (["--paired", "--augmentation", "dequantise:0.1"], "from.npy", "augmentation must be none for paired"),
    ],
    ids=["other lengths", "a coupling", "an augmentation"],
)
def test_the_command_refuses_what_would_part_them_before_the_folder_is_made(files, capsys, flags, start, said):
    assert train(files, *flags, start=start) == 2
    assert re.search(said, " ".join(capsys.readouterr().err.split()))
    assert not (files / "run").exists()


def test_pairs_without_a_start_are_refused(files, capsys):
    assert command("train", "vectors", "--data", files / "to.npy", "--paired") == 2
    assert "use --start FILE" in " ".join(capsys.readouterr().err.split())


def test_a_start_is_read_by_the_names_of_its_columns(tmp_path, capsys):  # before: by their places, b for a
    rows = X.repeat(1, 2) * torch.tensor([1.0, 50.0])

    def table(name, header, columns):
        lines = [",".join(header), *(",".join(f"{v:.6f}" for v in row) for row in rows[:, columns].tolist())]
        (tmp_path / name).write_text("\n".join(lines) + "\n")
        return str(tmp_path / name)

    data = table("data.csv", "ab", [0, 1])
    flags = "--bridge 0 --paired --steps 1 --batch-size 8 --width 8 --depth 1 --data".split()
    flags += [data, "--out", str(tmp_path / "run")]
    assert main(["train", "vectors", *flags, "--start", table("c.csv", "bc", [1, 0])]) == 2
    assert "c.csv has no 'a'; it has b, c" in capsys.readouterr().err
    assert main(["train", "vectors", *flags, "--start", table("ba.csv", "ba", [1, 0])]) == 0
    run = pl.load(tmp_path / "run").run
    begin = run.normalisation.back(run.source())
    assert torch.allclose(50 * begin[:, 0], begin[:, 1], atol=1e-3)
