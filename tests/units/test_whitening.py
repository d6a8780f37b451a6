"""The whitening of a table against its own Jacobian, and against columns whose bend is known."""

import numpy as np
import pytest

from pathline.data.whitening import Bend, Whitening

pytestmark = pytest.mark.fast


def table(rows=400, seed=0):
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(rows, 3)) @ np.array([[1.0, 0.9, 0.0], [0.0, 0.3, 0.5], [0.0, 0.0, 2.0]])
    return np.stack((np.exp(z[:, 0]), 1e4 + 50 * z[:, 1], z[:, 2] ** 3), 1), rng.normal(size=(rows, 2))


def test_back_undoes_into():
    x, features = table()
    whitening = Whitening.fit(x, features)
    z, _ = whitening.into(x, features)
    assert np.allclose(whitening.back(z, features), x, rtol=1e-9)


def test_log_det_is_that_of_the_jacobian():
    # without the axes' scales it is 1.1 off, without the columns' standard deviations 7.9, without the bend 0.6 to 1.3
    x, features = table()
    whitening = Whitening.fit(x, features)
    _, log_det = whitening.into(x, features)
    for row in (0, 7, 20):
        steps = 1e-5 * np.diag(whitening.std)
        ahead, _ = whitening.into(x[row] + steps, features[[row] * 3])
        behind, _ = whitening.into(x[row] - steps, features[[row] * 3])
        jacobian = (ahead - behind) / (2 * np.diag(steps)[:, None])
        assert np.linalg.slogdet(jacobian)[1] == pytest.approx(log_det[row], abs=1e-6)


def test_what_it_makes_is_white():
    x, features = table(5000)
    z, _ = Whitening.fit(x, features).into(x, features)
    assert np.abs(z.mean(0)).max() < 1e-9
    assert np.abs(np.cov(z.T) - np.eye(3)).max() < 0.01


def test_a_bent_normal_is_made_straight():
    # s = sinh(tail asinh((r - place) / width) - skew) of 20,000 normal numbers: the likeliest bend is the one they have
    s = np.random.default_rng(1).normal(size=(20_000, 1))
    truth = Bend(np.array([0.3]), np.array([0.8]), np.array([0.5]), np.array([0.7]))
    r = truth.back(s)
    found = Bend.fit(r)
    straight, log_slope = found.into(r)
    exact = -(s**2) / 2 + truth.into(r)[1]
    assert np.mean(exact - (-(straight**2) / 2 + log_slope)) == pytest.approx(0, abs=5e-4)  # 2 / 20,000 is expected
    assert np.hstack((found.place, found.width, found.skew, found.tail)) == pytest.approx(
        [0.3, 0.8, 0.5, 0.7], abs=0.06
    )


def test_a_normal_column_is_hardly_bent():
    r = np.random.default_rng(2).normal(size=(50, 200))
    found = Bend.fit((r - r.mean(0)) / r.std(0))
    assert np.sqrt(np.mean(found.skew**2)) < 0.12  # of 50 rows; 1.05 without the prior
    assert np.abs(np.log(found.tail)).max() < 0.3


def test_a_regression_is_taken_out():
    rng = np.random.default_rng(3)
    y = rng.normal(size=(2000, 2))
    slope, noise = np.array([[3.0, 0.0, -1.0], [0.5, 10.0, 2.0]]), rng.normal(size=(2000, 3))
    found = Whitening.fit(5.0 + y @ slope + 0.1 * noise, y)
    assert found.slope == pytest.approx(slope, abs=0.02) and found.mean == pytest.approx([5.0] * 3, abs=0.02)
    assert found.std == pytest.approx([0.1] * 3, rel=0.1)


def test_small_tables_are_shrunk_and_large_ones_are_not():
    rng = np.random.default_rng(4)
    mix = np.geomspace(0.05, 1, 20)[:, None] * np.linalg.qr(rng.normal(size=(20, 20)))[0]

    def off(rows):
        found = Whitening.fit(rng.normal(size=(rows, 20)) @ mix, np.empty((rows, 0)))
        z, log_det = found.into(fresh, np.empty((len(fresh), 0)))
        return np.mean(truth - (log_det - (z**2).sum(1) / 2))

    s = rng.normal(size=(4000, 20))
    fresh, truth = s @ mix, -(s**2).sum(1) / 2 - np.log(np.abs(np.linalg.det(mix)))
    # nats lost, of 230 numbers: the covariance as it is loses 4.8 at 60 rows, half of it the unit matrix 6.6 at 2,000
    assert off(60) < 3.5
    assert off(2000) < 0.12


def test_columns_that_repeat_each_other_are_borne():
    x = np.random.default_rng(5).normal(size=(50, 2))[:, [0, 1, 0]]
    z, log_det = Whitening.fit(x, np.empty((50, 0))).into(x, np.empty((50, 0)))
    assert np.isfinite(z).all() and np.isfinite(log_det).all()


def test_a_column_beyond_float64_is_named():
    x = np.random.default_rng(6).normal(size=(20, 3))
    x[:, 1] *= 1e200
    with pytest.raises(ValueError, match=r"squares float64 holds, got .* in column 1; "):
        Whitening.fit(x, np.empty((20, 0)))


def test_a_constant_column_is_left_out_and_comes_back_exactly():
    x = np.random.default_rng(6).normal(size=(20, 3))
    without, none = Whitening.fit(x[:, ::2], np.empty((20, 0))), np.empty((20, 0))
    x[:, 1] = 0.1
    found = Whitening.fit(x, none)
    z, log_det = found.into(x, none)
    assert np.array_equal(z, without.into(x[:, ::2], none)[0]) and np.isfinite(log_det).all()
    assert np.array_equal(found.back(z, none)[:, 1], x[:, 1]) and found.back(z, none) == pytest.approx(x)
    x[3, 1] = 0.2
    assert (np.isneginf(found.into(x, none)[1]) == (np.arange(20) == 3)).all()
