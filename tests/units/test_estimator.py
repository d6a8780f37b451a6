"""FlowMatcher against densities that are known, and against what scikit-learn asks of an estimator."""

import copy

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

import pathline as pl
from pathline import FlowMatcher

SMALL = {"width": 16, "depth": 1, "max_steps": 25, "solver_steps": 4, "random_state": 0}


SCALE = np.array([100.0, 0.1])  # units in which a log-determinant counts
MEANS, VARIANCES, SHARES = np.array([[-2.0, 0.0], [2.0, 1.0]]), np.array([[0.5, 0.1], [0.1, 0.5]]), np.array([0.3, 0.7])
MIXTURE = pl.GaussianMixture(*map(torch.from_numpy, (MEANS, VARIANCES, SHARES)))
ROWS = MIXTURE.sample(3000, seed=0).numpy() * SCALE


def log_density(x):
    """Of rows of the mixture of two normals."""
    return MIXTURE.log_prob(torch.from_numpy(x / SCALE)).numpy() - np.log(SCALE).sum()


def of_class(k, x):
    """Of rows of one of them."""
    return multivariate_normal(MEANS[k] * SCALE, np.diag(VARIANCES[k] * SCALE**2)).logpdf(x)


@pytest.fixture(scope="module")
def two():
    """A model of the mixture."""
    return FlowMatcher(max_steps=400, random_state=0).fit(ROWS[:1500])


@pytest.fixture(scope="module")
def classes():
    """A model of its two normals as classes, "left" and "right"."""
    names = np.where(ROWS[:1500, 0] < 0, "left", "right")
    return FlowMatcher(max_steps=400, solver_steps=16, random_state=0).fit(ROWS[:1500], names)


@pytest.fixture(scope="module")
def linear():
    """x = A y + b + noise with two numbers y ~ N(0, I): a fitted model, fresh rows and their true densities."""
    rng = np.random.default_rng(0)
    a, b = np.array([[30.0, -10.0], [0.0, 0.02], [5.0, 5.0]]), np.array([100.0, 0.0, -7.0])
    root = np.array([[10.0, 0.0, 0.0], [0.01, 0.01, 0.0], [2.0, -3.0, 1.0]])

    def draw(rows):
        y = rng.normal(size=(rows, 2))
        return y @ a.T + b + rng.normal(size=(rows, 3)) @ root.T, y

    x, y = draw(1000)
    fresh, given = draw(400)
    model = FlowMatcher(max_steps=300, solver_steps=16, random_state=0).fit(x, y)
    conditional = multivariate_normal(np.zeros(3), root @ root.T).logpdf(fresh - given @ a.T - b)
    marginal = multivariate_normal(b, root @ root.T + a @ a.T).logpdf(fresh)
    return model, fresh, given, conditional, marginal


def test_conditional_density_of_a_linear_gaussian(linear):
    # in nats, 0.14 and 0.02; without the log-determinant it is 2.3 off, with y left out 3.9, with y out of order 446
    model, x, y, truth, _ = linear
    assert np.abs(model.score_samples(x, y) - truth).mean() < 0.2
    assert model.score(x, y) == pytest.approx(truth.mean(), abs=0.05)


def test_conditional_density_of_a_curve():
    # a mean of sin(3 y), of which a linear regression takes the trend alone and the network the rest
    rng = np.random.default_rng(1)
    y = rng.uniform(-1, 1, 2500)
    x = np.stack((np.sin(3 * y) + 0.3 * rng.normal(size=2500), 5 * rng.normal(size=2500)), 1)
    truth = multivariate_normal([0, 0], np.diag([0.09, 25])).logpdf(x - np.stack((np.sin(3 * y), 0 * y), 1))
    lost = [
        truth[2000:].mean()
        - FlowMatcher(max_steps=steps, random_state=0).fit(x[:2000], y[:2000]).score(x[2000:], y[2000:])
        for steps in (0, 400)
    ]
    assert lost[1] < 0.08 and lost[0] > 0.2, lost


