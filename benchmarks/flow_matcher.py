"""How well FlowMatcher describes rows that it has not seen, beside scikit-learn's density estimators.

The tables are scikit-learn's wine (178 x 13) and breast_cancer (569 x 30), without their classes, each column
standardised by the rows that are fitted. The figure is the mean log-density of the rows left out, in nats a row, of
the same 10 folds for all. GaussianMixture and KernelDensity are tuned in each fold by 5 inner folds: number, type and
regularisation of the components, and the bandwidth. FlowMatcher has its defaults; "untrained" is what its training
begins at, with max_steps=0, and tells how much is due to the whitening alone.

    python benchmarks/flow_matcher.py [--folds 10]
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer, load_wine
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.neighbors import KernelDensity
from sklearn.preprocessing import StandardScaler

from pathline import FlowMatcher

Table = NDArray[np.float64]

MIXTURES = {
    "n_components": [1, 2, 3, 4, 6],
    "covariance_type": ["full", "tied", "diag"],
    "reg_covar": [1e-6, 1e-4, 1e-3, 1e-2, 1e-1],
}
BANDWIDTHS = {"bandwidth": np.geomspace(0.1, 2, 15)}


def mixture(train: Table, test: Table, fold: int) -> float:
    search = GridSearchCV(GaussianMixture(random_state=fold), MIXTURES, cv=5).fit(train)
    return float(search.score(test))


def kernels(train: Table, test: Table, fold: int) -> float:
    search = GridSearchCV(KernelDensity(), BANDWIDTHS, cv=5).fit(train)
    return float(search.score(test)) / len(test)


def flow(train: Table, test: Table, fold: int) -> float:
    return FlowMatcher(random_state=fold).fit(train).score(test)


def untrained(train: Table, test: Table, fold: int) -> float:
    return FlowMatcher(random_state=fold, max_steps=0).fit(train).score(test)


CONTENDERS: dict[str, Callable[[Table, Table, int], float]] = {
    "FlowMatcher": flow,
    "FlowMatcher, untrained": untrained,
    "GaussianMixture, tuned": mixture,
    "KernelDensity, tuned": kernels,
}


def compare(name: str, table: Table, folds: int) -> None:
    """A row a contender: its mean, what FlowMatcher has more, fold by fold, and its seconds a fold."""
    found: dict[str, list[float]] = {contender: [] for contender in CONTENDERS}
    seconds = dict.fromkeys(CONTENDERS, 0.0)
    for fold, (train, test) in enumerate(KFold(folds, shuffle=True, random_state=0).split(table)):
        scaler = StandardScaler().fit(table[train])
        for contender, run in CONTENDERS.items():
            begin = time.perf_counter()
            found[contender].append(run(scaler.transform(table[train]), scaler.transform(table[test]), fold))
            seconds[contender] += (time.perf_counter() - begin) / folds
    print(f"\n{name}, {len(table)} x {table.shape[1]}: nats a row of {folds} folds left out, +- one standard error")
    print(f"{'':26}{'log-density':>20}{'FlowMatcher has more':>24}{'seconds':>10}")
    for contender, values in found.items():
        row, more = np.array(values), np.array(found["FlowMatcher"]) - values
        of_row, of_more = (f"{v.mean():.2f} +- {v.std(ddof=1) / folds**0.5:.2f}" for v in (row, more))
        print(f"{contender:26}{of_row:>20}{of_more:>24}{seconds[contender]:>10.1f}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folds", type=int, default=10)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", ConvergenceWarning)
    for title, load in (("wine", load_wine), ("breast_cancer", load_breast_cancer)):
        compare(title, load().data, arguments.folds)
