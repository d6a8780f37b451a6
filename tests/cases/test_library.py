"""Issue 16, part E and the library's side of D and G: threads, tracing, shapes, and what is checked first."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
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


# before: modes wrong after 9 to 11 of 12 rounds, and results off in as many, by up to 0.07 (invert) to 0.4 (sample)
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


NAN, INF = float("nan"), float("inf")
EYE = torch.eye(2)
POINTS = torch.randn(8, 2, generator=torch.Generator().manual_seed(0))
HOLED = POINTS.clone().index_put_((torch.tensor(3), torch.tensor(1)), torch.tensor(NAN))
NETWORK = of_mlp()
CLASSES = of_mlp(classes=3)


class OwnNetwork(nn.Module):
    """What a user writes, without a check of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.layer(torch.cat((x, t[:, None]), 1))


OWN = pl.NetworkField(OwnNetwork(), LINEAR)


class Unfinished(pl.Field):
    """A field without a path."""

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return x


def trained(data: object = POINTS, y: object = None, field: pl.Field = NETWORK, **options: object) -> None:
    loss = options.pop("loss", None) or pl.MatchingLoss(copy.deepcopy(field))
    next(iter(pl.train(loss, data, y, **{"steps": 1, "batch_size": 4, **options})))


def mixture(covariance: object, mean: object = (0.0, 0.0), weight: float = 1.0) -> pl.GaussianMixture:
    return pl.GaussianMixture(torch.tensor([mean]), covariance, torch.tensor([weight]))