def test_density_without_numbers_is_the_marginal(linear):
    model, x, _, _, truth = linear
    assert np.abs(model.score_samples(x) - truth).mean() < 0.2


def test_samples_given_numbers_have_their_mean_and_covariance(linear):
    model, _, _, _, _ = linear
    x = model.sample(4000, [1.0, -1.0])
    assert (x.mean(0) - [140.0, -0.02, -7.0]) / [10, 0.014, 3.7] == pytest.approx([0] * 3, abs=0.15)
    assert x.std(0) == pytest.approx([10, 0.01414, 14**0.5], rel=0.1)
    assert np.corrcoef(x.T)[0, 1:] == pytest.approx([0.5**0.5, 2 / 14**0.5], abs=0.06)
    assert model.sample(4000).std(0)[0] == pytest.approx(1100**0.5, rel=0.08)


def test_density_of_a_mixture(two):
    # the normal that training begins at loses 0.5 nats; without the log-determinant it is 3 off
    fresh = ROWS[1500:2000]
    untrained = FlowMatcher(max_steps=0, random_state=0).fit(ROWS[:1500])
    assert log_density(fresh).mean() - two.score(fresh) < 0.08
    assert log_density(fresh).mean() - untrained.score(fresh) > 0.3


def test_density_integrates_to_one_in_the_units_of_the_data(two):
    # a step of 0.35 is as good as an integral for scales above 0.3; without the log-determinant the sum is off 10-fold
    side = np.linspace(-6.3, 6.3, 37)
    grid = np.stack(np.meshgrid(side * SCALE[0], side * SCALE[1]), -1).reshape(-1, 2)
    total = np.exp(two.score_samples(grid)).sum() * (side[1] - side[0]) ** 2 * SCALE.prod()
    assert total == pytest.approx(1, abs=5e-3)


def test_density_of_classes_and_of_their_mixture(classes):
    fresh = ROWS[1500:1900]
    for k, name in enumerate(("left", "right")):
        x = fresh[(fresh[:, 0] > 0) == k]
        assert abs(np.mean(of_class(k, x) - classes.score_samples(x, [name] * len(x)))) < 0.1
    shares = classes.class_prior_
    assert list(classes.classes_) == ["left", "right"] and shares == pytest.approx([0.3, 0.7], abs=0.04)
    each = [
        np.log(share) + classes.score_samples(fresh, name) for share, name in zip(shares, classes.classes_, strict=True)
    ]
    assert classes.score_samples(fresh) == pytest.approx(np.logaddexp(*each), abs=1e-9)


def test_samples_are_of_the_class_asked_for(classes):
    assert (classes.sample(300, "left")[:, 0] < 0).mean() > 0.99
    asked = np.array(["left", "right"] * 150)
    assert ((classes.sample(300, asked)[:, 0] < 0) == (asked == "left")).mean() > 0.99
    assert (classes.sample(3000)[0][:, 0] < 0).mean() == pytest.approx(classes.class_prior_[0], abs=0.04)


def test_samples_have_the_density_that_is_told(two):
    # E log p over p's own samples is minus its entropy: both ways of the flow are one
    x = two.sample(1500, random_state=1)
    entropy = -log_density(ROWS).mean()
    assert two.score(x) == pytest.approx(-entropy, abs=0.15)
    assert log_density(x).mean() == pytest.approx(-entropy, abs=0.3)


def test_density_follows_the_units():
    x = ROWS[:200]
    model, other = FlowMatcher(**SMALL).fit(x), FlowMatcher(**SMALL).fit(1000 * x + 5)
    assert model.score_samples(x) - 2 * np.log(1000) == pytest.approx(other.score_samples(1000 * x + 5), abs=1e-3)


