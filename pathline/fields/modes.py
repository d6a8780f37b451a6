"""Modes that threads share: eval mode of modules, and the kernel of attention. The first sets one, the last resets it.

A mode is a property of the module, not of the thread. So threads that sample one model at the same time must agree on
when it ends: each part of a model is counted, and goes back to the mode it had when nobody uses it any more.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

_LOCK = threading.RLock()


@dataclass
class _Held:
    """The mode that a part goes back to, and the threads that hold it in eval mode, one entry for each time."""

    mode: bool
    threads: list[int] = field(default_factory=list)


_HELD: WeakKeyDictionary[nn.Module, _Held] = WeakKeyDictionary()


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """The module in eval mode; when the last thread leaves, each part is put back into the mode it was in.

    It may be nested, and entered by several threads at once, for one module or for several that share parts.
    """
    parts, thread = list(module.modules()), threading.get_ident()
    with _LOCK:
        for part in parts:
            held = _HELD.setdefault(part, _Held(part.training))
            held.mode |= part.training  # turned on by hand meanwhile
            held.threads.append(thread)
        module.eval()
    try:
        yield
    finally:
        with _LOCK:
            for part in parts:
                held = _HELD[part]
                held.threads.remove(thread)
                if not held.threads:
                    part.training = held.mode
                    del _HELD[part]


def train_mode(module: nn.Module) -> None:
    """Put the module into train mode; a part that is in use by `evaluating` goes there when it is left."""
    with _LOCK:
        module.train()
        for part in module.modules():
            if part in _HELD:
                _HELD[part].mode, part.training = part.training, False


def is_evaluated_elsewhere(module: nn.Module) -> bool:
    """Whether another thread holds a part of the module in eval mode."""
    if not _HELD:  # most often
        return False
    thread = threading.get_ident()
    with _LOCK:
        return any(other != thread for part in module.modules() if part in _HELD for other in _HELD[part].threads)


class _MathAttention:
    """Attention by plain operations, for as long as anybody needs it. The choice of a kernel is the whole process's."""

    def __init__(self) -> None:
        self.count = 0
        self.stack = ExitStack()

    @contextmanager
    def __call__(self) -> Iterator[None]:
        with _LOCK:
            if not self.count:
                self.stack.enter_context(sdpa_kernel(SDPBackend.MATH))
            self.count += 1
        try:
            yield
        finally:
            with _LOCK:
                self.count -= 1
                if not self.count:
                    self.stack.close()


math_attention = _MathAttention()  # other kernels' backward passes can neither be batched nor derived again
