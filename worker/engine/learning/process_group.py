"""Our own backend of torch.distributed: collectives through shared memory, for DDP in a sandbox.

CUDA tensors go through host memory. A collective is over when its call returns; none overlaps the backward
pass. What DDP does not use is not there, and torch says so.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final, final

import torch
from torch import distributed
from torch._C._distributed_c10d import HashStore, _create_work_from_future  # type: ignore[attr-defined]
from torch.distributed import ProcessGroup, ReduceOp, Work
from torch.distributed.distributed_c10d import (
    AllreduceOptions,
    BroadcastOptions,
)
from torch.futures import Future

from worker.engine.learning.exchange import Exchange, Reduce

BACKEND: Final = "lookahead"
_REDUCE: Final[Mapping[Any, Reduce]] = {
    ReduceOp.SUM: torch.Tensor.add_,
    ReduceOp.AVG: torch.Tensor.add_,  # and divided when all is added
    ReduceOp.PRODUCT: torch.Tensor.mul_,
    ReduceOp.MIN: lambda total, other: torch.minimum(total, other, out=total),
    ReduceOp.MAX: lambda total, other: torch.maximum(total, other, out=total),
}


@final
class SharedMemoryGroup(ProcessGroup):
    """The processes behind an exchange, as torch sees them. Its other forms of a call come down to these."""

    def __init__(self, exchange: Exchange) -> None:
        super().__init__(exchange.rank, exchange.size)  # type: ignore[call-arg]
        self._exchange = exchange

    def getBackendName(self) -> str:  # noqa: N802  torch's name
        """What the group is called in torch's messages."""
        return BACKEND

    def allreduce(  # type: ignore[override]
        self, tensors: Sequence[torch.Tensor], opts: Any = None
    ) -> Work:
        """Each tensor becomes the sum (or what `opts` asks for) over all processes."""
        asked = (opts or AllreduceOptions()).reduceOp
        operation = next((known for known in _REDUCE if asked == known), None)
        if operation is None:
            raise NotImplementedError(f"{BACKEND} reduces by sum, mean, product, minimum and maximum")
        for tensor in tensors:
            self._exchange.reduce(tensor, _REDUCE[operation], f"reduce {int(operation)}")
            if operation == ReduceOp.AVG:
                tensor.detach().div_(self._exchange.size)
        return _done(tensors)

    def allreduce_coalesced(self, tensors: Sequence[torch.Tensor], opts: Any = None) -> Work:
        """As `allreduce`."""
        return self.allreduce(tensors, opts)

    def broadcast(  # type: ignore[override]
        self, tensors: Sequence[torch.Tensor], opts: Any = None
    ) -> Work:
        """Each tensor becomes what it is in the root process."""
        for tensor in tensors:
            self._exchange.broadcast(tensor, (opts or BroadcastOptions()).rootRank)
        return _done(tensors)

    def allgather(  # type: ignore[override]
        self, outputs: Sequence[Sequence[torch.Tensor]], inputs: Sequence[torch.Tensor], opts: Any = None
    ) -> Work:
        """Each list of `outputs` becomes the tensors of all processes, in their order."""
        del opts
        for into, tensor in zip(outputs, inputs, strict=True):
            self._exchange.gather(tensor, into)
        return _done([tensor for into in outputs for tensor in into])

    def barrier(self, opts: Any = None) -> Work:
        """Wait for all."""
        del opts
        self._exchange.meet("barrier")
        return _done([])


def _done(tensors: Sequence[torch.Tensor]) -> Work:
    """A collective that is over, in the form that torch waits for, which has to know of every GPU."""
    devices = {tensor.device for tensor in tensors if tensor.is_cuda}
    future: Future[object] = Future(devices=list(devices) or None)
    future.set_result(list(tensors))
    work: Work = _create_work_from_future(future)
    return work


@contextlib.contextmanager
def default_group(exchange: Exchange, seconds: float) -> Iterator[None]:
    """A block in which the exchange is what torch.distributed talks through. It opens no socket."""

    def create(*_: object) -> SharedMemoryGroup:
        return SharedMemoryGroup(exchange)

    distributed.Backend.register_backend(BACKEND, create, devices=["cpu", "cuda"])
    distributed.init_process_group(
        BACKEND,
        store=HashStore(),  # nothing is told over it: everybody has been given their place
        rank=exchange.rank,
        world_size=exchange.size,
        timeout=timedelta(seconds=seconds),
    )
    try:
        yield
    finally:
        distributed.destroy_process_group()