def test_a_small_table_loses_nothing_by_training():
    rng = np.random.default_rng(1)
    x, fresh = rng.normal(size=(60, 5)), rng.normal(size=(500, 5))
    untrained = FlowMatcher(max_steps=0, solver_steps=1, random_state=0).fit(x)
    trained = FlowMatcher(patience=100, solver_steps=8, random_state=0).fit(x)
    assert trained.score(fresh) > untrained.score(fresh) - 0.1


def test_enough_solver_steps(two):
    x, usual = ROWS[:50], two.score_samples(ROWS[:50])
    careful = copy.deepcopy(two).set_params(solver_steps=100).score_samples(x)
    assert np.abs(usual - careful).max() < 0.02 and abs(np.mean(usual - careful)) < 0.002


@pytest.mark.parametrize("kind", ["nothing", "classes", "numbers"])
def test_sample_i_depends_on_seed_and_i_only(kind):
    x = ROWS[:100]
    y = {"nothing": None, "classes": np.arange(100) % 3, "numbers": x[:, 0] / 7}[kind]
    model = FlowMatcher(**SMALL).fit(x, y)

    def drawn(count, **seed):  # classes that were drawn come with the rows
        return model.sample(count, **seed)[0] if kind == "classes" else model.sample(count, **seed)

    many = drawn(50)
    assert drawn(5) == pytest.approx(many[:5], rel=1e-9)
    assert np.abs(drawn(5, random_state=1) - many[:5]).min() > 0


def test_a_refit_is_the_same_and_a_seed_matters():
    first, second = FlowMatcher(**SMALL).fit(ROWS[:100]), FlowMatcher(**SMALL)
    state = torch.get_rng_state()
    second.fit(ROWS[100:200]).fit(ROWS[:100])
    assert (first.score_samples(ROWS[:50]) == second.score_samples(ROWS[:50])).all()
    assert (torch.get_rng_state() == state).all()  # torch's own generator is left alone
    other = clone(first).set_params(random_state=1).fit(ROWS[:100])
    assert (first.score_samples(ROWS[:50]) != other.score_samples(ROWS[:50])).any()


def test_a_refit_without_classes_forgets_them(classes):
    model = clone(classes).set_params(**SMALL).fit(ROWS[:100], np.arange(100) % 2)
    assert not hasattr(model.fit(ROWS[:100]), "classes_")
    with pytest.raises(ValueError, match="y must be left out"):
        model.score_samples(ROWS[:5], [0] * 5)


def test_members_are_averaged():
    models = [FlowMatcher(**{**SMALL, "max_steps": 60}, members=members).fit(ROWS[:300]) for members in (1, 3)]
    assert [len(model.n_steps_) for model in models] == [1, 3]
    x = torch.from_numpy(ROWS[:5] / SCALE) / 10
    mean = models[1].field_.network.network
    each = torch.stack([network(x, x[:, 0]) for network in mean.networks])
    assert torch.allclose(mean(x, x[:, 0]), each.mean(0)) and each.std(0).min() > 0
    assert torch.allclose(each[0], models[0].field_.network.network(x, x[:, 0]))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
def test_check_estimator():
    check_estimator(FlowMatcher(width=4, depth=1, max_steps=2, solver_steps=2, random_state=0))


def test_pipeline_and_cross_validation():
    x, y = ROWS[:150], np.arange(150) % 2
    pipeline = Pipeline([("scale", StandardScaler()), ("flow", FlowMatcher(**SMALL))]).fit(x)
    inside = pipeline["flow"].score_samples(pipeline["scale"].transform(x))
    assert pipeline.score_samples(x) == pytest.approx(inside)
    assert pipeline.score(x) == pytest.approx(inside.mean())
    assert pipeline["scale"].inverse_transform(pipeline["flow"].sample(200)).std(0) == pytest.approx(x.std(0), rel=0.3)
    for conditions in (None, y, y.astype(float)):
        assert np.isfinite(cross_val_score(FlowMatcher(**SMALL), x, conditions, cv=2)).all()
    search = GridSearchCV(FlowMatcher(**SMALL), {"max_steps": [0, 20]}, cv=2).fit(x)
    assert search.best_score_ == search.cv_results_["mean_test_score"].max()
    assert search.best_estimator_.score(x) == pytest.approx(search.best_estimator_.score_samples(x).mean())


