"""Issue 16, part E and the library's side of D and G: threads, tracing, shapes, and what is checked first."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor, nn

import pathline as pl
from pathline.fields.modes import evaluating

THREADS, ROUNDS = 4, 3


class Dropped(nn.Module):
    """A network whose answer shows whether dropout is on, with a part that is in eval mode for good."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.frozen = nn.Dropout(0.5)
        self.body = nn.Sequential(nn.Linear(3, 64), nn.SiLU(), nn.Dropout(0.5), nn.Linear(64, 2))

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        return self.body(self.frozen(torch.cat((x, t[:, None]), 1)))


def dropped_field() -> pl.NetworkField:
    field = pl.NetworkField(Dropped(), pl.GaussianPath(pl.LinearSchedule())).train()
    field.network.frozen.eval()
    return field


def modes(module: nn.Module) -> list[bool]:
    return [part.training for part in module.modules()]


def in_threads(jobs: list[Callable[[], Tensor]]) -> list[Tensor]:
    """What the jobs return, all begun at the same moment, each in a thread of its own."""
    barrier = threading.Barrier(len(jobs))

    def run(job: Callable[[], Tensor]) -> Tensor:
        barrier.wait()
        return job()

    with ThreadPoolExecutor(len(jobs)) as pool:
        return [future.result() for future in [pool.submit(run, job) for job in jobs]]


# before: modes of all parts wrong after 2 to 5 of 6 rounds, and samples off by 0.5 to 2
@pytest.mark.parametrize(
    "made",
    [
        pytest.param(lambda f, i: pl.sample(f, (8, 2), steps=4 + i, seed=i), id="sample"),
        pytest.param(lambda f, i: pl.sample(f.given(i), (8, 2), steps=4 + i, seed=i), id="sample, given y"),
        pytest.param(lambda f, i: pl.log_prob(f, torch.ones(8, 2), steps=2 + i).detach(), id="log_prob"),
        pytest.param(lambda f, i: pl.invert(f, torch.ones(8, 2), steps=4 + i), id="invert"),
    ],
)
def test_threads_that_share_a_model_get_what_one_gets_and_leave_its_modes(made: Callable[..., Tensor]) -> None:
    field = dropped_field()
    before, alone = modes(field), [made(field, i) for i in range(THREADS)]
    for _ in range(ROUNDS):
        together = in_threads([lambda i=i: made(field, i) for i in range(THREADS)])
        assert modes(field) == before
        assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))


def test_a_mode_ends_with_the_last_of_those_who_need_it() -> None:  # before: with the first
    field = dropped_field()
    before, others = modes(field), evaluating(field.network)
    with evaluating(field), evaluating(field):
        others.__enter__()  # of a part of it
    assert modes(field.network) == [False] * 7 and field.training
    with pytest.raises(ZeroDivisionError), evaluating(field):
        raise ZeroDivisionError
    assert modes(field.network) == [False] * 7
    others.__exit__(None, None, None)
    assert modes(field) == before


def test_training_does_not_switch_dropout_on_in_samples_of_another_thread() -> None:
    # before: training put the model into train mode under the sampler, whose samples then had dropout
    field = dropped_field().eval()
    begun, done = threading.Event(), threading.Event()

    def hold() -> None:
        with evaluating(field):
            begun.set()
            done.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    begun.wait()
    steps = pl.train(pl.MatchingLoss(field), torch.randn(8, 2), steps=2, batch_size=8)
    with pytest.warns(UserWarning, match=r"step 1 is in eval mode.*copy\.deepcopy"):
        next(steps)
    assert modes(field) == [False] * len(modes(field))
    done.set()
    thread.join()
    assert modes(field) == [True] * len(modes(field))  # as train left it
    next(steps)


X = torch.zeros(2, 2)  # as many samples as dimensions
GRID = torch.linspace(0, 1, 3)
STOCHASTIC = [pl.EulerMaruyama(), pl.StochasticHeun()]


def still(x: Tensor, t: Tensor) -> Tensor:
    return torch.zeros_like(x)


def ended(process: object, solver: pl.Solver, x: Tensor = X) -> Tensor:
    *_, end = pl.walk(process, solver, x, GRID, pl.Noise(1))
    return end


