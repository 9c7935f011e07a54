"""Memory: arrays that wait on disk, and telling failed allocations from other errors."""

import tempfile
from pathlib import Path

import numpy as np

from worker.engine.formats.base import Array

_SIGNS = (
    "can't allocate memory",
    "failed to allocate memory",
    "out of memory",
    "bad_alloc",
    "bad allocation",
)
#: Arrays of fewer bytes are kept in memory.
_LARGE = 2**24


def kept(array: Array, scratch: Path | None) -> Array:
    """A read-only copy of an array; a large one lies in a file in `scratch` that ends with it."""
    if array.nbytes < _LARGE or scratch is None:
        copy = np.array(array, order="C")
        copy.flags.writeable = False
        return copy
    with tempfile.TemporaryFile(dir=scratch) as file:
        file.truncate(array.nbytes)
        data = np.memmap(file, np.uint8, "r+", shape=(array.nbytes,))
        data.view(array.dtype).reshape(array.shape)[...] = array
        data.flush()
        return np.memmap(file, np.uint8, "r", shape=(array.nbytes,)).view(array.dtype).reshape(array.shape)


def raise_if_memory(error: BaseException) -> None:
    """Raise `MemoryError` when `error` is a runtime's word for it, so that the job ends as out of memory."""
    text = str(error).lower()
    if isinstance(error, MemoryError) or any(sign in text for sign in _SIGNS):
        raise MemoryError(text[:200]) from None
