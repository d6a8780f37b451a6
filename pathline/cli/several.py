"""Several processes of one command, as one program to who reads it: what goes wrong is said once."""

from __future__ import annotations

import io
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout

from pathline.training.distributed import is_first_to_tell, is_one_of_several


@contextmanager
def said_once() -> Iterator[None]:
    """Let warnings through in the first process, and an error in the one that it comes to first; others end quietly."""
    if not is_one_of_several():
        yield
        return
    with warnings.catch_warnings():
        if _rank():
            warnings.showwarning = lambda *_: None
        try:
            yield
        except (Exception, KeyboardInterrupt) as error:
            if is_first_to_tell() or not isinstance(error, ValueError | OSError | KeyboardInterrupt):
                raise  # a bug shows where it is, in every process
            raise SystemExit(130 if isinstance(error, KeyboardInterrupt) else 2) from None


@contextmanager
def parsed_once() -> Iterator[None]:
    """What parsing prints, from one process."""
    if not is_one_of_several():
        yield
        return
    told = io.StringIO()
    try:
        with redirect_stderr(told), redirect_stdout(io.StringIO() if _rank() else sys.stdout):
            yield
    finally:
        if told.getvalue() and is_first_to_tell():
            sys.stderr.write(told.getvalue())


def _rank() -> int:
    return int(os.environ["RANK"])