@pytest.mark.parametrize("solver", STOCHASTIC, ids=repr)
@pytest.mark.parametrize(
    ("sigma", "scale"),
    [
        pytest.param(2.0, 2.0, id="a number"),
        pytest.param(torch.tensor(2.0), 2.0, id="()"),
        pytest.param(torch.tensor([1.0, 3.0]), torch.tensor([[1.0], [3.0]]), id="(batch,)"),
        pytest.param(torch.tensor([1.0, 3.0]).double(), torch.tensor([[1.0], [3.0]]), id="(batch,) in float64"),
        pytest.param(torch.tensor([[1.0, 3.0]]).expand(2, 2), torch.tensor([1.0, 3.0]), id="the shape of x"),
    ],
)
def test_a_diffusion_is_for_all_for_each_sample_or_for_each_number(sigma, scale, solver) -> None:
    unit = ended(pl.SDE(still, 1.0), solver)
    end = ended(pl.SDE(still, lambda x, t: sigma), solver)
    torch.testing.assert_close(end, scale * unit)
    reversed_ = pl.TimeReversal(pl.SDE(still, lambda x, t: sigma), lambda x, t: torch.ones_like(x))
    drift = reversed_.drift(X, torch.tensor(0.5))  # before: per dimension here, per sample in the solver
    torch.testing.assert_close(drift, (scale * torch.ones(2, 2)) ** 2)


@pytest.mark.parametrize("solver", STOCHASTIC, ids=repr)
@pytest.mark.parametrize(
    "shape", [(3,), (1,), (2, 1), (1, 2), (2, 2, 2), (1, 2, 2), (0,)], ids=lambda shape: str(shape).replace(" ", "")
)
def test_no_other_diffusion_and_drift_change_a_state(shape, solver) -> None:
    # before: (2, 2, 2) made states of that shape; (1,), (2, 1) and (1, 2) were broadcast; others RuntimeError
    with pytest.raises(ValueError, match=r"diffusion must be .*\(2, 2\), got .*expand_as"):
        ended(pl.SDE(still, lambda x, t: torch.ones(shape)), solver)
    with pytest.raises(ValueError, match=r"drift must have the shape of x, \(2, 2\), got .*expand_as"):
        ended(pl.SDE(lambda x, t: torch.ones(shape), 1.0), solver)
    for ode in (pl.EULER, pl.RK4):
        with pytest.raises(ValueError, match="drift must have the shape of x"):
            ended(pl.ODE(lambda x, t: torch.ones(shape)), ode)
    with pytest.raises(ValueError, match="drift must have the shape of x"):
        list(pl.Dopri5().walk(pl.ODE(lambda x, t: torch.ones(shape)), X, GRID))


