"""Grids: from noise to data on every path, at the shares of data that they speak of."""

import math

import pytest
import torch

import pathline as pl
from pathline.sampling.fitted import FittedGrid
from pathline.sampling.grids import share_of, times_at
from pathline.specs import build, catalogue, spec_of
from pathline.verify.parts import field, points, schedules

pytestmark = pytest.mark.fast

GRIDS = {
    "uniform": pl.UniformGrid(),
    "cosine": pl.CosineGrid(),
    "shifted": pl.ShiftedGrid(),
    "shifted:0.5": pl.ShiftedGrid(0.5),
    "power": pl.PowerGrid(),
    "power:3": pl.PowerGrid(3.0),
    "log-snr": pl.LogSNRGrid(),
    "karras": pl.KarrasGrid(),
    "quantile": pl.QuantileGrid((0.0, 0.1, 0.5, 1.0)),
}
each_grid = pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS.keys())
each_schedule = pytest.mark.parametrize("schedule", schedules().values(), ids=schedules().keys())
LINEAR = field()


def shares(grid, steps, schedule=None):
    exact = field(schedule)
    return share_of(exact.path.schedule, grid.times(exact, steps))


@each_grid
@each_schedule
def test_times_go_from_zero_to_one_and_increase(grid, schedule):
    for steps in (1, 2, 3, 10, 50, 200):
        times = grid.times(field(schedule), steps)
        assert times.shape == (steps + 1,) and times.dtype == torch.float64 and times.device.type == "cpu"
        assert times[0] == 0 and times[-1] == 1 and (times.diff() > 0).all()


@each_schedule
@pytest.mark.parametrize("name", ["cosine", "shifted", "power", "quantile"])
def test_the_share_goes_the_same_way_on_every_path(schedule, name):
    found, line = shares(GRIDS[name], 12, schedule), shares(GRIDS[name], 12)
    assert torch.allclose((found - found[0]) / (found[-1] - found[0]), line, atol=1e-12)


def test_the_shares_are_those_of_their_formulas():
    u = torch.linspace(0, 1, 11, dtype=torch.float64)
    assert torch.allclose(shares(pl.UniformGrid(), 10), u)
    assert torch.allclose(shares(pl.CosineGrid(), 10), (math.pi / 2 * u).sin() ** 2)
    assert torch.allclose(shares(pl.PowerGrid(2.0), 10), 1 - (1 - u) ** 2)
    assert torch.allclose(shares(pl.ShiftedGrid(1.0), 10), u)
    assert torch.allclose(shares(pl.PowerGrid(1.0), 10), u)


@pytest.mark.parametrize("shift", [0.5, 3.0])
def test_a_shift_is_that_of_stable_diffusion_3(shift):
    """Esser et al. 2024, equation 23, of their time, which is the share of noise."""
    noise = 1 - torch.linspace(0, 1, 21, dtype=torch.float64)
    found = 1 - shares(pl.ShiftedGrid(shift), 20)
    assert torch.allclose(found, shift * noise / (1 + (shift - 1) * noise), atol=1e-14)


def edm(count, rho=7.0, low=0.002, high=80.0):
    """Karras et al. 2022, equation 5, without its last sigma, 0."""
    i = torch.arange(count, dtype=torch.float64)
    return (high ** (1 / rho) + i / (count - 1) * (low ** (1 / rho) - high ** (1 / rho))) ** rho


@pytest.mark.parametrize("schedule", [pl.LinearSchedule(), pl.CosineSchedule()], ids=repr)
def test_karras_is_edms_between_the_ends(schedule):
    c = schedule.at(pl.KarrasGrid().times(field(schedule), 19))
    assert torch.allclose((c.beta / c.alpha)[1:-1], edm(18), rtol=1e-8)


def test_karras_is_edms_on_its_own_path():
    schedule = pl.VarianceExplodingSchedule()
    assert torch.allclose(schedule.beta(pl.KarrasGrid().times(field(schedule), 17)), edm(18), rtol=1e-8)


@pytest.mark.parametrize("schedule", [pl.LinearSchedule(), pl.CosineSchedule()], ids=repr)
def test_log_snr_is_even_between_its_values(schedule):
    logit = shares(pl.LogSNRGrid(-2.0, 3.0), 12, schedule).logit()[1:-1]
    assert torch.allclose(logit, torch.linspace(-2, 3, 11, dtype=torch.float64), atol=1e-9)


def test_a_grid_goes_as_far_as_the_path_does():
    schedule = pl.VarianceExplodingSchedule(0.1, 10.0)
    logit = shares(pl.LogSNRGrid(-9.0, 9.0), 10, schedule).logit()
    assert torch.allclose(logit, torch.linspace(-math.log(10), math.log(10), 11, dtype=torch.float64), atol=1e-9)
    one_end = shares(pl.LogSNRGrid(-2.0, 9.0), 10, schedule).logit()[1:]
    assert torch.allclose(one_end, torch.linspace(-2.0, math.log(10), 10, dtype=torch.float64), atol=1e-9)
    with pytest.raises(ValueError, match=r"LogSNRGrid.* must lie inside the path.*-2.303 to 2.303.*from 4 to 5"):
        pl.LogSNRGrid(4.0, 5.0).times(field(schedule), 10)


def test_one_step_has_the_ends_alone_and_two_have_the_first_value():
    for grid in GRIDS.values():
        assert grid.times(LINEAR, 1).tolist() == [0.0, 1.0]
    assert float(shares(pl.LogSNRGrid(-2.0, 3.0), 2).logit()[1]) == pytest.approx(-2.0)
    c = LINEAR.path.schedule.at(pl.KarrasGrid().times(LINEAR, 2))
    assert float(c.beta[1] / c.alpha[1]) == pytest.approx(80.0)


