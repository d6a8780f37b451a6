"""The face of the package: its names, and that they cost nothing until they are used."""

import subprocess
import sys

import pytest

import pathline

CONTRACT = """
LinearSchedule CosineSchedule PolynomialSchedule SquareRootSchedule VariancePreservingSchedule FunctionSchedule
VELOCITY SCORE NOISE DATA V convert GaussianPath IndependentCoupling UniformTimes LogitNormalTimes Normal
GaussianMixture Field NetworkField MixtureField ClassifierFree ODE SDE BrownianMotion OrnsteinUhlenbeck Langevin EULER
MIDPOINT HEUN RK4 EulerMaruyama StochasticHeun walk ODESampler SDESampler DDIM default_sampler sample MatchingLoss train
verify plots metrics
""".split()


@pytest.mark.fast
@pytest.mark.parametrize("name", sorted({*CONTRACT, *pathline.__all__}))
def test_a_public_name_loads_when_it_is_asked_for(name):
    value = getattr(pathline, name)
    assert getattr(value, "__name__", name).rpartition(".")[2] == name
    assert name in dir(pathline)


@pytest.mark.fast
def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="LinearShedule"):
        _ = pathline.LinearShedule


def in_a_fresh_process(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()[-1]


def test_importing_the_package_loads_no_torch():
    heavy = "('torch', 'numpy', 'matplotlib', 'sklearn', 'scipy', 'tyro')"
    code = f"import sys, pathline; dir(pathline); print([name for name in {heavy} if name in sys.modules])"
    assert in_a_fresh_process(code) == "[]"


@pytest.mark.parametrize("flag", ["--help", "--version"])
def test_the_bare_command_line_loads_no_torch(flag):
    heavy = "('torch', 'numpy', 'matplotlib', 'sklearn', 'tyro')"
    code = (
        f"import sys; from pathline.cli.main import main; code = main(['{flag}'])\n"
        f"print(code, [name for name in {heavy} if name in sys.modules])"
    )
    assert in_a_fresh_process(code) == "0 []"