@pytest.mark.parametrize("solver", [pl.Dopri5(1e-9, 1e-9), pl.Tsit5(1e-9, 1e-9)], ids=lambda s: type(s).__name__)
def test_adaptive_solvers_take_single_numbers(solver) -> None:
    x = torch.tensor([1.0, 2.0, 3.0]).double()
    *_, end = solver.walk(pl.ODE(lambda x, t: -x * x / 3), x, GRID)  # before: IndexError of flatten
    torch.testing.assert_close(end, 1 / (1 / x + 1 / 3), rtol=1e-7, atol=0)
    solution = solver.solve(pl.ODE(lambda x, t: -x), x, GRID)
    torch.testing.assert_close(
        solution.at(torch.tensor([0.1, 0.5, 1.0])),
        x * (-torch.tensor([0.1, 0.5, 1.0])).exp().double(),
        rtol=1e-5,
        atol=0,
    )
    with pytest.raises(ValueError, match=r"x must be a batch of points.*x\[None\]"):  # before: TypeError of len
        solver.walk(pl.ODE(lambda x, t: -x), torch.tensor(1.0), GRID)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        pytest.param(lambda: pl.walk(pl.MLP(2), pl.HEUN, X, GRID), r"process must have drift.*flow_of", id="a network"),
        pytest.param(lambda: pl.walk(lambda x, t: x, pl.HEUN, X, GRID), "process must have drift", id="a function"),
        pytest.param(lambda: pl.walk(pl.ODE, pl.HEUN, X, GRID), "process must have drift.*class ODE", id="a class"),
        pytest.param(lambda: pl.walk(pl.ODE(still), "heun", X, GRID), "solver must be .*HEUN", id="a word"),
        pytest.param(lambda: pl.walk(pl.ODE(still), pl.EulerMaruyama, X, GRID), "solver must be", id="a solver class"),
        pytest.param(lambda: pl.walk(pl.ODE(still), pl.ODESampler(), X, GRID), r"sampler\.walk", id="a sampler"),
        pytest.param(lambda: pl.walk(pl.ODE(still), pl.HEUN, X.long(), GRID), r"x\.float\(\)", id="whole numbers"),
        pytest.param(lambda: pl.walk(pl.ODE(still), pl.HEUN, [[0.0]], GRID), "x must be a tensor", id="a list"),
        pytest.param(lambda: pl.ODE(1.0), r"velocity must be a function of \(x, t\)", id="a velocity number"),
        pytest.param(lambda: pl.SDE(1.0, 1.0), r"drift must be a function of \(x, t\)", id="a drift number"),
        pytest.param(lambda: pl.SDE(still, "1"), "diffusion must be a number", id="a diffusion word"),
        pytest.param(lambda: pl.SDE(still, torch.tensor([1.0, -1.0])), "diffusion must be 0 or more", id="negative"),
        pytest.param(lambda: pl.BrownianMotion(None), "sigma must be a number", id="no sigma"),
    ],
)
def test_walk_says_what_it_cannot_solve(call, message) -> None:  # before: AttributeError and TypeError
    with pytest.raises(ValueError, match=message):
        call()


LINEAR = pl.GaussianPath(pl.LinearSchedule())


def grown(network: nn.Module) -> nn.Module:
    """A network that says something: a new one says 0."""
    torch.manual_seed(0)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.3)
    return network.eval()


class Read(nn.Module):
    """One kind of a field, as a module."""

    def __init__(self, field: pl.Field, kind: pl.Prediction) -> None:
        super().__init__()
        self.field, self.kind = field, kind

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.field.read(x, t, self.kind)


def of_mlp(**sizes: int) -> pl.NetworkField:
    return pl.NetworkField(grown(pl.MLP(2, 8, 1, **sizes)), LINEAR)


def of_unet(**sizes: int) -> pl.NetworkField:
    return pl.NetworkField(grown(pl.UNet(1, 8, 2, **sizes)), LINEAR)


def guided(field: pl.NetworkField) -> pl.Field:
    return pl.ClassifierFree(field.given(1), field.given(None), 2.0)


MIXTURE = pl.MixtureField(pl.GaussianMixture(torch.tensor([[1.0, 0.0], [-1.0, 2.0]]), torch.tensor([0.3, 0.5])), LINEAR)
slow = pytest.mark.slow


# before: "batch ... your code specialized it to be a constant (4)" by len, and for guidance by chunk; mT in the graph
@pytest.mark.parametrize(
    ("made", "shape"),
    [
        pytest.param(lambda: of_mlp(classes=3), (2,), id="MLP with classes", marks=slow),
        pytest.param(lambda: of_mlp(numbers=2), (2,), id="MLP with numbers", marks=slow),
        pytest.param(lambda: of_unet(), (1, 4, 4), id="U-Net", marks=slow),
        pytest.param(lambda: of_unet(classes=3).given(1), (1, 4, 4), id="U-Net, given a class", marks=slow),
        pytest.param(lambda: guided(of_mlp(classes=3)), (2,), id="guided MLP"),
        pytest.param(lambda: MIXTURE, (2,), id="mixture", marks=slow),
        pytest.param(lambda: pl.EmpiricalField(torch.eye(2), LINEAR, 0.1), (2,), id="data set", marks=slow),
    ],
)
def test_an_exported_field_takes_any_batch(made: Callable[[], pl.Field], shape: tuple[int, ...]) -> None:
    module = Read(made(), pl.DATA).eval()
    batch = torch.export.Dim("batch", min=2)
    example = (torch.randn(4, *shape), torch.rand(4))
    program = torch.export.export(module, example, dynamic_shapes=({0: batch}, {0: batch}))
    assert not [node for node in program.graph.nodes if "mT" in str(node.target)]  # ONNX knows no aten::mT
    for count in (2, 7):
        x, t = torch.randn(count, *shape), torch.rand(count)
        torch.testing.assert_close(program.module()(x, t), module(x, t))