def test_quantiles_are_even_in_mass():
    grid = pl.QuantileGrid((0.0, 0.1, 0.5, 1.0))
    assert torch.allclose(shares(grid, 3), torch.tensor(grid.quantiles, dtype=torch.float64))
    assert shares(grid, 6).tolist() == pytest.approx([0, 0.05, 0.1, 0.3, 0.5, 0.75, 1])
    assert torch.allclose(shares(pl.QuantileGrid((0.0, 1.0)), 5), torch.linspace(0, 1, 6, dtype=torch.float64))


@each_schedule
def test_times_are_where_the_shares_are_and_their_gradient_is_the_inverses(schedule):
    t = torch.linspace(0, 1, 9, dtype=torch.float64)
    share = share_of(schedule, t)
    assert torch.allclose(times_at(schedule, share), t, atol=1e-12)
    share.requires_grad_()
    (found,) = torch.autograd.grad(times_at(schedule, share).sum(), share)
    h = 1e-6
    near = [share_of(schedule, t[1:-1] + way * h) for way in (1, -1)]
    assert torch.allclose(found[1:-1], 2 * h / (near[0] - near[1]), rtol=1e-5)
    assert found[0] == found[-1] == 0  # the ends stay


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: pl.ShiftedGrid(0.0), "shift must be positive, got 0"),
        (lambda: pl.ShiftedGrid(math.nan), "shift must be positive, got nan"),
        (lambda: pl.PowerGrid(-1.0), "power must be positive, got -1"),
        (lambda: pl.LogSNRGrid(2.0, 1.0), "low must be below high, got 2.0 and 1.0"),
        (lambda: pl.LogSNRGrid(-math.inf, 1.0), "low must be below high"),
        (lambda: pl.KarrasGrid(0.0), "rho must be positive"),
        (lambda: pl.KarrasGrid(7.0, 0.0, 1.0), "0 < low < high, got 7.0, 0.0 and 1.0"),
        (lambda: pl.QuantileGrid((0.0,)), "quantiles must increase from 0 to 1"),
        (lambda: pl.QuantileGrid((0.0, 0.5, 0.5, 1.0)), "quantiles must increase"),
        (lambda: pl.QuantileGrid((0.0, math.nan, 1.0)), "quantiles must increase"),
        (lambda: pl.QuantileGrid((0.1, 1.0)), "quantiles must increase from 0"),
        (lambda: FittedGrid((0.5,)), "shares must increase"),
        (lambda: FittedGrid((0.0, 0.7, 0.6, 1.0)), "shares must increase"),
        (lambda: FittedGrid((0.0, 1.5)), "at most 1"),
    ],
)
def test_what_makes_no_grid_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_grids_have_names():
    assert build(pl.Grid, "power:1.6") == pl.PowerGrid(1.6) and build(pl.Grid, "log-snr:low=-3") == pl.LogSNRGrid(-3)
    assert build(pl.Grid, "uniform") == pl.UniformGrid()
    assert {"cosine", "karras", "shifted", "quantile", "fitted"} <= set(catalogue(pl.Grid))
    assert spec_of(pl.Grid, pl.KarrasGrid(5.0)) == {"name": "karras", "arguments": {"rho": 5.0}}


class Bent(pl.Field):
    """A velocity that turns between two times and is the same before and after."""

    def __init__(self, begin, end, path=None):
        super().__init__()
        self.path, self.prediction = path or pl.GaussianPath(pl.LinearSchedule()), pl.VELOCITY
        self.begin, self.end = begin, end

    def forward(self, x, t):
        turn = ((t - self.begin) / (self.end - self.begin)).clamp(0, 1).to(x)
        return torch.stack(((3 * turn).cos(), (3 * turn).sin())).expand_as(x)


@pytest.mark.parametrize(("begin", "end"), [(0.0, 0.3), (0.4, 0.6), (0.7, 1.0)])
def test_a_field_asks_for_most_steps_where_it_bends(begin, end):
    times = pl.curvature_grid(Bent(begin, end), points(8)).times(Bent(begin, end), 40)
    inside = ((times > begin) & (times < end)).sum() / 41
    assert inside > 1.8 * (end - begin)


def test_a_field_that_does_not_bend_asks_for_even_steps():
    still = Bent(2.0, 3.0)
    with torch.no_grad():
        grid = pl.curvature_grid(still, torch.zeros(3, 2, dtype=torch.float64))
    assert torch.allclose(shares(grid, 8), torch.linspace(0, 1, 9, dtype=torch.float64), atol=1e-9)

    class Nothing(Bent):
        def forward(self, x, t):
            return torch.zeros_like(x)

    assert torch.allclose(
        shares(pl.curvature_grid(Nothing(0, 1), torch.zeros(3, 2)), 8), torch.linspace(0, 1, 9, dtype=torch.float64)
    )


def test_curvature_leaves_the_field_as_it_was_and_is_the_same_on_every_schedule():
    grids = []
    for schedule in (pl.LinearSchedule(), pl.CosineSchedule()):
        exact = field(schedule).train()
        grids.append(shares(pl.curvature_grid(exact, points(32), evaluations=200), 10))
        assert exact.training
    assert torch.allclose(*grids, atol=0.03)
    grid = pl.curvature_grid(Bent(0.4, 0.6, pl.BridgePath()), points(8))
    assert grid.times(Bent(0.4, 0.6, pl.BridgePath()), 4)[-1] == 1


@pytest.mark.parametrize("counts", [{"order": 0}, {"evaluations": 3}])
def test_curvature_of_too_little_is_refused(counts):
    with pytest.raises(ValueError, match="order must be at least 1 and evaluations at least 4"):
        pl.curvature_grid(LINEAR, points(2), **counts)
