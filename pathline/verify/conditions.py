"""Law 28: conditions come back as they were written, through files, a codec and a network.

labels  --file-->  indices  --codec-->  labels  --file-->  the same indices
"""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pathline.data.arrays import read_arrays
from pathline.data.cache import About, Block, InFile
from pathline.data.codec import Codec, codec_of
from pathline.data.columns import Roles
from pathline.data.source import Samples
from pathline.data.tables import read_csv
from pathline.fields.network import NetworkField
from pathline.networks.mlp import MLP
from pathline.paths.path import GaussianPath
from pathline.paths.schedules import LinearSchedule
from pathline.verify.table import Figure, law, once

LABELS: dict[str, Any] = {
    "from 0": [0, 1, 2, 1],
    "from 1": [1, 2, 3, 1],
    "negative, gapped": [-2, 30, 7, -2],
    "huge": [2**63, 2**63 + 2, 1, 1],
    "uint8": np.array([5, 250, 5, 7], np.uint8),
    "booleans": [True, False, True, True],
    "words": ["cat", "dog", "a bird, or [b]two[/b]", "cat"],
    "digits as words": ["01", "1", "10", "1"],
    "whole floats": [2.0, 3.0, 10.0, 2.0],
    "a column": np.array([[3], [1], [2], [1]]),
}


def _labels() -> Iterable[tuple[str, tuple[Any, ...]]]:
    return [(name, (labels,)) for name, labels in LABELS.items()]


def _samples(parts: Iterator[Block | InFile | About]) -> Samples:
    """What a reader of files hands over, as samples."""
    blocks: list[Block] = []
    about = About("")
    for part in parts:
        if isinstance(part, Block):
            blocks.append(part)
        elif isinstance(part, About):
            about = part
    x = torch.from_numpy(np.concatenate([block.x for block in blocks]))
    y: dict[str, Tensor] = {}
    for kind in blocks[0].y:
        found = np.concatenate([block.y[kind] for block in blocks])
        y[kind] = torch.from_numpy(np.array(about.relabel)[found] if kind == "class" and about.relabel else found)
    return Samples(
        x,
        y,
        about.classes,
        normalisation=None,
        title="",
        licence="",
        source="",
        numbers=about.numbers,
        class_type=about.class_type,
    )


def _by_array(folder: Path, y: NDArray[Any]) -> Samples:
    np.savez(folder / "data.npz", x=np.zeros((len(y), 1)), y=y)
    return _samples(read_arrays(folder / "data.npz"))


def _by_table(folder: Path, labels: list[Any]) -> Samples:
    with (folder / "data.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["x", "class"], *([0.5, label] for label in labels)])
    return _samples(read_csv(folder / "data.csv", Roles("class")))


def _lost(codec: Codec, truth: list[Any], y: NDArray[Any]) -> int:
    """How many labels are not those that were written, in value or in type."""
    kinds = {"u": "i"}
    was = kinds.get(np.array(truth).dtype.kind, np.array(truth).dtype.kind)
    is_other = kinds.get(y.dtype.kind, y.dtype.kind) != was
    return len(truth) if is_other else sum(a != b for a, b in zip(truth, y.tolist(), strict=True))


@law(28, _labels)
def labels_come_back_as_they_were_written(labels: Any) -> Iterator[Figure]:
    """Labels of any type come back from files in value and type, and are the same classes when they are read again."""
    given = np.array(labels)
    truth = given.reshape(-1).tolist()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        first = _by_array(folder, given)
        codec = codec_of(first)
        made = codec.array(first.y)
        yield Figure("labels lost by an .npz", _lost(codec, truth, made), 0)
        again = _by_array(folder, made)
        places = torch.tensor(codec.indices(again.classes))[again.y["class"]]
        yield Figure("samples of another class when read again", int((places != first.y["class"]).sum()), 0)
        few = _by_array(folder, made[1:2])  # one class alone, whose index in its file is 0
        places = torch.tensor(codec.indices(few.classes))[few.y["class"]]
        yield Figure("a lone sample of another class", int((places != first.y["class"][1:2]).sum()), 0)
        table = _by_table(folder, [codec.classes[k] for k in first.y["class"].tolist()])
        places = torch.tensor(codec.indices(table.classes))[table.y["class"]]
        yield Figure("samples of another class through a .csv", int((places != first.y["class"]).sum()), 0)
        own = codec_of(table)
        back = torch.tensor(own.indices(first.classes))[first.y["class"]]
        yield Figure("the same, the other way", int((back != table.y["class"]).sum()), 0)
    named = [codec.index(codec.classes[k]) for k in range(len(codec.classes))]
    yield Figure("names of other classes", sum(k != i for k, i in enumerate(named)), 0)


@law(28, once)
def numbers_and_words_come_back_as_they_were_written() -> Iterator[Figure]:
    """Several kinds of condition, numbers in their units among them, come back through one array."""
    numbers = np.array([[1e6 + 0.1, -3e-7], [2e6, 4e-7], [1.5e6, 0.0]])
    y = np.array(list(zip([7, -2, 7], numbers, strict=True)), [("class", np.int64), ("numbers", np.float64, (2,))])
    with tempfile.TemporaryDirectory() as name:
        first = _by_array(Path(name), y)
        made = codec_of(first).array(first.y)
        again = _by_array(Path(name), made)
    yield Figure("classes lost", int((made["class"] != y["class"]).sum()), 0)
    yield Figure("numbers lost", int((made["numbers"] != numbers).sum()), 0)
    yield Figure("lost when read again", int((again.y["numbers"].numpy() != numbers).sum()), 0)


def _refused(read: Any) -> bool:
    try:
        read()
    except ValueError:
        return True
    return False


@law(28, once)
def labels_given_to_a_network_are_classes_or_refused() -> Iterator[Figure]:
    """Labels of any type of whole numbers are the same classes; what is no class is refused, the null class too."""
    torch.manual_seed(0)
    network = MLP(2, width=8, depth=1, classes=3)
    nn.init.normal_(network.last.weight)
    field, x = NetworkField(network, GaussianPath(LinearSchedule())), torch.zeros(4, 2)
    index = np.array([0, 1, 0, 1])
    network.requires_grad_(False)
    truth = field.given(torch.from_numpy(index)).velocity(x, 0.5)
    kinds = (np.uint8, np.int16, np.int64, bool, object)
    same = [index.astype(kind) for kind in kinds] + [index[:, None], index.tolist(), {"class": index}]
    apart = max(float((field.given(y).velocity(x, 0.5) - truth).abs().max()) for y in same)
    yield Figure("velocity apart from that of the index", apart, 0)
    wrong: list[Any] = [3, -1, [1, 2, 3, 1], [0.0, 1.0, 0.0, 1.0], ["a", "b", "a", "b"], np.array([["a"]] * 4)]
    yield Figure("labels of no class that were taken", sum(not _refused(lambda y=y: field.given(y)) for y in wrong), 0)
