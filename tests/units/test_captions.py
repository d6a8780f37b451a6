"""Pairs of things that are never trained on together: which they are, and what of them is still seen."""

import hashlib
import random

import pytest

from pathline.data.captions import OTHERS, WITH, unseen_pairs
from pathline.data.credits import KNOWN, Credit, credit_of

pytestmark = pytest.mark.fast


def things(seed, count=40, overlays=5):
    """Captions as those of icons: X alone or not, X with Y, some with several Y, some with none, in any order."""
    rng = random.Random(seed)
    names = [f"thing {k}" for k in range(count)]
    found = [name for name in names if rng.random() < 0.7]
    found += [f"{name}{WITH}y{k}" for name in names for k in range(overlays) if rng.random() < 0.8]
    found += [f"{name}{WITH}y{rng.randrange(overlays)}{WITH}z" for name in names if rng.random() < 0.1]
    found += ["", "without", "with", "a withered rose", *rng.sample(found, 20)]  # some are of several pictures
    rng.shuffle(found)
    return found


def parts(captions, held):
    """Pairs that are held out, and the parts of each caption that is trained on."""
    out = {tuple(caption.split(WITH)) for caption, is_held in zip(captions, held, strict=True) if is_held}
    return out, {tuple(caption.split(WITH)) for caption, is_held in zip(captions, held, strict=True) if not is_held}


@pytest.mark.parametrize("share", [0.02, 0.1, 0.4, 0.7])
@pytest.mark.parametrize("seed", range(5))
def test_a_pair_is_never_trained_on_and_both_of_it_are_with_others(seed, share):
    captions = things(seed)
    held = unseen_pairs(captions, share, seed)
    out, seen = parts(captions, held)
    pairs = {tuple(caption.split(WITH)) for caption in captions if caption.count(WITH) == 1}
    assert out <= pairs and len(out) == round(share * len(pairs))
    together = {(x, y) for x, *others in seen for y in others}
    assert not out & together  # nor in a caption of several things
    for x, y in out:
        assert any(other[0] == x for other in seen)
        assert len({a for a, b in together if b == y} - {x}) >= OTHERS == 2
    words = {word for each in seen for part in each for word in part.split()} | {"with"}
    assert {word for pair in out for part in pair for word in part.split()} <= words


def test_the_choice_depends_on_the_captions_and_the_seed_alone():
    captions = things(0)
    found = dict(zip(captions, unseen_pairs(captions, 0.2, 3), strict=True))
    again = captions[::-1]
    assert dict(zip(again, unseen_pairs(again, 0.2, 3), strict=True)) == found
    assert dict(zip(captions, unseen_pairs(captions, 0.2, 4), strict=True)) != found


def test_every_pair_is_held_out_about_as_often_as_another():
    captions = [f"x{k}{WITH}y{j}" for k in range(6) for j in range(6)]
    counts = [sum(each) for each in zip(*(unseen_pairs(captions, 0.1, seed) for seed in range(600)), strict=True)]
    # a count is binomial, of mean 600 / 9 and deviation 7.7: one of 36 is beyond 6 of them less often than 1e-6
    assert sum(counts) == 4 * 600 and all(abs(count - 200 / 3) < 6 * 7.7 for count in counts)


@pytest.mark.parametrize("unseeable", ["a with y0", "b with y1"])
def test_a_thing_that_is_seen_nowhere_else_is_trained_on(unseeable):
    """`a` has one caption, and y1 is with two things alone, one of which would not be enough."""
    captions = ["a with y0", "b with y0", "b", "c with y0", "c", "d with y0", "d", "b with y1", "c with y1"]
    for seed in range(40):
        assert not dict(zip(captions, unseen_pairs(captions, 0.3, seed), strict=True))[unseeable]
    assert any(unseen_pairs(captions, 0.01))  # one at the least


@pytest.mark.parametrize("captions", [[], ["a", "without b"], ["a with b with c"] * 3, ["with b", "a with"]])
def test_captions_without_pairs_are_refused(captions):
    with pytest.raises(ValueError, match=r"captions must have pairs of the form 'X with Y' .*, got none"):
        unseen_pairs(captions, 0.1)


def test_more_than_can_be_held_out_is_refused():
    captions = things(0)
    with pytest.raises(ValueError, match=r"share must leave each X and Y .* got 0\.99 of .* can be held out; lower it"):
        unseen_pairs(captions, 0.99)
    with pytest.raises(ValueError, match="0 can be held out"):
        unseen_pairs(["a with b", "a", "c with b"], 0.1)
    for share in (0.0, 1.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="share must be between 0 and 1, got"):
            unseen_pairs(captions, share)


def test_a_known_data_set_is_told_by_the_names_of_its_files():
    (key,) = KNOWN
    assert credit_of(["b.png", "a.png"], "cats") == ("not stated", "cats")
    assert KNOWN[key].licence == "CC BY 3.0" and "Yusuke Kamiyamane" in KNOWN[key].source
    names = ("b.png", "a.png")
    known = hashlib.sha256(b"a.png\nb.png").hexdigest()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(KNOWN, known, Credit("CC BY 4.0", "A. Painter"))
        assert credit_of(names, "cats") == credit_of(reversed(names), "dogs") == ("CC BY 4.0", "A. Painter")