def test_a_point_beyond_all_numbers_has_no_density():
    model = FlowMatcher(**SMALL).fit(ROWS[:100])
    found = model.score_samples(np.array([[1e6, 0.0], [1e300, 1e300]]))
    assert -np.inf < found[0] < -50 and found[1] == -np.inf


@pytest.mark.parametrize(
    ("y", "is_classes"),
    [
        (np.arange(20) % 2, True),
        (np.arange(20) % 2 == 0, True),
        (list("ab") * 10, True),
        (np.array(["a", "b"] * 10, dtype=object), True),
        (np.linspace(0, 1, 20), False),
        (np.linspace(0, 1, 20).astype(np.float32)[:, None], False),
        (np.ones((20, 3)), False),
    ],
    ids=["whole", "boolean", "strings", "objects", "floats", "a column", "constant floats"],
)
def test_the_type_of_y_tells_what_it_is(y, is_classes):
    model = FlowMatcher(**SMALL).fit(ROWS[:20], y)
    assert hasattr(model, "classes_") == is_classes
    assert model.score_samples(ROWS[:20], y) == pytest.approx(
        [float(model.score_samples(ROWS[k : k + 1], y[k : k + 1])[0]) for k in range(20)], abs=1e-8
    )
    assert len(model.sample(3, y[0])) == 3


WRONG = {
    "width": ({"width": 0}, None, "width, depth and heads must be at least 1"),
    "members": ({"members": 0}, None, "members must be at least 1, got 0"),
    "batch": ({"batch_size": 0}, None, "batch_size must be at least 1, or None to go by the rows, got 0"),
    "share": ({"validation_fraction": 1.0}, None, "validation_fraction must be a share of rows between 0 and 1, got 1"),
    "rate": ({"learning_rate": -1.0}, None, "learning_rate must be a finite number, 0 or more, got -1"),
    "too few": ({}, [0] * 19, "y must have one condition for each of 20 rows, got 19"),
    "NaN": ({}, [np.nan] * 20, "y contains NaN"),
    "square": ({}, np.zeros((20, 2), dtype=int), r"y must be classes of shape \(n,\), or floats"),
    "mixed": ({}, np.array(["a", 1] * 10, dtype=object), "y must hold classes that can be put in order"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_fitted_is_refused(case):
    settings, y, message = WRONG[case]
    with pytest.raises(ValueError, match=message):
        FlowMatcher(**{**SMALL, **settings}).fit(ROWS[:20], y)


def test_what_does_not_fit_a_model_is_refused(classes, linear):
    with pytest.raises(NotFittedError):
        FlowMatcher().sample()
    with pytest.raises(ValueError, match="n_samples must be at least 1, got 0"):
        classes.sample(0)
    with pytest.raises(ValueError, match="y must hold classes of those fitted, 'left', 'right', got 'up'"):
        classes.score_samples(ROWS[:2], ["left", "up"])
    with pytest.raises(ValueError, match="y must be one condition or one for each of 5 rows, got 2"):
        classes.sample(5, ["left", "right"])
    with pytest.raises(ValueError, match="X has 1 features, but FlowMatcher is expecting 2"):
        classes.score_samples(ROWS[:2, :1])
    with pytest.raises(ValueError, match="y must have the numbers that were fitted, 2 in a row"):
        linear[0].sample(2, np.zeros((2, 3)))
    with pytest.raises(ValueError, match="y contains NaN"):
        linear[0].sample(2, [np.nan, 0.0])
