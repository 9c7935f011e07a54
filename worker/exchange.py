"""What the children of one job talk through, made by the supervisor: memory that all map, and pipes.

A child may open no socket, so it gets what it needs at its start, as descriptors: a file in memory, sealed
at its size, and a pipe from and to the first child. When a child dies its ends close, which the others see.
"""

import fcntl
import os
from typing import Final, final

from api_schemas.jobs import WorldOrder

#: Bytes that a child puts out at once: larger ones leave the processor's cache, smaller ones wait more often.
SLOT_BYTES: Final = 1 << 20
_SEALS: Final = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


@final
class Exchange:
    """Memory and pipes for `size` children. `close` lets go of what no child was given."""

    def __init__(self, size: int, slot_bytes: int = SLOT_BYTES) -> None:
        self.size, self._slot_bytes = size, slot_bytes
        self._memory = os.memfd_create("exchange", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(self._memory, (size + 1) * slot_bytes)
        fcntl.fcntl(self._memory, fcntl.F_ADD_SEALS, _SEALS)  # nobody can cut it off under the others' feet
        to_first = [os.pipe2(os.O_CLOEXEC) for _ in range(1, size)]
        from_first = [os.pipe2(os.O_CLOEXEC) for _ in range(1, size)]
        self._reads = {0: [read for read, _ in to_first]}
        self._writes = {0: [write for _, write in from_first]}
        for rank in range(1, size):
            self._reads[rank] = [from_first[rank - 1][0]]
            self._writes[rank] = [to_first[rank - 1][1]]
        self._open = {self._memory, *(end for pipe in (*to_first, *from_first) for end in pipe)}

    def given_to(self, rank: int) -> tuple[int, ...]:
        """The descriptors that a child inherits."""
        return (self._memory, *self._reads[rank], *self._writes[rank])

    def order(self, rank: int, seconds: float) -> WorldOrder:
        """What a child is told of them."""
        return WorldOrder(
            rank=rank,
            size=self.size,
            memory=self._memory,
            slot_bytes=self._slot_bytes,
            reads=self._reads[rank],
            writes=self._writes[rank],
            seconds=seconds,
        )

    def gone_to(self, rank: int) -> None:
        """The child has its ends; ours would keep its pipes open when it dies."""
        self._drop({*self._reads[rank], *self._writes[rank]})

    def close(self) -> None:
        """Let go of everything that is left."""
        self._drop(set(self._open))

    def _drop(self, descriptors: set[int]) -> None:
        for descriptor in descriptors & self._open:
            os.close(descriptor)
        self._open -= descriptors