# before: 121 of 248 such calls ended in errors of torch or Python (RuntimeError, TypeError, AttributeError); what is
# marked with a comment of its own was taken without a word
@pytest.mark.parametrize(
    ("call", "message"),
    [
        # sample
        pytest.param(lambda: pl.sample(NETWORK, (3, 2), "heun"), "sampler must be a Sampler, got 'heun'", id="heun"),
        pytest.param(lambda: pl.sample(NETWORK, (3, 2), pl.HEUN), r"ODESampler\(HEUN\)", id="a solver"),
        pytest.param(lambda: pl.sample(NETWORK, (3, 2), pl.Dopri5()), r"AdaptiveSampler\(Dopri5", id="an adaptive one"),
        pytest.param(lambda: pl.sample(NETWORK, (3, 2), pl.EulerMaruyama()), r"SDESampler\(sigma", id="an SDE solver"),
        pytest.param(lambda: pl.sample(NETWORK, (3, 2), pl.DDIM), r"class DDIM .*DDIM\(\.\.\.\)", id="a sampler class"),
        pytest.param(lambda: pl.sample(NETWORK.network, (3, 2)), r"field must be a Field.*NetworkField\(", id="module"),
        pytest.param(lambda: pl.sample(pl.MixtureField, (3, 2)), "field must be a Field, got the class", id="class"),
        pytest.param(lambda: pl.sample(Unfinished(), (3, 2)), r"field must have a path.*self\.path", id="no path"),
        pytest.param(lambda: pl.sample(NETWORK, 3), r"shape must be \(count, .*got 3", id="shape 3"),
        pytest.param(lambda: pl.sample(NETWORK, (3,)), r"shape must be \(count,", id="shape (3,)"),
        pytest.param(lambda: pl.sample(NETWORK, (3.0, 2)), r"shape must be \(count, .*whole", id="shape (3.0, 2)"),
        pytest.param(lambda: pl.sample(NETWORK, "32"), r"shape must be \(count,", id="shape '32'"),
        pytest.param(lambda: pl.sample(NETWORK, (0, 2)), r"shape must be \(count, .*at least 1", id="count 0"),
        pytest.param(lambda: pl.sample(NETWORK, (3, 5)), r"\(batch, 2\) for this MLP, got \(3, 5\)", id="width"),
        pytest.param(lambda: pl.sample(of_unet(), (3, 2, 4, 4)), r"\(batch, 1, height, width\)", id="channels"),
        pytest.param(lambda: pl.sample(OWN, (3, 5)), r"OwnNetwork takes no points of shape \(3, 5\)", id="own network"),
        pytest.param(lambda: pl.sample(NETWORK, (3, 2), steps=10.0), "steps must be a whole number", id="10."),
        pytest.param(lambda: pl.sample(NETWORK, (3, 2), steps="5"), "steps must be a whole number", id="steps '5'"),
        pytest.param(  # 10.5 was 10
            lambda: pl.sample(NETWORK, (3, 2), evaluations=10.5), "evaluations must be a whole", id="10.5 evaluations"
        ),
        pytest.param(lambda: pl.sample(NETWORK, (8, 2), start=POINTS.long()), r"start\.float\(\)", id="start in int"),
        pytest.param(lambda: pl.sample(NETWORK, (8, 2), start=HOLED), "start must be finite", id="NaN start"),  # NaN
        pytest.param(lambda: pl.SDESampler("a"), "sigma must be a number, got 'a'", id="sigma 'a'"),
        pytest.param(lambda: pl.SDESampler(1.0, pl.EulerMaruyama), "solver must be", id="SDE solver class"),  # taken
        # seeds
        *(
            pytest.param(
                lambda call=call, seed=seed: call(seed), "seed must be a whole number", id=f"{name}, seed {seed!r}"
            )
            for name, call in {
                "sample": lambda seed: pl.sample(NETWORK, (3, 2), steps=1, seed=seed),
                "loss": lambda seed: pl.MatchingLoss(NETWORK, seed=seed),  # 0.5 was taken
                "mixture": lambda seed: MIXTURE.mixture.sample(3, seed=seed),
                "log_prob": lambda seed: pl.log_prob(NETWORK, POINTS, seed=seed),
            }.items()
            for seed in (0.5, 1.0, "a", torch.tensor(1.0), torch.tensor([1, 2]), True)
        ),
        # train
        pytest.param(lambda: trained(loss=NETWORK), "loss must be a Loss", id="train a field"),
        pytest.param(lambda: trained(field=MIXTURE), "parameters to train", id="nothing to train"),
        pytest.param(lambda: pl.MatchingLoss(NETWORK.network), "field must be a Field", id="loss of a network"),
        pytest.param(lambda: trained(POINTS.long()), r"torch\.int64 \(8, 2\); pass data\.float", id="int64 data"),
        pytest.param(lambda: trained(POINTS.byte()), r"data must be floating-point.*uint8", id="uint8 data"),
        pytest.param(lambda: trained(np.eye(2, dtype=int)), r"data must be floating-point.*int64", id="NumPy int data"),
        pytest.param(lambda: trained(POINTS > 0), "data must be floating-point.*bool", id="bool data"),
        pytest.param(lambda: trained(HOLED), "data must be finite, got nan in row 3", id="NaN data"),  # trained on
        pytest.param(lambda: trained(POINTS / 0), "data must be finite, got -?inf in row 0", id="inf data"),  # as well
        pytest.param(lambda: trained(torch.randn(8, 3)), r"\(batch, 2\) for this MLP, got \(4, 3\)", id="data width"),
        pytest.param(lambda: trained(torch.randn(8, 3), field=OWN), r"OwnNetwork takes no .*\(4, 3\)", id="own width"),
        pytest.param(lambda: trained(POINTS[:, 0]), r"\(samples, \*shape\)", id="data of one dimension"),
        pytest.param(lambda: trained(POINTS[:0]), r"\(samples, \*shape\)", id="no data"),
        pytest.param(lambda: trained([[1.0], [1.0, 2.0]]), "data must be a tensor or an array", id="ragged data"),
        pytest.param(lambda: trained(None), "data must be a tensor or an array", id="None data"),
        pytest.param(lambda: trained(y=torch.zeros(7).long(), field=CLASSES), "8 samples, got 7", id="labels"),
        pytest.param(lambda: trained(steps=2.0), "steps must be a whole number, got 2.0", id="train steps 2."),
        pytest.param(lambda: trained(batch_size="4"), "batch_size must be a whole number", id="batch size '4'"),
        pytest.param(lambda: trained(workers=0.5), "workers must be a whole number", id="half a worker"),
        pytest.param(lambda: trained(learning_rate="a"), "learning_rate must be a number", id="learning rate 'a'"),
        pytest.param(lambda: trained(optimizer=torch.optim.Adam), "optimizer must be an Optimizer", id="optimizer"),
        pytest.param(lambda: trained(ema=0.99), "ema must be an EMA, got 0.99", id="ema 0.99"),
        pytest.param(lambda: trained(lr_schedule=0.1), "lr_schedule must be a function", id="lr_schedule 0.1"),
        pytest.param(lambda: trained(augmentation="flip"), "augmentation must be an Augmentation", id="augmentation"),
        pytest.param(lambda: trained(precision="bf16"), "precision must be torch.float32", id="precision"),
        pytest.param(  # taken until it was called
            lambda: pl.MatchingLoss(NETWORK, coupling="ot"), "coupling must be a Coupling", id="coupling"
        ),
        pytest.param(lambda: pl.MatchingLoss(NETWORK, times=pl.LogitNormalTimes), "times must be a Times", id="times"),
        pytest.param(lambda: pl.MatchingLoss(NETWORK)(POINTS[:0]), "at least one sample", id="empty batch"),  # NaN
        # likelihood
        pytest.param(lambda: pl.log_prob(NETWORK, POINTS, solver="rk4"), "solver must be", id="log_prob solver"),
        pytest.param(lambda: pl.log_prob(NETWORK, POINTS, steps=2.5), "steps must be a whole", id="log_prob steps"),
        pytest.param(
            lambda: pl.log_prob(NETWORK, POINTS, divergence=pl.Hutchinson), "divergence must be a Div", id="divergence"
        ),
        pytest.param(lambda: pl.log_prob(NETWORK.network, POINTS), "field must be a Field", id="log_prob of a network"),
        pytest.param(lambda: pl.log_prob(NETWORK, POINTS.long()), r"x\.float\(\)", id="log_prob of int"),
        pytest.param(lambda: pl.log_prob(NETWORK, POINTS[0]), r"x\[None\]", id="log_prob of one point"),
        pytest.param(lambda: pl.log_prob(NETWORK, POINTS, stop="1"), "stop must be numbers", id="log_prob stop"),
        pytest.param(lambda: pl.elbo(NETWORK, POINTS, draws=8.5), "draws must be a whole", id="elbo draws"),
        # inversion and editing
        pytest.param(lambda: pl.invert(NETWORK.network, POINTS), "field must be a Field", id="invert a network"),
        pytest.param(lambda: pl.invert(NETWORK, POINTS, "heun"), "sampler must be a Sampler", id="invert by 'heun'"),
        pytest.param(lambda: pl.invert(NETWORK, POINTS, corrections=0.5), "corrections must be a whole", id="half"),
        pytest.param(lambda: pl.interpolate(NETWORK, POINTS, POINTS, 2.5), "count must be a whole", id="2.5 points"),
        pytest.param(lambda: pl.slerp([1.0], [2.0], 0.5), "a must be a tensor", id="slerp of lists"),
        pytest.param(lambda: pl.slerp(POINTS, POINTS, "a"), "t must be numbers, got 'a'", id="slerp share"),
        pytest.param(lambda: pl.edit(NETWORK, POINTS, "a"), "strength must be a number", id="edit strength"),
        pytest.param(lambda: pl.edit(NETWORK, POINTS, 0.5, pl.HEUN), r"ODESampler\(HEUN\)", id="edit by a solver"),
        pytest.param(lambda: pl.langevin(NETWORK, POINTS, 0.5, 1.5), "steps must be a whole", id="langevin"),  # taken
        # mixtures
        pytest.param(lambda: mixture(torch.tensor([[[1.0, 0.5], [0.2, 1.0]]])), "must be symmetric", id="asymmetric"),
        pytest.param(  # below the absolute tolerance of allclose, it was taken
            lambda: mixture(1e-9 * torch.tensor([[[1.0, 0.5], [0.2, 1.0]]])), "must be symmetric", id="asymmetric, tiny"
        ),
        pytest.param(lambda: mixture(torch.ones(1, 2, 2)), "positive definite", id="singular"),
        pytest.param(lambda: mixture(torch.full((1, 2, 2), NAN)), "covariances .*finite, got nan", id="NaN covariance"),
        pytest.param(lambda: mixture(torch.tensor([INF])), "covariances .*finite, got inf", id="inf variance"),  # taken
        pytest.param(lambda: mixture(torch.ones(1), (NAN, 0.0)), "means must be finite", id="NaN mean"),  # taken
        pytest.param(lambda: mixture(torch.ones(1), weight=INF), "weights must be .*finite", id="inf weight"),  # taken
        pytest.param(lambda: mixture(torch.ones(1), weight=NAN), "weights must be", id="NaN weight"),
        pytest.param(lambda: mixture(torch.ones(1), weight=-1.0), "weights must be", id="negative weight"),
        pytest.param(lambda: pl.Normal(torch.zeros(2), torch.tensor([[1.0, 0.5], [0.2, 1.0]])), "symmetric", id="N"),
        pytest.param(lambda: pl.Normal(torch.tensor([INF])), "means must be finite", id="inf mean of a normal"),
        # fields
        pytest.param(lambda: pl.NetworkField(pl.MLP, LINEAR), "network must be a Module, got the class", id="MLP"),
        pytest.param(lambda: pl.NetworkField(NETWORK.network, pl.LinearSchedule()), "path must be a Path", id="path"),
        pytest.param(lambda: pl.NetworkField(NETWORK.network, LINEAR, "v"), "prediction must be a Pred", id="kind 'v'"),
        pytest.param(lambda: pl.MixtureField(POINTS, LINEAR), "distribution must be a Gaussian", id="no mixture"),
        pytest.param(lambda: pl.EmpiricalField([[1.0]], LINEAR), "data must be a tensor or an array", id="no data set"),
        pytest.param(lambda: pl.GaussianPath("linear"), "schedule must be a Schedule, got 'linear'", id="schedule"),
        pytest.param(lambda: pl.ClassifierFree(NETWORK, NETWORK, "a"), "w must be numbers, got 'a'", id="w 'a'"),
        pytest.param(lambda: NETWORK.velocity(POINTS.long(), 0.5), r"x\.float\(\)", id="velocity at int"),
        pytest.param(lambda: MIXTURE.velocity(POINTS.long(), 0.5), r"x\.float\(\)", id="exact at int"),  # truncated
        pytest.param(lambda: NETWORK.velocity(POINTS.numpy(), 0.5), r"torch\.from_numpy", id="velocity at an array"),
        pytest.param(lambda: NETWORK.velocity(POINTS, "a"), "t must be numbers, got 'a'", id="t 'a'"),
        # zero rows where nothing natural comes of them
        pytest.param(lambda: pl.invert(NETWORK, POINTS[:0]), "at least one", id="invert nothing"),
        pytest.param(lambda: pl.curvature_grid(NETWORK, POINTS[:0]), "at least one", id="a grid for nothing"),
        pytest.param(lambda: pl.EmpiricalField(POINTS[:0], LINEAR), "data must be", id="a data set of nothing"),
        pytest.param(lambda: pl.metrics.nearest_distance(POINTS, POINTS[:0]), "at least one", id="nearest of nothing"),
        pytest.param(lambda: pl.metrics.transport_cost(POINTS[:0], POINTS[:0]), "at least one", id="no pairs"),  # NaN
    ],
)
def test_an_argument_is_checked_before_the_work(call, message) -> None:
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    "read",
    [
        pytest.param(lambda x: pl.log_prob(NETWORK, x), id="log_prob"),
        pytest.param(lambda x: pl.estimate_log_prob(NETWORK, x, divergence=pl.Hutchinson(4))[1], id="estimate"),
        pytest.param(lambda x: pl.elbo(NETWORK, x)[0], id="elbo"),
        pytest.param(lambda x: pl.bits_per_dim(NETWORK, x), id="bits_per_dim"),
        pytest.param(MIXTURE.mixture.log_prob, id="log_prob of a mixture"),
        pytest.param(lambda x: pl.EmpiricalField(EYE, LINEAR, 0.1).log_prob(x, 0.5), id="log_prob of a data set"),
        pytest.param(lambda x: pl.EmpiricalField(EYE, LINEAR).velocity(x, 0.5)[:, 0], id="velocity of a data set"),
    ],
)
def test_nothing_is_read_of_zero_rows(read: Callable[[Tensor], Tensor]) -> None:
    assert read(torch.empty(0, 2)).shape == (0,)  # before: IndexError, RuntimeError of max() or of cat


