"""Who made the data sets that are known by the names of their files: to be told wherever a model of one is shown."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import NamedTuple


class Credit(NamedTuple):
    """The terms of a data set, and whom it is from."""

    licence: str
    source: str


KNOWN = {
    "9af929c16ffdba6155476ff42741622a5d36c837dcfefb135c5f04b9e11708a4": Credit(
        "CC BY 3.0", "Fugue Icons by Yusuke Kamiyamane, https://p.yusukekamiyamane.com"
    ),
}


def credit_of(names: Iterable[str], name: str) -> Credit:
    """That of a folder with files of these names; if it is unknown, what the folder is called, of no stated licence."""
    key = hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest()
    return KNOWN.get(key, Credit("not stated", name))
