"""What pairing a batch by optimal transport costs, and what it saves.

    python benchmarks/transport.py [--threads 2] [--rounds 20]

1,024 points of 784 numbers, beside torchcfm's exact sampler (`pip install --no-deps torchcfm pot`), which pairs at
random by the plan and so uses some points twice; and the transport cost and straightness that each coupling leads to.
"""

from __future__ import annotations

import argparse

import torch
from timing import in_turn, print_ratios

import pathline as pl

COUNT, DIMENSION = 1024, 784


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    noise = pl.Noise(0).normal((COUNT, DIMENSION))
    data = pl.Noise(1).normal((COUNT, DIMENSION)) * torch.linspace(0.1, 2, DIMENSION) + 0.5
    y = torch.arange(COUNT) % 10
    coupling = pl.OptimalTransportCoupling()
    rows = {
        "pathline": lambda: coupling(noise, data),
        "pathline, 10 classes": lambda: coupling(noise, data, y),
    }
    try:
        from torchcfm.optimal_transport import OTPlanSampler
    except ImportError:
        print("torchcfm is not installed: its row is left out")
    else:
        sampler = OTPlanSampler("exact")
        rows["torchcfm"] = lambda: sampler.sample_plan(noise, data)
    print_ratios(f"{COUNT} points of {DIMENSION} numbers, {options.threads} threads", in_turn(rows, options.rounds))
    print(f"\n{'':28}{'cost':>10}{'used':>8}")
    pairs = {"independent": (noise, data), "pathline": (coupling(noise, data), data)}
    if "torchcfm" in rows:
        pairs["torchcfm"] = rows["torchcfm"]()
    for name, (begin, end) in pairs.items():
        used = len({tuple(row[:4].tolist()) for row in end})
        print(f"{name:28}{float(pl.transport_cost(begin, end)):>10.1f}{used:>8}")


if __name__ == "__main__":
    main()
