"""Shapes: drawings against the areas they should have, captions against scenes, and the reader against both."""

import dataclasses
import itertools
import math
import re

import numpy as np
import pytest
import torch
from scipy import ndimage, stats

from pathline.data import shapes
from pathline.data.shape_reader import agreement, agrees, read, shows
from pathline.data.shape_words import COLOURS, RELATIONS, SHAPES, SIZES, UNSEEN, Scene, Thing, parse, prompts
from pathline.data.shapes import GROUND, PALETTE, RADII, SIDE, ShapesSource, coverage, distance, scenes
from pathline.data.source import Source
from pathline.specs import build

pytestmark = pytest.mark.fast

FALSE_ALARM = 1e-5
INSIDE = {  # what the shapes are, said once more; lengths in radii
    "circle": lambda x, y: x**2 + y**2 < 1,
    "square": lambda x, y: (abs(x) < 0.92) & (abs(y) < 0.92),
    "triangle": lambda x, y: (y < 0.9) & (y > -0.9 + 1.8 * abs(x)),
    "cross": lambda x, y: ((abs(x) < 1) & (abs(y) < 0.34)) | ((abs(y) < 1) & (abs(x) < 0.34)),
}
AREAS = {"circle": math.pi, "square": 1.84**2, "triangle": 1.8, "cross": 2 * 2 * 0.68 - 0.68**2}


@pytest.fixture(scope="module")
def many():
    return scenes(20_000, 1)


@pytest.fixture(scope="module")
def drawn():
    """Scenes, their pictures, and what is read from these."""
    found = scenes(2000, 2)
    pictures = found.pictures()
    return found, pictures, read(pictures)


def things_alone(found):
    """How much of each pixel each thing of scenes of two covers, (scenes, 2, SIDE, SIDE)."""
    radius = torch.tensor(RADII)[found.size.long()]
    each = [coverage(found.shape[:, k], radius[:, k], found.centre[:, k]) for k in (0, 1)]
    return torch.stack(each, 1)


# ---- drawings


