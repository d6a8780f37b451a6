"""`sample` itself: batches that fit in memory, and compiled fields."""

import pytest
import torch

import pathline as pl

LINEAR = pl.GaussianPath(pl.LinearSchedule())


class Tight(pl.Field):
    """A field with a class for each point, on a machine where no more than some points fit into memory."""

    def __init__(self, most, y=None, error=torch.OutOfMemoryError):
        super().__init__()
        self.path, self.prediction = LINEAR, pl.VELOCITY
        self.most, self.y, self.error = most, y, error
        self.sizes = []

    def forward(self, x, t):
        self.sizes.append(len(x))
        if len(x) > self.most:
            raise self.error("can't allocate memory: you tried to allocate 9 bytes")
        y = 0.0 if self.y is None else self.y[:, None]
        return (3 * x).sin() - t + y

    def take(self, index):
        part = Tight(self.most, None if self.y is None else self.y[index], self.error)
        part.sizes = self.sizes
        return part


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, RuntimeError])
@pytest.mark.parametrize("sampler", [pl.default_sampler(), pl.ExponentialSDE(0.5), pl.DDIM(1.0)], ids=str)
def test_where_memory_runs_out_the_same_samples_come_in_smaller_batches(sampler, error):
    y = torch.arange(50) / 50.0
    tight, wide = Tight(7, y, error), Tight(50, y, error)
    some = pl.sample(tight, (50, 2), sampler, steps=8, seed=3)
    torch.testing.assert_close(some, pl.sample(wide, (50, 2), sampler, steps=8, seed=3), rtol=1e-6, atol=1e-6)
    assert [size for size in dict.fromkeys(tight.sizes) if size > 7] == [50, 25, 13]


def test_one_sample_that_does_not_fit_is_an_error():
    with pytest.raises(torch.OutOfMemoryError):
        pl.sample(Tight(0), (5, 2), steps=3)


def test_another_error_is_not_taken_for_a_lack_of_memory():
    class Broken(Tight):
        def forward(self, x, t):
            raise RuntimeError("the network is broken")

    with pytest.raises(RuntimeError, match="the network is broken"):
        pl.sample(Broken(5), (5, 2), steps=3)


@pytest.mark.slow  # a compiler runs
def test_a_compiled_field_gives_the_same_samples():
    network = pl.MLP(dimension=2, width=16, depth=1, classes=3)
    field = pl.NetworkField(network, LINEAR, pl.NOISE)
    for bound in (field.given(torch.arange(8) % 3), pl.ClassifierFree(field.given(1), field.given(None), 2.0)):
        plain = pl.sample(bound, (8, 2), steps=5, seed=0)
        torch.testing.assert_close(pl.sample(bound, (8, 2), steps=5, seed=0, compile=True), plain, rtol=1e-4, atol=1e-5)
    compiled = pl.CompiledField(field)
    assert compiled.interval(pl.DATA) == field.interval(pl.DATA)
    x = torch.randn(4, 2, generator=torch.Generator().manual_seed(0))
    for part in (
        compiled.given(1),
        compiled.given(torch.tensor([0, 1, 2, 1])).take(slice(0, 4)),
        compiled.given(1).repeat(1),
    ):
        assert part.velocity(x, 0.5).shape == x.shape


def test_a_compiled_field_that_is_the_same_for_all_samples_is_not_compiled_again():
    compiled = pl.CompiledField(Tight(9))
    part = compiled.take(torch.tensor([1]))
    assert part is not compiled and part.take(slice(0, 1)) is not part
    same = pl.CompiledField(pl.EmpiricalField(torch.zeros(3, 2), LINEAR, 0.5))
    assert same.take(torch.tensor([1])) is same and same.repeat(2) is same
