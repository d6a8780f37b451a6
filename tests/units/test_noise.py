"""Counter-based noise: published answers, and independence of everything but (seed, sample, draw, stream)."""

import math

import pytest
import torch
from scipy import stats

from pathline.noise import BLOCK, Noise, fresh_seed, philox

pytestmark = pytest.mark.fast

ANSWERS = [  # Random123's kat_vectors, philox4x32 with 10 rounds
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


@pytest.mark.parametrize(("counter", "key", "answer"), ANSWERS)
def test_the_cipher_gives_the_published_answers(counter, key, answer):
    columns = [torch.tensor([int(word, 16)]) for word in counter.split()]
    k0, k1 = (int(word, 16) for word in key.split())
    assert [f"{int(word):08x}" for word in philox(columns, (k0, k1))] == answer.split()


def test_the_cipher_leaves_its_counters_alone():
    columns = [torch.arange(4) for _ in range(4)]
    philox(columns, (1, 2))
    assert all(torch.equal(column, torch.arange(4)) for column in columns)


def test_words_are_the_cipher_of_element_draw_and_stream():
    seed, stream, draw = 0x0123456789ABCDEF, 9, 5
    words = Noise(seed, stream=stream).words((2, 4), draw)
    for row in range(2):
        counter = [torch.tensor([value]) for value in (row, 0, draw, stream)]
        expected = philox(counter, (seed & 0xFFFFFFFF, seed >> 32))
        assert words[row].tolist() == [int(word) for word in expected]


@pytest.mark.parametrize("shape", [(1,), (3,), (5, 4, 4), (7,), ()])
@pytest.mark.parametrize("kind", ["normal", "uniform", "words"])
def test_sample_i_is_the_same_in_any_batch(shape, kind):
    noise = Noise(7)
    whole = getattr(noise, kind)((13, *shape), draw=2)
    for first, count in ((0, 1), (1, 4), (5, 8), (12, 1)):
        assert torch.equal(getattr(noise.at(first), kind)((count, *shape), draw=2), whole[first : first + count])


def test_sample_i_is_the_same_across_blocks_of_the_cipher():
    noise, count = Noise(3), 4 * BLOCK + 10
    whole = noise.normal((count, 1))
    assert torch.equal(noise.at(count - 20).normal((20, 1)), whole[-20:])


def test_starts_add_up():
    assert Noise(1).at(3).at(4) == Noise(1, first=7)
    assert Noise(1).of(3).of(4) == Noise(1, stream=4)


@pytest.mark.parametrize(
    "other", [(Noise(1), 0), (Noise(0, stream=1), 0), (Noise(0), 1), (Noise(2**63), 0), (Noise(2**32), 0)]
)
def test_seeds_streams_and_draws_are_uncorrelated(other):
    noise, draw = other
    n = 20_000
    correlation = float((Noise(0).normal((n, 1)) * noise.normal((n, 1), draw)).mean())
    assert abs(correlation) * math.sqrt(n) < 5


def test_normal_numbers_are_normal():
    x = Noise(11).normal((25_000, 2), dtype=torch.float64)
    assert stats.kstest(x.flatten().numpy(), "norm").pvalue > 1e-4
    assert abs(float((x[:, 0] * x[:, 1]).mean())) < 5 / math.sqrt(len(x))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_uniform_numbers_are_uniform_and_strictly_inside(dtype):
    u = Noise(5).uniform((50_000, 1), dtype=dtype)
    assert u.dtype == dtype and 0 < float(u.min()) and float(u.max()) < 1
    assert stats.kstest(u.flatten().numpy(), "uniform").pvalue > 1e-4


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_even_the_extreme_words_stay_strictly_inside(dtype, monkeypatch):
    for word in (0, 2**32 - 1):
        monkeypatch.setattr(Noise, "words", lambda self, shape, draw=0, device=None, w=word: torch.full(shape, w))
        assert 0 < float(Noise(0).uniform((1, 1), dtype=dtype)) < 1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_noise_like_points_has_their_dtype(dtype):
    x = torch.zeros(4, 3, dtype=dtype)
    assert torch.equal(Noise(2).like(x, 3), Noise(2).normal((4, 3), 3, dtype))
    assert Noise(2).like(x).dtype == dtype


def test_noise_in_bfloat16_is_that_of_float32_rounded():
    fine, coarse = Noise(2).normal((8, 3)), Noise(2).normal((8, 3), dtype=torch.bfloat16)
    assert torch.equal(coarse, fine.bfloat16())


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_a_permutation_holds_each_once(size):
    assert torch.equal(Noise(4).permutation(size, 3).long().sort().values, torch.arange(size))


def test_permutations_differ_by_draw_and_are_even():
    orders = torch.stack([Noise(0).permutation(3, draw) for draw in range(3000)])
    counts = torch.unique(orders, dim=0, return_counts=True)[1]
    assert len(counts) == 6
    assert stats.chisquare(counts.numpy()).pvalue > 1e-4


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_a_seed_outside_64_bits_is_refused(seed):
    with pytest.raises(ValueError, match=rf"seed must be .* got {seed}"):
        Noise(seed)


def test_the_largest_seed_works():
    assert not torch.equal(Noise(2**64 - 1).normal((4, 1)), Noise(2**63 - 1).normal((4, 1)))


@pytest.mark.parametrize(("first", "stream"), [(-1, 0), (0, -1), (0, 2**32)])
def test_a_negative_index_is_refused(first, stream):
    with pytest.raises(ValueError, match="first and stream must not be negative"):
        Noise(0, first, stream)


def test_no_samples_are_no_numbers():
    assert Noise(0).normal((0, 3)).shape == (0, 3)
    assert Noise(0).at(1).normal((0, 3)).shape == (0, 3)


def test_a_fresh_seed_is_settled_by_torch():
    with torch.random.fork_rng():
        torch.manual_seed(3)
        first, second = fresh_seed(), fresh_seed()
        torch.manual_seed(3)
        assert fresh_seed() == first != second


def test_an_order_of_millions_is_that_of_its_keys():
    size = (1 << 20) + 5  # enough to be sorted in parts
    high, low = Noise(7).words((2, size))
    keys = (high << 31) ^ low
    assert (keys[Noise(7).permutation(size)].diff() > 0).all()
