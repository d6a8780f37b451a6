"""Names turn into objects and back, for every family there is."""

import inspect
import json

import pytest

import pathline as pl
from pathline.data.files import FileSource
from pathline.data.huggingface import HuggingFaceSource
from pathline.data.idx import IDXSource
from pathline.data.images import ImageFolderSource
from pathline.data.source import Source
from pathline.data.toys import ToySource
from pathline.paths.predictions import Prediction
from pathline.specs import build, catalogue, did_you_mean, spec_of
from pathline.training.weights import ErrorAsWeight

pytestmark = pytest.mark.fast

FAMILIES = (
    pl.Schedule,
    Prediction,
    pl.Coupling,
    pl.Times,
    pl.Weight,
    pl.Solver,
    pl.Sampler,
    pl.Grid,
    pl.Sigma,
    Source,
)
EXAMPLES = {  # members whose constructor needs arguments, with values unlike any default
    pl.PolynomialSchedule: pl.PolynomialSchedule(2.5),
    pl.ConstantSigma: pl.ConstantSigma(0.7),
    pl.ExponentialSDE: pl.ExponentialSDE(0.7),
    FileSource: FileSource("flowers.csv", "species"),
    HuggingFaceSource: HuggingFaceSource("ylecun/mnist"),
    IDXSource: IDXSource("train-images-idx3-ubyte.gz"),
    ImageFolderSource: ImageFolderSource("pictures", 32),
    ToySource: ToySource("rings:2", 300, 1),
}
HOLDERS = ("ode", "sde", "predictor-corrector", "multistep", "fitted", "quantile")  # of more than numbers and words
OTHERS = [  # and values unlike the defaults of those that need none
    (pl.Schedule, pl.VariancePreservingSchedule(0.2, 10.0)),
    (pl.Times, pl.UniformTimes(0.1, 0.9)),
    (pl.Times, pl.LogitNormalTimes(-0.5, 2.0)),
    (pl.Weight, ErrorAsWeight("noise", 5.0)),
    (pl.Sigma, pl.BetaSigma(1.5)),
    (pl.Sampler, pl.DDIM(0.25)),
    (pl.Grid, pl.KarrasGrid(5.0, 0.01, 50.0)),
    (pl.Grid, pl.ShiftedGrid(0.5)),
    (pl.Schedule, pl.LinearSchedule(0.1)),
    (pl.Schedule, pl.SubVariancePreservingSchedule(0.2, 10.0)),
    (pl.Schedule, pl.VarianceExplodingSchedule(0.01, 50.0)),
    (Prediction, pl.EDMPrediction(0.3)),
    (pl.Coupling, pl.OptimalTransportCoupling(False)),
    (pl.Path, pl.BridgePath(0.5)),
]


def members():
    for family in FAMILIES:
        for name, made in catalogue(family).items():
            if not name.startswith("function") and name not in HOLDERS and not inspect.ismethod(made):
                value = EXAMPLES.get(made) or (made() if isinstance(made, type) else made)
                yield pytest.param(family, value, id=f"{family.__name__}-{name}")
    for family, value in OTHERS:
        yield pytest.param(family, value, id=repr(value))


@pytest.mark.parametrize(("family", "value"), members())
def test_what_is_named_is_built_again_through_json(family, value):
    assert build(family, json.loads(json.dumps(spec_of(family, value)))) == value


@pytest.mark.parametrize(
    ("family", "value"),
    [
        (pl.Sampler, pl.ODESampler(pl.RK4)),
        (pl.Sampler, pl.SDESampler(pl.BetaSigma(2.0))),
        (pl.Sampler, pl.Multistep.dpm(3)),
        (pl.Grid, pl.QuantileGrid((0.0, 0.4, 1.0))),
        (pl.Schedule, pl.FunctionSchedule(lambda t: t, lambda t: 1 - t)),
    ],
    ids=["ode", "sde", "multistep", "quantile", "function"],
)
def test_what_holds_more_than_numbers_and_words_is_refused(family, value):
    with pytest.raises(ValueError, match="cannot be written down"):
        spec_of(family, value)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_catalogue_holds_the_members_of_its_family(family):
    found = catalogue(family)
    assert found and list(found) == sorted(found)
    assert all(
        isinstance(made() if inspect.ismethod(made) else made, family)
        or (inspect.isclass(made) and issubclass(made, family))
        for made in found.values()
    )


