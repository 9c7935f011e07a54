"""Training on several devices, by torch's own DDP: one process per device, each running the same job.

Every process reads the same data, weights and options, so that all of them come to the same network; they
differ in the rows of each batch that they compute gradients for. Start them as torch does:
`torchrun --nproc-per-node=4 -m worker.engine prune …`. Processes talk over sockets, which the sandbox of a
worker does not open: a job there trains on one device.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar, final

import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

Found = TypeVar("Found")


@final
@dataclass(frozen=True)
class World:
    """The processes that train together; alone, there is one."""

    rank: int = 0
    size: int = 1

    @classmethod
    def present(cls) -> "World":
        """The processes that this one has joined."""
        if not (distributed.is_available() and distributed.is_initialized()):
            return cls()
        return cls(distributed.get_rank(), distributed.get_world_size())

    @property
    def first(self) -> bool:
        """True for the process that speaks and saves for all."""
        return self.rank == 0

    def wrapped(self, module: torch.nn.Module) -> torch.nn.Module:
        """The module with gradients that are means over all processes."""
        if self.size == 1:
            return module
        # Branches of a graph that no output needs would be waited for, were they not looked for.
        return DistributedDataParallel(module, find_unused_parameters=True)

    def agreed(self, find: Callable[[], Found]) -> Found:
        """What the first process finds, in all of them."""
        if self.size == 1:
            return find()
        found: list[Any] = [find() if self.first else None]
        distributed.broadcast_object_list(found)
        return found[0]  # type: ignore[no-any-return]

    def mean(self, tensor: torch.Tensor) -> torch.Tensor:
        """The mean of a tensor over all processes."""
        if self.size > 1:
            distributed.all_reduce(tensor)
            tensor /= self.size
        return tensor


@contextlib.contextmanager
def joined() -> Iterator[str | None]:
    """Join the processes that torchrun started with this one, and give the device that is this one's; None
    where it was started alone."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        yield None
        return
    number = int(os.environ.get("LOCAL_RANK", "0"))
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(number)
    distributed.init_process_group("nccl" if cuda else "gloo")
    try:
        yield f"cuda:{number}" if cuda else "cpu"
    finally:
        distributed.destroy_process_group()
