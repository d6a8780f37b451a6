"""Several kinds of condition at once: class, numbers and text, in a network, under guidance, dropped in training."""

import math

import pytest
import torch
from torch import nn

import pathline as pl
from pathline.networks.text import Text, TextForm
from pathline.training.loss import MatchingLoss

pytestmark = pytest.mark.fast

NAN = math.nan
WORDS, VECTORS = TextForm(5, words=7), TextForm(5, features=6, pooled=4)


def captions(form, batch, seed=0):
    """Captions of 0 to length words."""
    noise = pl.Noise(seed)
    mask = torch.arange(form.length) < torch.arange(batch)[:, None] % (form.length + 1)
    if form.words:
        tokens = noise.permutation(batch * form.length).reshape(batch, -1) % form.words + 1
    else:
        tokens = noise.normal((batch, form.length, form.features))
    return Text(tokens * (mask if form.words else mask[..., None]), mask, noise.normal((batch, form.pooled), 1))


def made(name="unet", **sizes):
    torch.manual_seed(0)
    network = pl.MLP(2, 16, 1, **sizes) if name == "mlp" else pl.UNet(1, 8, 2, **sizes)
    for parameter in network.parameters():  # the last layer is 0 at first
        if not parameter.any():
            nn.init.normal_(parameter, std=0.3)
    return network.eval()


def points(name, batch):
    return pl.Noise(3).normal((batch, 2) if name == "mlp" else (batch, 1, 4, 4)), torch.linspace(0.1, 0.9, batch)


each_network = pytest.mark.parametrize("name", ["mlp", "unet"])
each_form = pytest.mark.parametrize("form", [WORDS, VECTORS], ids=["words", "vectors"])
ALL_KINDS = {"classes": 3, "numbers": 2, "text": WORDS}


def all_kinds(batch):
    return {
        "class": torch.arange(batch) % 3,
        "numbers": pl.Noise(5).normal((batch, 2)),
        "text": captions(WORDS, batch),
    }


@each_network
@each_form
def test_what_stands_where_there_is_no_word_changes_nothing(name, form):
    network, (x, t), y = made(name, text=form), points(name, 8), captions(form, 8)
    mask = y.mask if form.words else y.mask[..., None]
    junk = torch.where(mask, y.tokens, torch.full_like(y.tokens, 3))
    assert not torch.equal(junk, y.tokens)
    assert torch.equal(network(x, t, y), network(x, t, y._replace(tokens=junk)))


@each_network
@each_form
def test_a_caption_matters_and_its_batch_mates_do_not(name, form):
    network, (x, t), y = made(name, text=form), points(name, 8), captions(form, 8)
    whole = network(x, t, y)
    for i in range(8):
        alone = network(x[i : i + 1], t[i : i + 1], Text(*(leaf[i : i + 1] for leaf in y)))
        assert torch.allclose(alone[0], whole[i], atol=1e-5)
    moved = network(x, t, Text(*(leaf.roll(1, 0) for leaf in y)))
    assert ((moved - whole).flatten(1).abs().amax(1) > 1e-4).all()


@each_form
def test_the_order_of_words_matters(form):
    network, (x, t), y = made(text=form), points("unet", 6), captions(form, 6)
    swapped = y.tokens.clone()
    swapped[5, [0, 1]] = swapped[5, [1, 0]]
    gap = (network(x, t, y) - network(x, t, y._replace(tokens=swapped))).flatten(1).abs().amax(1)
    assert gap[:5].max() == 0 and gap[5] > 1e-5


@each_network
@each_form
def test_no_caption_is_the_null_condition(name, form):
    network, (x, t) = made(name, text=form), points(name, 4)
    field = pl.NetworkField(network, pl.GaussianPath(pl.LinearSchedule()))
    none = network(x, t)
    assert torch.equal(field.given(None)(x, t), none)
    assert torch.allclose(network(x, t, _empty(form, 4)), none)


def _empty(form, batch):
    return Text(*(leaf.expand(batch, *leaf.shape) for leaf in made(text=form).null["text"]))


@each_network
def test_a_kind_that_is_left_out_is_null(name):
    network, (x, t), y = made(name, **ALL_KINDS), points(name, 6), all_kinds(6)
    field = pl.NetworkField(network, pl.GaussianPath(pl.LinearSchedule()))
    assert list(field.null) == ["class", "numbers", "text"]
    for kind in y:
        rest = {other: value for other, value in y.items() if other != kind}
        spread = y | {kind: field.given(None).conditions(x)[kind]}
        assert torch.equal(field.given(rest)(x, t), network(x, t, spread))
        assert torch.equal(field.given(rest | {kind: None})(x, t), network(x, t, rest))
        assert (field.given(y)(x, t) - field.given(rest)(x, t)).abs().max() > 1e-4  # and it matters
    assert torch.equal(field.given({})(x, t), field.given(None)(x, t))


@each_network
def test_guidance_asks_both_conditions_in_one_batch(name):
    network, (x, t), y = made(name, **ALL_KINDS), points(name, 6), all_kinds(6)
    field = pl.NetworkField(network, pl.GaussianPath(pl.LinearSchedule()))
    away = {"text": captions(WORDS, 1, seed=9)._replace(mask=torch.ones(1, 5, dtype=torch.bool))}
    for negative in (None, away):
        guided = pl.ClassifierFree(field.given(y), field.given(negative), w=3.0)
        truth = -2 * field.given(negative)(x, t) + 3 * field.given(y)(x, t)
        assert torch.allclose(guided(x, t), truth, atol=1e-4)
        index = torch.tensor([4, 1])
        assert torch.allclose(guided.take(index)(x[index], t[index]), truth[index], atol=1e-4)


