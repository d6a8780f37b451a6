"""Several processes that train one model, by PyTorch's own engines: DDP, or FSDP2 where the weights are shared out.

Samples are shared out by their place in the stream that all train on: of a batch at positions k B ... (k + 1) B each
process takes an even stretch. What is random about a sample depends on its position only, so two processes never share
noise, and any number of them see the same batches.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed.nn  # now: loaded by DDP once there is a group, it would keep it, and its threads, to the end
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

T = TypeVar("T")

PATIENCE = timedelta(minutes=30)  # for others that read data or draw pictures; a dead one is noticed at once


@dataclass(frozen=True)
class Group:
    """The processes that train together, and which of them this is.

    Attributes:
        rank: The number of this process.
        size: How many there are.
        is_sharded: Whether each keeps a part of the weights (FSDP2), not all of them (DDP).
    """

    rank: int = 0
    size: int = 1
    is_sharded: bool = False

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that writes and prints."""
        return self.rank == 0

    def part(self, batch: int) -> range:
        """The samples of a batch that are this process's."""
        return range(batch * self.rank // self.size, batch * (self.rank + 1) // self.size)

    def check(self, batch: int, pieces: int) -> None:
        """Refuse to share out a batch that is too small.

        Raises:
            ValueError: If it has no sample for each piece that each process takes it in.
        """
        if batch < self.size * pieces:
            raise ValueError(
                f"batch_size must give each of {self.size} processes a sample for each of {pieces} pieces "
                f"(accumulate), got {batch}; it is the batch of all processes together"
            )

    def spread(self, loss: nn.Module) -> nn.Module:
        """A loss whose gradients are averaged over the processes."""
        if self.size == 1 or self.is_sharded:
            return loss
        with warnings.catch_warnings():  # of a new name for this setting, which torch 2.10 does not know
            warnings.simplefilter("ignore", FutureWarning)
            return DistributedDataParallel(loss, broadcast_buffers=False)

    def holding(self, model: nn.Module, is_last: bool) -> AbstractContextManager[Any]:
        """Where gradients gather in this process, until the last piece of a batch averages them over all."""
        if isinstance(model, DistributedDataParallel) and not is_last:
            return model.no_sync()
        if self.is_sharded:
            from torch.distributed.fsdp import FSDPModule

            for module in model.modules():
                if isinstance(module, FSDPModule):
                    module.set_requires_gradient_sync(is_last)
        return nullcontext()

    def mean(self, value: Tensor) -> Tensor:
        """The mean of a number over the processes."""
        if self.size == 1:
            return value
        total = value.detach().clone()
        torch.distributed.all_reduce(total)
        return total / self.size

    def of_first(self, number: int) -> int:
        """A whole number as the first process has it."""
        if self.size == 1:
            return number
        told = torch.tensor(number)
        torch.distributed.broadcast(told, 0)
        return int(told)

    def in_turn(self, make: Callable[[], T]) -> T:
        """What each process makes for itself, the first before all others: they find what it left in the cache."""
        if not self.is_first:
            self.wait()
        made = make()
        if self.is_first:
            self.wait()
        return made

    def wait(self) -> None:
        """Go on when all have come here."""
        if self.size > 1:
            torch.distributed.barrier()


ALONE = Group()


class Signals:
    """What any of the processes wants all to do after the same step, known one step later and without waiting.

    Each hands in its wishes as bits at every step; what comes back is what all wished at the step before.
    """

    def __init__(self, group: Group) -> None:
        self.group = group
        self._sent: tuple[Any, Tensor] | None = None

    def exchange(self, wishes: list[bool]) -> list[bool]:
        """The wishes of any process: this step's of the only process, the last step's of several."""
        if self.group.size == 1:
            return wishes
        known = [False] * len(wishes)
        if self._sent is not None:
            work, found = self._sent
            work.wait()
            known = found.bool().tolist()
        mine = torch.tensor(wishes, dtype=torch.int32)
        self._sent = (torch.distributed.all_reduce(mine, torch.distributed.ReduceOp.MAX, async_op=True), mine)
        return known

    def close(self) -> None:
        """Wait for what is still on its way."""
        if self._sent is not None:
            self._sent[0].wait()


def is_one_of_several() -> bool:
    """Whether torchrun started this process."""
    return "RANK" in os.environ


def is_first_to_tell() -> bool:
    """Whether no other process of the job has told yet why it ends; asked of torchrun's own store, so at any time."""
    if not is_one_of_several():
        return True
    distributed: Any = torch.distributed
    try:
        where = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        store = distributed.TCPStore(*where, is_master=False, timeout=timedelta(seconds=5))
        return bool(store.add(f"pathline/told/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", 1) == 1)
    except (KeyError, ValueError, RuntimeError):  # torchrun is gone too
        return True


@contextmanager
def joined(is_sharded: bool = False, device: str = "auto") -> Iterator[Group]:
    """The group that torchrun started this process in; the process alone if it did not.

    A process that fails does not take leave: the others miss it when it ends, by when it has told why.

    Raises:
        ValueError: If weights are to be shared out in one process, or there is no GPU for each process.
        ConnectionError: If another process ends before its time.
    """
    if not is_one_of_several():
        if is_sharded:
            raise ValueError(
                "shard shares the weights out among processes, and this is one alone; start several with "
                "torchrun --nproc-per-node 2 -m pathline train ... --shard"
            )
        yield Group()
        return
    backend = "gloo"
    if torch.cuda.is_available() and device != "cpu":
        own, count = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
        if own >= count:
            raise ValueError(
                f"each process must have a GPU of its own, and this machine has {count}; start that many with "
                "--nproc-per-node, or train with --device cpu"
            )
        torch.cuda.set_device(own)
        backend = "cpu:gloo,cuda:nccl"
    torch.distributed.init_process_group(backend, timeout=PATIENCE)
    group = Group(torch.distributed.get_rank(), torch.distributed.get_world_size(), is_sharded)
    torch.manual_seed(torch.initial_seed() + group.rank)  # for dropout: all begin with the same seed otherwise
    try:
        yield group
    except RuntimeError as error:
        if "gloo" not in str(error):
            raise
        raise ConnectionError(
            "another of the processes that train is gone; checkpoints made before are kept, go on with --resume"
        ) from error
    torch.distributed.destroy_process_group()


def shard(module: nn.Module) -> None:
    """Share the weights of a network out among the processes, block by block, in place; before it has an optimizer.

    Source: Zhao et al. 2023, https://arxiv.org/abs/2304.11277
    """
    from torch.distributed.fsdp import fully_shard

    for block in module.modules():
        if isinstance(block, nn.ModuleList):
            for child in block:
                fully_shard(child, reshard_after_forward=True)
    fully_shard(module, reshard_after_forward=True)  # the root too: its weights may be changed between two calls


def local(value: Any) -> Tensor:
    """The part of a tensor that this process holds: all of it, unless it is shared out."""
    found: Tensor = value.to_local() if is_shared(value) else value
    return found


def whole(value: Any) -> Tensor:
    """All of a tensor, on the host, its numbers in the order of its indices; every process must ask."""
    found: Tensor = value.detach().full_tensor() if is_shared(value) else value.detach()
    return found.cpu().contiguous()


def like(value: Tensor, model: Any) -> Tensor:
    """A value laid out as another tensor is: its device, its order in memory, its share."""
    if not is_shared(model):
        return torch.empty_like(model, dtype=value.dtype).copy_(value)
    from torch.distributed.tensor import distribute_tensor

    found: Tensor = distribute_tensor(value.to(model.device), model.device_mesh, model.placements, src_data_rank=None)
    return found


def is_shared(value: Tensor) -> bool:
    """Whether other processes hold the rest of a tensor (a DTensor, told without loading what makes them)."""
    return hasattr(value, "full_tensor")
