"""Tensors between the processes of one job, through memory that all of them map and without a socket.

Every process puts a piece into its slot, and all meet; each reduces its share of the piece over all slots,
in the order of the processes, and all meet again; then each takes the whole. So all hold the same bits, and
the same bits every time. To meet is to send a note to the first process and to wait for its answer.
"""

import contextlib
import mmap
import os
import select
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final, final

import torch

from api_schemas.jobs import WorldOrder
from worker.engine.errors import OutOfStepError, PeerLostError

Reduce = Callable[[torch.Tensor, torch.Tensor], object]
_NOTE_BYTES: Final = 64
_POLL_SECONDS: Final = 3600.0  # the system call counts milliseconds in 32 bits


@final
class Exchange:
    """One process's place among those of a job. Not for several threads.

    Whatever goes wrong is raised and stays in `failed`, for who finds only another error that came of it.
    """

    def __init__(self, order: WorldOrder) -> None:
        self.rank, self.size, self._seconds = order.rank, order.size, order.seconds
        self._reads, self._writes = order.reads, order.writes
        self._slot_bytes = order.slot_bytes
        self._memory = mmap.mmap(order.memory, (order.size + 1) * order.slot_bytes)
        self._meetings = 0
        self.failed: PeerLostError | OutOfStepError | None = None

    def meet(self, purpose: str) -> None:
        """Wait until all processes are here for the same purpose. What they wrote before, all can read.

        Raises PeerLostError when one of them is gone or does not come, OutOfStepError when one is elsewhere.
        """
        self._meetings += 1
        note = f"{self._meetings} {purpose}".encode()[:_NOTE_BYTES].ljust(_NOTE_BYTES)
        try:
            if self.rank != 0:
                self._tell(note)
            for pipe in self._reads:
                self._expect(note, pipe)
            if self.rank == 0:
                self._tell(note)
        except (PeerLostError, OutOfStepError) as error:
            self.failed = error
            raise

    def reduce(self, tensor: torch.Tensor, into: Reduce, purpose: str) -> None:
        """Make the tensor what the tensors of all processes come to, put together by `into` one by one."""
        with _flat(tensor) as flat:
            for piece in self._pieces(flat):
                count, purpose_here = piece.numel(), f"{purpose} {flat.dtype} {flat.numel()}"
                slots = [self._slot(rank, flat.dtype, count) for rank in range(self.size + 1)]
                slots[self.rank].copy_(piece)
                self.meet(purpose_here)
                share = slice(count * self.rank // self.size, count * (self.rank + 1) // self.size)
                total = slots[self.size][share].copy_(slots[0][share])
                for slot in slots[1 : self.size]:
                    into(total, slot[share])
                self.meet(purpose_here)
                piece.copy_(slots[self.size])

    def broadcast(self, tensor: torch.Tensor, root: int) -> None:
        """Make the tensor what it is in the process `root`."""
        with _flat(tensor) as flat:
            for piece in self._pieces(flat):
                purpose = f"broadcast {flat.dtype} {flat.numel()} from {root}"
                slot = self._slot(root, flat.dtype, piece.numel())
                if self.rank == root:
                    slot.copy_(piece)
                self.meet(purpose)
                if self.rank != root:
                    piece.copy_(slot)
                self.meet(purpose)

    def gather(self, tensor: torch.Tensor, into: Sequence[torch.Tensor]) -> None:
        """Put the tensor of each process into one of `into`, which are like it, in the order of the ranks."""
        for rank, place in enumerate(into):
            if rank == self.rank:
                place.copy_(tensor)
            self.broadcast(place, rank)

    def close(self) -> None:
        """Let go of the pipes; the others see that this one is gone."""
        for pipe in (*self._reads, *self._writes):
            os.close(pipe)
        self._reads, self._writes = [], []

    def _slot(self, rank: int, dtype: torch.dtype, count: int) -> torch.Tensor:
        """The first numbers of a slot; the one behind the last process holds what came out."""
        return torch.frombuffer(self._memory, dtype=dtype, count=count, offset=rank * self._slot_bytes)

    def _pieces(self, flat: torch.Tensor) -> Iterator[torch.Tensor]:
        """Views of what fits into a slot at once."""
        most = self._slot_bytes // flat.element_size()
        for start in range(0, flat.numel(), most):
            yield flat[start : start + most]

    def _tell(self, note: bytes) -> None:
        for pipe in self._writes:
            try:
                os.write(pipe, note)  # whole or not at all: a pipe does not divide what is this short
            except BrokenPipeError as error:
                raise PeerLostError from error

    def _expect(self, note: bytes, pipe: int) -> None:
        said = self._heard(pipe)
        if said != note:
            here, there = (text.decode(errors="replace").strip() for text in (note, said))
            raise OutOfStepError(f"processes of the job are out of step: one is at {here}, one at {there}")

    def _heard(self, pipe: int) -> bytes:
        poll = select.poll()
        poll.register(pipe, select.POLLIN)
        end = time.monotonic() + self._seconds
        while not poll.poll(1000 * min(max(0.0, end - time.monotonic()), _POLL_SECONDS)):
            if time.monotonic() >= end:
                raise PeerLostError(f"another process of the job did not come within {self._seconds:g} s")
        said = os.read(pipe, _NOTE_BYTES)
        if not said:
            raise PeerLostError
        return said


@contextlib.contextmanager
def _flat(tensor: torch.Tensor) -> Iterator[torch.Tensor]:
    """A tensor's numbers in one row, on whatever device it is; written back where the row is a copy."""
    tensor = tensor.detach()
    row = tensor.contiguous().view(-1)
    yield row
    if not tensor.is_contiguous():
        tensor.copy_(row.view(tensor.shape))
