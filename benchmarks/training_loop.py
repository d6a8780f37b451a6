"""What the training loop costs around the network: `train` beside the same loop written out in PyTorch, and torchcfm's.

Both take optimizer steps of the digits preset: its U-Net, batch, clipping, average of the weights and share of dropped
labels, with fused AdamW. The bare loop draws from torch's generator, where `train` has noise that is a function of
(seed, sample), made in the loop as on the command line, or ahead by a thread. Where torchcfm is installed
(`pip install --no-deps torchcfm pot`), its matcher has a loop of the same steps as well. Ratios are by rounds of one
block of steps each; "again" is a second bare loop, so its range is what noise alone does.

    python benchmarks/training_loop.py [--threads 2] [--rounds 15] [--block 20]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from itertools import islice

import torch
from timing import in_turn, print_ratios
from torch import Tensor

import pathline as pl
from pathline.training.loop import adamw

CONFIG = pl.load_config("digits")


def new_loss(samples: pl.Samples) -> pl.MatchingLoss:
    return CONFIG.loss(CONFIG.field(samples.shape, len(samples.classes)))


def pathline(samples: pl.Samples, workers: int) -> Iterator[pl.TrainStep]:
    loss = new_loss(samples)
    return pl.train(
        loss,
        samples.normalisation.into(samples.x),
        samples.y,
        steps=sys.maxsize,
        batch_size=CONFIG.batch_size,
        optimizer=adamw(loss, CONFIG.learning_rate, CONFIG.weight_decay),
        ema=pl.EMA(loss.field, CONFIG.ema),
        clip=CONFIG.clip,
        workers=workers,
    )


def independent(data: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Time, point and target of flow matching, in as few lines as it takes."""
    noise, t = torch.randn(data.shape), torch.rand(len(data))
    time = t[:, None, None, None]
    return t, time * data + (1 - time) * noise, data - noise


def of_torchcfm() -> Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]:
    from torchcfm.conditional_flow_matching import ConditionalFlowMatcher

    matcher = ConditionalFlowMatcher(sigma=0.0)
    return lambda data: matcher.sample_location_and_conditional_flow(torch.randn_like(data), data)


def bare(
    samples: pl.Samples, match: Callable[[Tensor], tuple[Tensor, Tensor, Tensor]] = independent
) -> Iterator[tuple[Tensor, Tensor]]:
    network = new_loss(samples).field.network.train()
    parameters = list(network.parameters())
    averages = [p.detach().clone() for p in parameters]
    optimizer = torch.optim.AdamW(parameters, lr=CONFIG.learning_rate, weight_decay=CONFIG.weight_decay, fused=True)
    x, y = samples.normalisation.into(samples.x), samples.y["class"]
    whole_batches = len(x) // CONFIG.batch_size * CONFIG.batch_size
    while True:
        for rows in torch.randperm(len(x))[:whole_batches].split(CONFIG.batch_size):
            data = x[rows]
            label = torch.where(torch.rand(len(data)) < CONFIG.drop, network.null["class"], y[rows])
            t, point, target = match(data)
            loss = (network(point, t, label) - target).square().mean()
            optimizer.zero_grad()
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(parameters, CONFIG.clip)
            optimizer.step()
            with torch.no_grad():
                torch._foreach_lerp_(averages, parameters, 1 - CONFIG.ema)
            yield loss.detach(), norm


def blocks(steps: Iterator[object], size: int) -> Callable[[], object]:
    return lambda: list(islice(steps, size))


def main(threads: int, rounds: int, block: int) -> None:
    torch.set_num_threads(threads)
    samples = CONFIG.load()
    contenders = {
        "bare loop": blocks(bare(samples), block),
        "bare loop, again": blocks(bare(samples), block),
        "pathline, train": blocks(pathline(samples, 0), block),
        "pathline, train, a thread ahead": blocks(pathline(samples, 1), block),
    }
    try:
        contenders["torchcfm's matcher"] = blocks(bare(samples, of_torchcfm()), block)
    except ImportError:
        print("torchcfm is not installed: its row is left out")
    title = f"{block} training steps of the digits preset, batch {CONFIG.batch_size}, {threads} threads"
    print_ratios(title, in_turn(contenders, rounds, warmup=1))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--block", type=int, default=20)
    main(**vars(parser.parse_args()))
