"""Issue 16, part E and the library's side of D and G: threads, tracing, shapes, and what is checked first."""

from __future__ import annotations

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