@pytest.mark.parametrize(
    "divergence", [pl.Exact(), pl.Hutchinson(2), pl.HutchPlusPlus(1, 1)], ids=lambda d: type(d).__name__
)
@pytest.mark.parametrize("field", [of_mlp(), MIXTURE], ids=["network", "mixture"])
def test_functions_of_log_prob_can_be_transformed(field: pl.Field, divergence: pl.Divergence) -> None:
    # before: grad returned tensors that cannot be read (aten::is_nonzero), vmap and jvp raised of requires_grad_
    x, options = torch.randn(3, 2, generator=torch.Generator().manual_seed(0)), {"steps": 3, "seed": 0}

    def of(x: Tensor) -> Tensor:
        return pl.log_prob(field, x, divergence=divergence, **options)

    def of_one(x: Tensor) -> Tensor:
        return of(x[None])[0]

    points = x.clone().requires_grad_()
    (truth,) = torch.autograd.grad(of(points).sum(), points)
    torch.testing.assert_close(torch.func.grad(lambda x: of(x).sum())(x), truth)
    _, slope = torch.func.jvp(of, (x,), (torch.ones_like(x),))
    torch.testing.assert_close(slope, truth.sum(1))
    one = x[:1].clone().requires_grad_()  # under vmap each sample is the first of its batch: its probes are those
    (first,) = torch.autograd.grad(of(one).sum(), one)
    found = torch.func.vmap(torch.func.grad(of_one))(x)
    torch.testing.assert_close(found[0], first[0])
    torch.testing.assert_close(torch.func.vmap(of_one)(x)[0], of(x[:1])[0])


SAMPLERS = [
    pl.ODESampler(), pl.SDESampler(1.0), pl.SDESampler(3.0, pl.StochasticHeun()), pl.DDIM(), pl.DDIM(1.0),
    pl.default_sampler(),
]  # fmt: skip


@pytest.mark.parametrize(
    ("field", "shape"),
    [
        pytest.param(of_mlp(), (5, 2), id="network"),
        pytest.param(of_mlp(classes=3).given(1), (5, 2), id="network under a class", marks=slow),
        pytest.param(pl.NetworkField(pl.MLP(2, 8, 1), LINEAR, pl.SCORE), (5, 2), id="score network", marks=slow),
        pytest.param(of_unet(), (3, 1, 4, 4), id="U-Net", marks=slow),
        pytest.param(MIXTURE, (5, 2), id="mixture"),
        pytest.param(pl.EmpiricalField(torch.eye(2), LINEAR, 0.1), (5, 2), id="data set", marks=slow),
    ],
)
def test_meta_tensors_go_through_fields_and_samplers(field: pl.Field, shape: tuple[int, ...]) -> None:
    # before: "Tensor.item() cannot be called on meta tensors" in velocity, and in SDE samplers after the last step
    field = copy.deepcopy(field).to("meta")
    x = torch.empty(shape, device="meta")
    found = [field.velocity(x, 0.5), field.score(x, torch.empty(shape[0], device="meta")), field.data(x, 0.5)]
    found += [pl.sample(field, shape, sampler, steps=4, seed=0) for sampler in SAMPLERS]
    assert {(value.device.type, value.dtype, tuple(value.shape)) for value in found} == {("meta", torch.float32, shape)}
    assert pl.log_prob(field, x, steps=1).shape == (shape[0],)
    with pytest.raises(ValueError, match=r"steps that are chosen by their error.*meta"):
        pl.sample(field, shape, pl.AdaptiveSampler(), steps=4, seed=0)


def test_meta_points_meet_an_exact_field_on_the_host() -> None:  # before: Tensor.item(), then a device mismatch
    assert MIXTURE.velocity(torch.empty(3, 2, device="meta"), 0.5).is_meta
