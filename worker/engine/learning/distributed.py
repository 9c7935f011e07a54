"""Training on several devices, by torch's own DDP: one process per device, each running the same job.

Every process reads the same data, weights and options, so that all of them come to the same network; they
differ in the rows of each batch that they compute gradients for. A worker starts them itself, confined, and
they talk through shared memory. Outside of a worker torch does, and they talk over sockets:
`torchrun --nproc-per-node=4 -m worker.engine prune …`.
"""

import contextlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from api_schemas.jobs import WorldOrder
from worker.engine.errors import EngineError
from worker.engine.learning.exchange import Exchange
from worker.engine.learning.process_group import default_group


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

    def agreed(self, find: Callable[[], Any]) -> Any:
        """What the first process finds, in all of them; the others do not look. It has to be JSON."""
        if self.size == 1:
            return find()
        return json.loads(self.agreed_bytes(lambda: json.dumps(find()).encode()))

    def agreed_bytes(self, find: Callable[[], bytes]) -> bytes:
        """What the first process finds, in all of them."""
        if self.size == 1:
            return find()
        found = find() if self.first else b""
        size = torch.tensor([len(found)])
        distributed.broadcast(size, 0)
        content = torch.frombuffer(bytearray(found), dtype=torch.uint8) if found else _room(int(size))
        distributed.broadcast(content, 0)
        return found if self.first else content.numpy().tobytes()

    def share(self, tensors: Iterable[torch.Tensor]) -> None:
        """Make the tensors what they are in the first process."""
        if self.size > 1:
            for tensor in tensors:
                distributed.broadcast(tensor, 0)

    def mean(self, tensor: torch.Tensor) -> torch.Tensor:
        """The mean of a tensor over all processes, in its place."""
        if self.size > 1:
            distributed.all_reduce(tensor)
            tensor /= self.size
        return tensor


def _room(size: int) -> torch.Tensor:
    return torch.zeros(size, dtype=torch.uint8)


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
    distributed.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo")
    try:
        yield f"cuda:{number}" if cuda else "cpu"
    finally:
        distributed.destroy_process_group()


@contextlib.contextmanager
def joined_through(order: WorldOrder | None) -> Iterator[None]:
    """Join the processes that a worker started with this one; with no order, be alone.

    Raises PeerLostError and OutOfStepError for what failed between them, also where that reached us as
    another error: torch's C++ keeps no types.
    """
    if order is None:
        yield
        return
    exchange = Exchange(order)
    try:
        with default_group(exchange, order.seconds):
            yield
    except EngineError:
        raise
    except Exception as error:
        if exchange.failed is None:
            raise
        raise exchange.failed from error
    finally:
        exchange.close()