@pytest.mark.parametrize("seed", [np.int64(3), np.uint8(3), torch.tensor(3), torch.tensor([3])], ids=repr)
def test_a_seed_is_any_whole_number(seed) -> None:  # before: TypeError of &
    assert torch.equal(pl.sample(NETWORK, (3, 2), steps=2, seed=seed), pl.sample(NETWORK, (3, 2), steps=2, seed=3))


@pytest.mark.parametrize(
    "data", [POINTS.numpy(), POINTS.double(), POINTS.numpy().astype(float), POINTS.tolist()], ids=lambda d: str(type(d))
)
def test_training_data_has_the_dtype_of_the_network(data) -> None:  # before: RuntimeError for float64
    fields = [copy.deepcopy(NETWORK) for _ in range(2)]
    for field, given in zip(fields, (POINTS, data), strict=True):
        for _ in pl.train(pl.MatchingLoss(field), given, steps=2, batch_size=4):
            pass
    for a, b in zip(fields[0].parameters(), fields[1].parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_a_network_is_asked_at_finer_points() -> None:  # before: RuntimeError of mat1 and mat2
    wide = copy.deepcopy(NETWORK).double()
    truth = pl.log_prob(wide, POINTS.double(), steps=4)
    found = pl.log_prob(NETWORK, POINTS.double(), steps=4)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, truth, rtol=0, atol=1e-4)
    with pytest.raises(
        ValueError, match=r"weights in torch.float64 .* points in torch.float32.*x\.to\(torch.float64\)"
    ):
        pl.log_prob(wide, POINTS)


def test_other_errors_of_a_network_are_left_as_they_are() -> None:
    class Broken(nn.Module):
        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            raise RuntimeError("the disk is full")

    with pytest.raises(RuntimeError, match=r"^the disk is full$"):
        pl.sample(pl.NetworkField(Broken(), LINEAR), (3, 2))


def test_covariances_that_rounding_made_asymmetric_are_taken() -> None:
    root = torch.randn(3, 4, 4, generator=torch.Generator().manual_seed(0))
    covariances = torch.linalg.inv(torch.linalg.inv(root @ root.mT + torch.eye(4)))
    assert (covariances != covariances.mT).any()
    found = pl.GaussianMixture(torch.zeros(3, 4), covariances)
    back = found.axes @ torch.diag_embed(found.variances) @ found.axes.mT
    torch.testing.assert_close(back, covariances, rtol=1e-4, atol=1e-4)
    assert pl.GaussianMixture(torch.zeros(1, 2), torch.diag_embed(torch.tensor([[1.0, 1e-8]]))).variances.min() > 0