@pytest.mark.parametrize(
    ("family", "text", "value"),
    [
        (pl.Schedule, "cosine", pl.CosineSchedule()),
        (pl.Schedule, "polynomial:3", pl.PolynomialSchedule(3)),
        (pl.Schedule, "square-root", pl.SquareRootSchedule()),
        (pl.Schedule, "variance-preserving:0.2,10", pl.VariancePreservingSchedule(0.2, 10)),
        (Prediction, "v", pl.V),
        (Prediction, "velocity", pl.VELOCITY),
        (Prediction, "edm:0.3", pl.EDMPrediction(0.3)),
        (pl.Schedule, "linear:0.1", pl.LinearSchedule(0.1)),
        (pl.Schedule, "variance-exploding:0.01,50", pl.VarianceExplodingSchedule(0.01, 50)),
        (pl.Weight, "balanced", pl.BalancedWeight()),
        (pl.Coupling, "optimal-transport", pl.OptimalTransportCoupling()),
        (pl.Coupling, "optimal-transport:0", pl.OptimalTransportCoupling(False)),
        (pl.Coupling, "optimal-transport:False,1", pl.OptimalTransportCoupling(False, True)),
        (pl.Coupling, "optimal-transport:is_global=true", pl.OptimalTransportCoupling(is_global=True)),
        (pl.Schedule, "variance-preserving:0.2,fast=10", pl.VariancePreservingSchedule(0.2, 10)),
        (Source, "file:a=b.csv,species=1", FileSource("a=b.csv", "species=1")),
        (pl.Solver, "heun", pl.HEUN),
        (pl.Solver, "euler-maruyama", pl.EulerMaruyama()),
        (pl.Times, "logit-normal:-1e-1,2", pl.LogitNormalTimes(-0.1, 2)),
        (pl.Sigma, "beta:1.5", pl.BetaSigma(1.5)),
        (pl.Sigma, "memoryless", pl.MemorylessSigma()),
        (pl.Weight, "error-as", ErrorAsWeight()),
        (pl.Coupling, "independent", pl.IndependentCoupling()),
        (pl.Sampler, "ddim:1", pl.DDIM(1)),
        (pl.Sampler, "dpm:3", pl.Multistep.dpm(3)),
        (pl.Sampler, "general", pl.GeneralSampler()),
        (pl.Grid, "power:1.6", pl.PowerGrid(1.6)),
        (pl.Grid, "uniform", pl.UniformGrid()),
        (pl.Schedule, {"name": "polynomial", "arguments": {"power": 3}}, pl.PolynomialSchedule(3)),
        (pl.Schedule, {"name": "cosine"}, pl.CosineSchedule()),
    ],
)
def test_a_string_names_its_object(family, text, value):
    assert build(family, text) == value


def test_a_constant_is_itself():
    assert build(pl.Solver, "rk4") is pl.RK4
    assert "runge-kutta" not in catalogue(pl.Solver)  # chosen by its constants


def test_an_argument_is_a_whole_number_where_it_is_written_as_one():
    assert type(build(pl.Schedule, "polynomial:3").power) is int
    assert type(build(pl.Schedule, "polynomial:3.0").power) is float


@pytest.mark.parametrize(
    ("family", "text", "words"),
    [
        (pl.Schedule, "cosin", ["unknown schedule 'cosin'", "did you mean 'cosine'?", "square-root"]),
        (Prediction, "velocty", ["unknown prediction", "did you mean 'velocity'?"]),
        (pl.Solver, "Heun", ["unknown solver 'Heun'", "heun"]),
        (pl.Times, "zzz", ["unknown times 'zzz'", "known are logit-normal, uniform"]),
        (pl.Schedule, "cosine:3", ["schedule 'cosine' takes ()", "got [3]"]),
        (pl.Schedule, "polynomial", ["schedule 'polynomial' takes (power", "got nothing"]),
        (pl.Schedule, "polynomial:a", ["takes (power", "'a'"]),
        (pl.Schedule, "polynomial:-1", ["power must be positive", "-1"]),
        (pl.Coupling, "optimal-transport:is_global=maybe", ["is_global must be true or false, got 'maybe'"]),
        (pl.Coupling, "optimal-transport:1,is_within_classes=1", ["takes (is_within_classes, is_global)"]),
        (pl.Schedule, "polynomial:1,2", ["takes (power", "[1, 2]"]),
        (pl.Solver, "heun:3", ["solver 'heun' takes no arguments", "[3]"]),
        (pl.Schedule, {"name": "polynomial", "arguments": {"powr": 3}}, ["takes (power", "powr"]),
        (pl.Schedule, {}, ["unknown schedule"]),
    ],
)
def test_what_does_not_fit_is_said(family, text, words):
    with pytest.raises(ValueError) as error:
        build(family, text)
    for word in words:
        assert word in str(error.value)


def test_the_nearest_name_is_suggested_only_where_one_is_near():
    assert did_you_mean("cosin", ["cosine", "linear"]) == "; did you mean 'cosine'? known are cosine, linear"
    assert did_you_mean("xyz", ["cosine", "linear"]) == "; known are cosine, linear"


@pytest.mark.parametrize(
    ("family", "value"),
    [
        (pl.Schedule, pl.FunctionSchedule(lambda t: t, lambda t: 1 - t)),
        (pl.Sampler, pl.SDESampler(lambda t: t)),
        (pl.Schedule, "cosine"),
        (pl.Solver, pl.RungeKutta("mine", 1, ((),), (1.0,), (0.0,))),
    ],
)
def test_what_has_no_plain_values_has_no_name(family, value):
    with pytest.raises(ValueError):
        spec_of(family, value)