@pytest.mark.parametrize("name", SHAPES)
def test_distance_is_a_distance_with_the_sign_of_being_inside(name):
    x, y = (torch.rand(2, 4000, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 10 - 5).unbind(0)
    x.requires_grad_(), y.requires_grad_()
    radius = torch.tensor(2.7, dtype=torch.float64)
    d = distance(name, radius, x, y)
    assert torch.equal(d < 0, INSIDE[name](x / radius, y / radius))
    slope = torch.autograd.grad(d.sum(), (x, y))
    assert torch.stack(slope).norm(dim=0).sub(1).abs().max() < 1e-9
    outside = (d > 0).nonzero()[:, 0]  # the nearest point of the shape is as far as it says
    grid = torch.linspace(-2.7, 2.7, 301, dtype=torch.float64)
    points = torch.cartesian_prod(grid, grid)
    points = points[INSIDE[name](*(points / radius).unbind(1))]
    nearest = torch.cdist(torch.stack((x, y), 1)[outside[:300]], points).amin(1)
    assert (nearest - d[outside[:300]]).abs().max() < 0.04


@pytest.mark.parametrize(("name", "radius"), itertools.product(SHAPES, RADII))
def test_drawings_have_the_areas_of_the_shapes(name, radius):
    n, fine = 64, 20
    centre = 8 + torch.rand(n, 2, generator=torch.Generator().manual_seed(1))
    seen = coverage(torch.full((n,), SHAPES.index(name)), torch.full((n,), radius), centre)
    area = seen.sum((1, 2)).mean().item()
    assert area == pytest.approx(AREAS[name] * radius**2, rel=0.05 if name == "triangle" else 0.025)  # sharp corners
    sub = (torch.arange(SIDE * fine) + 0.5) / fine  # and cover each pixel about as much as they should
    x, y = ((sub - centre[:, axis, None]) / radius for axis in (0, 1))
    exact = INSIDE[name](x[:, None, :], y[:, :, None]).float()
    exact = torch.nn.functional.avg_pool2d(exact[:, None], fine)[:, 0]
    assert (seen - exact).abs().max() < 0.35
    assert (seen - exact).square().mean().sqrt() < 0.03


def test_a_row_is_the_same_in_any_batch():
    x = ShapesSource(300, 4).load().x
    everything = x[:]
    assert everything.shape == x.shape == (300, 3, SIDE, SIDE)
    for rows in (torch.tensor([7]), torch.tensor([299, 7, 8, 7]), torch.arange(5, 120)):
        assert torch.equal(x[rows], everything[rows])


def test_a_scene_does_not_depend_on_how_many_there_are():
    everything = scenes(500, 3)
    for part, rows in ((scenes(20, 3), slice(0, 20)), (scenes(100, 3, first=317), slice(317, 417))):
        for name, value in vars(everything[rows]).items():
            assert torch.equal(getattr(part, name), value), name
    assert not torch.equal(scenes(20, 4).centre, everything[:20].centre)


def test_levels_are_whole_and_known():
    found = scenes(500, 5)
    pictures = found.pictures()
    assert torch.equal(pictures, pictures.round())
    assert pictures.min() >= 0
    assert pictures.max() <= 255
    i = int((~found.has_two & (found.size[:, 0] == 1) & (found.shape[:, 0] == 1)).nonzero()[0])
    colour = PALETTE[COLOURS[int(found.colour[i, 0])]]
    column, row = found.centre[i, 0].int().tolist()
    assert tuple(pictures[i, :, row, column].tolist()) == colour
    corner = (0 if row > 8 else 15, 0 if column > 8 else 15)
    assert tuple(pictures[i, :, *corner].tolist()) == GROUND


def test_things_are_whole_and_do_not_touch(many):
    found = many[many.has_two][:2000]
    alone = things_alone(found)
    exact = torch.tensor([AREAS[name] for name in SHAPES])[found.shape.long()]
    exact = exact * torch.tensor(RADII)[found.size.long()] ** 2
    assert (alone.sum((2, 3)) / exact - 1).abs().max() < 0.13  # what is cut off would be missing
    assert (alone[:, 0] * alone[:, 1]).max() == 0
    for first, second in (alone > 0.5).numpy():
        assert not (ndimage.binary_dilation(first) & second).any()


def test_a_relation_is_that_of_the_centres_of_mass(many):
    found = many[many.has_two][:3000]
    alone = things_alone(found)
    pixel = torch.arange(SIDE) + 0.5
    mass = alone.sum((2, 3))
    x, y = (alone.sum(2) @ pixel) / mass, (alone.sum(3) @ pixel) / mass
    right, down = (at[:, 1] - at[:, 0] for at in (x, y))
    ahead = torch.stack((down, -down, right, -right))[found.relation, torch.arange(len(found))]
    aside = torch.where(found.relation < 2, right, down)
    assert (ahead > 1.1 * aside.abs()).all()


# ---- what is drawn how often


def expected_pairs():
    """The exact chances of each composition as the first thing, and as the second."""
    weight = {pair: 1 if pair in UNSEEN else 2 for pair in itertools.product(COLOURS, SHAPES)}
    total = sum(weight.values())
    first = {pair: w / total for pair, w in weight.items()}
    second = {
        pair: sum(first[other] * w / (total - weight[other]) for other in weight if other != pair)
        for pair, w in weight.items()
    }
    return list(first.values()), list(second.values())


def test_attributes_are_as_frequent_as_they_should_be(many):
    pair = many.colour.long() * len(SHAPES) + many.shape
    two = many.has_two
    assert (pair[:, 0] != pair[:, 1]).all()
    first, second = expected_pairs()
    place = torch.bincount(many.size[:, 0].long() * 8 + many.is_told[:, 0] * 4 + many.relation, minlength=16)
    for counts, chances in (
        (torch.bincount(pair[:, 0], minlength=24), first),
        (torch.bincount(pair[:, 1], minlength=24), second),
        (torch.bincount(many.size[two, 1].long() * 2 + many.is_told[two, 1], minlength=4), [1 / 4] * 4),
        (place, [1 / 16] * 16),
        (torch.bincount(two.long()), [0.4, 0.6]),
    ):
        n = int(counts.sum())
        assert stats.chisquare(counts.numpy(), np.array(chances) * n).pvalue > FALSE_ALARM


def test_places_are_even(many):
    alone = many[~many.has_two]
    half = shapes.EXTENTS[alone.shape[:, 0].long()] * torch.tensor(RADII)[alone.size[:, 0].long()][:, None]
    low, high = 0.25 + half, SIDE - 0.25 - half
    share = ((alone.centre[:, 0] - low) / (high - low)).double().numpy()
    for axis in (0, 1):
        assert stats.kstest(share[:, axis], "uniform").pvalue > FALSE_ALARM
    assert stats.pearsonr(share[:, 0], share[:, 1]).pvalue > FALSE_ALARM
    two = many[many.has_two].centre.mean((0, 1))  # nothing leans to a side, or by more than triangles do
    assert (two - SIDE / 2).abs().max() < 0.1


def test_what_is_unseen_is_never_trained_on():
    samples = ShapesSource(5000, 6).load()
    told = [parse(samples.captions[i]) for i in samples.y["text"].tolist()]
    assert samples.unseen.tolist() == [scene.is_unseen for scene in told]
    n, first = len(told), 4 / 44
    share = 0.4 * first + 0.6 * (1 - 40 / 44 * 38 / 42)  # exactly: a seen composition has two of the 44 tickets
    assert stats.binomtest(int(samples.unseen.sum()), n, share).pvalue > FALSE_ALARM
    training, held = samples.split(0.1)
    assert not training.unseen.any()
    pairs = {(t.colour, t.shape) for i in training.y["text"].tolist() for t in parse(samples.captions[i]).things}
    assert pairs == set(itertools.product(COLOURS, SHAPES)) - set(UNSEEN)
    assert {c for c, _ in pairs} == set(COLOURS)
    assert {s for _, s in pairs} == set(SHAPES)
    assert int(held.unseen.sum()) == int(samples.unseen.sum())


# ---- words


def test_a_caption_says_what_the_scene_is(many):
    captions, y = many.captions()
    assert len(set(captions)) == len(captions)
    assert torch.equal(y.unique(), torch.arange(len(captions)))
    for i in range(2000):
        scene = many.scene(i)
        told = tuple(
            dataclasses.replace(thing, centre=None, size=thing.size if many.is_told[i, k] else "")
            for k, thing in enumerate(scene.things)
        )
        assert parse(captions[y[i]]) == Scene(told, scene.relation)


def test_captions_are_parsed_and_said_again(many):
    for caption in many[:3000].captions()[0]:
        assert parse(caption).caption == caption
    for size, colour, shape in itertools.product(("", *SIZES), COLOURS, SHAPES):
        scene = Scene((Thing(colour, shape, size),))
        assert parse(scene.caption) == scene
        assert re.match("an orange" if (size, colour) == ("", "orange") else "a ", scene.caption)


def test_capitals_spaces_and_a_full_stop_do_not_count():
    assert parse("  A Large  Red circle above\tan orange SQUARE. ") == parse(
        "a large red circle above an orange square"
    )


@pytest.mark.parametrize(
    ("prompt", "told"),
    [
        ("a crimson circle", "got 'crimson' in 'a crimson circle'"),
        ("a red circel", "did you mean 'circle'"),
        ("a red circle, a blue square", "got 'circle,'"),
        ("", "one thing or two, got ''"),
        ("a red", "one thing or two, got 'a red'; say it like 'a red circle'"),
        ("a circle red", "one thing or two"),
        ("a red circle above", "one thing or two"),
        ("a red circle left a blue square", "one thing or two"),
        ("a red circle above a blue square above a green cross", "one thing or two"),
    ],
)
def test_a_prompt_outside_of_the_grammar_is_named(prompt, told):
    with pytest.raises(ValueError, match=re.escape(told)):
        parse(prompt)


@pytest.mark.parametrize("is_unseen", [False, True])
def test_prompts_are_balanced(is_unseen):
    asked = prompts(4000, is_unseen, seed=3)
    assert asked[:50] == prompts(50, is_unseen, seed=3)
    assert asked[:50] != prompts(50, is_unseen, seed=4)
    told = [parse(prompt) for prompt in asked]
    assert all(scene.is_unseen == is_unseen for scene in told)
    assert [len(scene.things) for scene in told[:6]] == [1, 2, 1, 2, 1, 2]
    assert [[bool(thing.size) for thing in scene.things] for scene in told[:4]] == [[0], [0, 0], [1], [1, 1]]
    two = [scene for scene in told if scene.relation]
    assert all(scene.things[0].caption != scene.things[1].caption for scene in two)
    compositions = list(UNSEEN if is_unseen else set(itertools.product(COLOURS, SHAPES)) - set(UNSEEN))
    alone = [(s.things[0].colour, s.things[0].shape) for s in told if not s.relation]
    for values, kinds in (
        (alone, compositions),
        ([scene.relation for scene in two], RELATIONS),
        ([thing.size for scene in told for thing in scene.things if thing.size], SIZES),
    ):
        assert stats.chisquare([values.count(kind) for kind in kinds]).pvalue > FALSE_ALARM
    if is_unseen:
        assert {scene.things[0].is_unseen for scene in two} == {True, False}
        assert all(sum(thing.is_unseen for thing in scene.things) == 1 for scene in two)


# ---- the reader


def test_what_was_drawn_is_read(drawn):
    found, _, things = drawn
    scenes_of = [found.scene(i) for i in range(len(found))]
    assert all(shows(*pair) for pair in zip(things, scenes_of, strict=True))  # 10,000 of 10,000 were, too
    for i, scene in enumerate(scenes_of):
        true, seen = ({(t.colour, t.shape): t.centre for t in found} for found in (scene.things, things[i]))
        assert all(math.dist(true[pair], seen[pair]) < 0.3 for pair in true)


def test_captions_agree_with_their_pictures(drawn):
    found, pictures, _ = drawn
    captions, y = found[:500].captions()
    asked = [captions[i] for i in y]
    assert agreement(asked, pictures[:500]).all()
    assert agrees(asked[0], pictures[0])
    turned = agreement(asked, pictures[:500].roll(1, 0))
    same = [shows(drawn[2][i - 1 if i else 499], parse(asked[i])) for i in range(500)]
    assert turned.tolist() == same
    assert turned.float().mean() < 0.05


def test_noise_of_ten_levels_does_not_matter(drawn):
    found, pictures, _ = drawn
    noise = 10 * torch.randn(pictures.shape, generator=torch.Generator().manual_seed(2))
    right = sum(shows(things, found.scene(i)) for i, things in enumerate(read(pictures + noise)))
    assert stats.binomtest(right, len(found)).proportion_ci(0.999).low > 0.99


def other(value, values):
    """All but one."""
    return [each for each in values if each != value]


def test_a_prompt_that_is_wrong_in_one_word_is_refused(drawn):
    found, _, things = drawn
    asked = 0
    for i in range(len(found)):
        scene = found.scene(i)
        wrong = [
            Scene((*scene.things[:k], dataclasses.replace(thing, **{name: value}), *scene.things[k + 1 :]), "above")
            for k, thing in enumerate(scene.things)
            for name, values in (("colour", COLOURS), ("shape", SHAPES), ("size", SIZES))
            for value in other(getattr(thing, name), values)
        ]
        wrong = [dataclasses.replace(each, relation=scene.relation) for each in wrong]
        if scene.relation:
            wrong += [Scene(scene.things, relation) for relation in other(scene.relation, RELATIONS)]
            wrong += [Scene(scene.things[::-1], scene.relation), Scene(scene.things[:1]), Scene(scene.things[1:])]
        else:
            wrong += [Scene((*scene.things, Thing("red", "cross")), relation) for relation in RELATIONS]
        asked += len(wrong)
        assert not any(shows(things[i], each) for each in wrong)
    assert asked > 15 * len(found)


def canvas(*blots):
    """A picture with red on it as each of the functions of x and y, from the middle in pixels, covers it."""
    place = (torch.arange(SIDE * 10) + 0.5) / 10 - SIDE / 2
    x, y = place[None, :], place[:, None]
    cover = sum(torch.nn.functional.avg_pool2d(blot(x, y).float()[None, None], 10) for blot in blots)[0]
    ground = torch.tensor(GROUND)[:, None, None]
    return ground + cover * (torch.tensor(PALETTE["red"])[:, None, None] - ground)


NO_SHAPES = {
    "ring": lambda x, y: (x**2 + y**2 < 3.3**2) & (x**2 + y**2 > 1.7**2),
    "upside-down triangle": lambda x, y: INSIDE["triangle"](x / 3.3, -y / 3.3),
    "half of a circle": lambda x, y: (x**2 + y**2 < 3.3**2) & (x < 0),
    "bar": lambda x, y: (abs(x) < 5) & (abs(y) < 1.2),
    "huge circle": lambda x, y: x**2 + y**2 < 5**2,
    "saltire": lambda x, y: INSIDE["cross"]((x + y) / 4.67, (x - y) / 4.67),
}


@pytest.mark.parametrize("name", NO_SHAPES)
def test_what_is_no_shape_is_read_as_none(name):
    (thing,) = read(canvas(NO_SHAPES[name])[None])[0]
    assert (thing.colour, thing.shape, thing.size) == ("red", "", "")
    assert math.hypot(thing.centre[0] - 8, thing.centre[1] - 8) < 3


def test_a_large_shape_in_the_middle_is_read():
    for name in SHAPES:
        picture = canvas(lambda x, y, name=name: INSIDE[name](x / 3.3, y / 3.3))
        assert agrees(f"a large red {name}", picture)
        assert not agrees(f"a small red {name}", picture)


def test_strays_ghosts_and_an_empty_canvas_are_told_apart():
    def circle(x, y):
        return (x + 3) ** 2 + (y + 3) ** 2 < 3.3**2

    alone = canvas(circle)
    assert agrees("a red circle", alone)
    speck = canvas(circle, lambda x, y: (abs(x - 5.5) < 0.5) & (abs(y - 5) < 1))  # two pixels
    assert agrees("a red circle", speck)
    stray = canvas(circle, lambda x, y: (abs(x - 5) < 1) & (abs(y - 5) < 1))  # four
    assert len(read(stray[None])[0]) == 2
    assert not agrees("a red circle", stray)
    ghost = alone + 0.45 * (canvas(lambda x, y: (x - 4) ** 2 + (y - 4) ** 2 < 3.3**2) - canvas(lambda x, y: 0 * x * y))
    assert not agrees("a red circle", ghost)
    empty = torch.tensor(GROUND)[None, :, None, None].expand(2, 3, SIDE, SIDE)
    assert read(empty) == [(), ()]
    assert read(empty[:0]) == []
    assert not agrees("a red circle", empty[0])


def test_levels_beyond_the_ends_are_clipped():
    picture = canvas(lambda x, y: x**2 + y**2 < 3.3**2)
    wild = torch.where(picture == picture.amax(), picture + 200, picture - 200 * (picture <= 28))
    clipped = wild.clamp(0, 255)
    assert read(wild[None]) == read(clipped[None])
    assert agrees("a large red circle", wild)


def test_two_colours_that_touch_are_two_things():
    left = canvas(lambda x, y: INSIDE["square"]((x + 3) / 3.26, y / 3.26))  # from -6 to 0
    blue = left.flip(0).roll(6, 2)
    picture = torch.where((left - blue).abs().amax(0) > 0, torch.maximum(left, blue), left)
    assert sorted(thing.colour for thing in read(picture[None])[0]) == ["blue", "red"]


# ---- the source, and bad input


def test_the_source_is_known_by_its_name_and_its_parts():
    samples = build(Source, "shapes:300,7").load()
    assert build(Source, "shapes:300,7").load().digest == samples.digest
    assert len({samples.digest, ShapesSource(300, 8).load().digest, ShapesSource(301, 7).load().digest}) == 3
    seen = samples.units.into(samples.x[:20])
    assert (seen.min() >= -1, seen.max() <= 1) == (True, True)
    assert samples.is_image
    assert (samples.y["text"].dtype, samples.y["text"].shape) == (torch.int64, (300,))
    assert "300 drawings" in samples.title


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: ShapesSource(0), "count must be a whole number from 1, got 0"),
        (lambda: scenes(-2), "count must be a whole number from 1, got -2"),
        (lambda: scenes(2, seed=-1), "seed must be a whole number"),
        (lambda: prompts(0, True), "count must be a whole number from 1, got 0"),
        (lambda: read(torch.zeros(3, 16, 16)), r"must have shape \(pictures, 3, 16, 16\), got \(3, 16, 16\); pass x"),
        (lambda: read(torch.zeros(1, 3, 8, 8)), r"got \(1, 3, 8, 8\)"),
        (lambda: read(torch.full((2, 3, 16, 16), math.nan)), "must be finite, got nan in picture 0"),
        (lambda: agreement(["a red circle"], torch.zeros(2, 3, 16, 16)), "one prompt for each picture, got 1 for 2"),
        (lambda: agrees("a mauve circle", torch.zeros(3, 16, 16)), "got 'mauve'"),
    ],
)
def test_bad_input_is_named(call, told):
    with pytest.raises(ValueError, match=told):
        call()
