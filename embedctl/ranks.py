"""The processes of one job: one, or as many as `torchrun` started, each with a share of every batch.

All of them hold the same weights. What they exchange is the vectors of a batch, so that every text is a negative for
all queries, and the sums of their gradients; so they compute what one process would with the same batch.
"""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn

from embedctl.errors import ConfigError

_LEAVING = "embedctl/leaving"
# For the first process, which alone evaluates and saves. `torchrun` ends the others if one of them dies.
_LONGEST_WAIT = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process's number among ``size``."""

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.rank == 0

    def share(self, lengths: Sequence[int]) -> list[int]:
        """Which of some texts are this process's: a fair part of short and long ones, in order of length."""
        return sorted(range(len(lengths)), key=lengths.__getitem__)[self.rank :: self.size]

    def assemble(self, own_bD: Tensor, places: Sequence[int], count: int) -> Tensor:
        """Vectors of all processes, (count, D): each brings the rows at its ``places``."""
        whole_BD = own_bD.new_zeros(count, own_bD.shape[1])
        whole_BD.index_copy_(0, torch.tensor(places, device=own_bD.device, dtype=torch.int64), own_bD)
        if self.size > 1:
            dist.all_reduce(whole_BD)
        return whole_BD

    def sum_gradients(self, module: nn.Module) -> None:
        """Replace each gradient by the sum over the processes."""
        if self.size == 1:
            return
        for weight in module.parameters():
            if weight.grad is None:
                weight.grad = torch.zeros_like(weight)
            dist.all_reduce(weight.grad)

    def most(self, number: float) -> float:
        """The largest of the processes' numbers; also waits for all of them."""
        if self.size == 1:
            return number
        device = "cuda" if dist.get_backend() == "nccl" else "cpu"
        value = torch.tensor(number, dtype=torch.float64, device=device)
        dist.all_reduce(value, op=dist.ReduceOp.MAX)
        return float(value)

    def total(self, numbers: Sequence[float]) -> list[float]:
        """The sum over the processes of each number."""
        if self.size == 1:
            return [*numbers]
        device = "cuda" if dist.get_backend() == "nccl" else "cpu"
        values = torch.tensor(numbers, dtype=torch.float64, device=device)
        dist.all_reduce(values)
        found: list[float] = values.tolist()
        return found


def is_first() -> bool:
    """Whether this is the first process that `torchrun` started, or the only one."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def joined(device: str) -> Iterator[Ranks]:
    """The processes that `torchrun` started; without it this one alone. ``device``: that of the settings."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield Ranks()
        return
    if "MASTER_ADDR" not in os.environ:
        raise ConfigError(
            "WORLD_SIZE is set, but not by torchrun", hint="torchrun --nproc-per-node N -m embedctl train"
        )
    gpu = device in ("auto", "cuda") and torch.cuda.is_available()
    if gpu:
        number = int(os.environ.get("LOCAL_RANK", "0"))
        if number >= torch.cuda.device_count():
            raise ConfigError(
                f"process {number} of this machine has no GPU of its own; there are {torch.cuda.device_count()}",
                hint="lower --nproc-per-node",
            )
        torch.cuda.set_device(number)
    dist.init_process_group("nccl" if gpu else "gloo", timeout=_LONGEST_WAIT)
    try:
        yield Ranks(dist.get_rank(), size)
        _wait_for_all(size)
    finally:
        dist.destroy_process_group()


def _wait_for_all(size: int) -> None:
    """Leave together: gloo aborts a process whose last exchange is still under way when another hangs up."""
    store = dist.TCPStore(  # type: ignore[attr-defined]
        os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False, wait_for_workers=False
    )
    store.add(_LEAVING, 1)
    while store.add(_LEAVING, 0) < size:
        time.sleep(0.01)