@pytest.mark.parametrize(
    ("y", "said"),
    [
        ({"colour": torch.tensor([1])}, "y must be a dictionary of class, numbers, text, .* got colour"),
        (torch.tensor([1, 2]), "y must be a dictionary of class, numbers, text, .* got Tensor"),
    ],
)
def test_a_condition_of_no_kind_is_refused(y, said):
    network, (x, t) = made(**ALL_KINDS), points("unet", 2)
    field = pl.NetworkField(network, pl.GaussianPath(pl.LinearSchedule()))
    with pytest.raises(ValueError, match=said):
        field.given(y)
    with pytest.raises(ValueError, match=said):
        network(x, t, y)


def test_captions_of_another_form_are_refused():
    network, (x, t) = made(text=WORDS), points("unet", 2)
    with pytest.raises(ValueError, match=r"Text\(tokens, mask, pooled\) of the shapes .*\(2, 5\).*got .*\(2, 5, 6\)"):
        network(x, t, captions(VECTORS, 2))
    with pytest.raises(ValueError, match="got Tensor; encode them"):
        network(x, t, torch.zeros(2, dtype=torch.long))
    with pytest.raises(ValueError, match="y must be left out"):
        made()(x, t, captions(WORDS, 2))


def test_a_width_that_heads_cannot_share_is_refused():
    with pytest.raises(ValueError, match="width must be a multiple of 4 for a network that reads text, got 30"):
        pl.MLP(2, 30, text=WORDS)


@pytest.mark.parametrize("sizes", [{}, {"words": 3, "features": 2}, {"words": -1, "features": 2}])
def test_a_form_has_words_or_vectors(sizes):
    with pytest.raises(ValueError, match="a text needs places, and either words or features"):
        TextForm(4, **sizes)


# ---- dropped in training

COUNT = 20_000


def gone(y, dropped):
    """Which samples lost each kind."""
    return {
        "class": dropped["class"] == 3,
        "numbers": dropped["numbers"].isnan().all(1),
        "text": ~dropped["text"].mask.any(1),
    }


def dropped_of(drop):
    field = pl.NetworkField(made("mlp", **ALL_KINDS), pl.GaussianPath(pl.LinearSchedule()))
    y = all_kinds(COUNT)
    y["text"] = y["text"]._replace(mask=torch.ones(COUNT, 5, dtype=torch.bool))
    return y, MatchingLoss(field, drop=drop).dropped(y, 0, COUNT)


def z(hits, share):
    return abs(float(hits.double().mean()) - share) / math.sqrt(share * (1 - share) / COUNT)


def test_each_kind_is_dropped_at_its_own_rate():
    """Six figures, |z| < 4.9: a false alarm in 170,000."""
    y, dropped = dropped_of({"class": 0.3, "text": 0.1})
    lost = gone(y, dropped)
    assert z(lost["class"], 0.3) < 4.9 and z(lost["text"], 0.1) < 4.9 and not lost["numbers"].any()
    assert z(lost["class"] & lost["text"], 0.03) < 4.9  # independently of each other
    y, dropped = dropped_of({"all": 0.2, "numbers": 0.25})
    lost = gone(y, dropped)
    assert z(lost["class"], 0.2) < 4.9 and torch.equal(lost["class"], lost["text"])
    assert z(lost["numbers"], 1 - 0.8 * 0.75) < 4.9 and (lost["numbers"] | ~lost["class"]).all()


def test_one_share_drops_all_kinds_at_once_and_what_stays_is_as_it_was():
    y, dropped = dropped_of(0.4)
    lost = gone(y, dropped)
    assert z(lost["class"], 0.4) < 4.9
    assert torch.equal(lost["class"], lost["text"]) and torch.equal(lost["class"], lost["numbers"])
    stays = ~lost["class"]
    for part, whole in zip(dropped["text"], y["text"], strict=True):
        assert torch.equal(part[stays], whole[stays]) and not part[~stays].any()
    assert torch.equal(dropped["class"][stays], y["class"][stays])


def test_shares_of_no_kind_are_refused():
    with pytest.raises(ValueError, match=r"one for each of all, class, numbers, text, got .*colour"):
        dropped_of({"colour": 0.1})
    with pytest.raises(ValueError, match=r"drop must be a share .* got 1.5"):
        dropped_of({"class": 1.5})


def test_training_takes_tables_of_captions_row_by_row():
    """A sample's caption is looked up when it is seen: the losses are those of captions laid out in full."""
    table, index = captions(WORDS, 6), torch.arange(40) % 6
    x = pl.Noise(1).normal((40, 1, 4, 4))
    rows = Text(*(pl.Rows(leaf, index) for leaf in table))
    whole = Text(*(leaf[index] for leaf in table))
    found = []
    for y in (rows, whole):
        field = pl.NetworkField(made(text=WORDS), pl.GaussianPath(pl.LinearSchedule()))
        found.append([float(s.loss) for s in pl.train(MatchingLoss(field, drop=0.2), x, y, steps=4, batch_size=16)])
    assert found[0] == found[1]
    with pytest.raises(ValueError, match="y must have one condition for each of the 40 samples, got 39"):
        pl.train(MatchingLoss(field), x, Text(*(pl.Rows(leaf, index[:39]) for leaf in table)), steps=1)
