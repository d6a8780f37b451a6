"""What noise costs when sample i depends on (seed, i) alone: `Noise.normal` beside `torch.randn`.

python benchmarks/noise.py [--rounds 100]
"""

from __future__ import annotations

import argparse
from functools import partial

import torch
from timing import in_turn, print_ratios

import pathline as pl

SHAPES = ((256, 2), (4096, 64), (100_000, 2), (256, 3, 32, 32))


def main(rounds: int) -> None:
    generator, noise = torch.Generator().manual_seed(0), pl.Noise(0)
    for threads in (1, 2):
        torch.set_num_threads(threads)
        for shape in SHAPES:
            contenders = {
                "torch.randn": partial(torch.randn, shape, generator=generator),
                "pathline, Noise.normal": partial(noise.normal, shape),
            }
            title = f"{' x '.join(map(str, shape))} normal numbers, {threads} thread{'s' * (threads > 1)}"
            print_ratios(title, in_turn(contenders, rounds, warmup=10))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=100)
    main(**vars(parser.parse_args()))
