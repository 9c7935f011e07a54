"""Memory: arrays that wait on disk, and telling failed allocations from other errors."""

import tempfile
from collections.abc import Iterable, Iterator, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar, final

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

Key = TypeVar("Key")


@final
@dataclass(frozen=True)
class _OnDisk:
    """An array in a file that ends with it."""

    file: IO[bytes]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def array(self) -> Array:
        """The array in a mapping of its own, which takes memory as long as somebody holds it."""
        flat = np.memmap(self.file, np.uint8, "r")
        return flat.view(self.dtype).reshape(self.shape)

    def __del__(self) -> None:
        self.file.close()


@final
class Shelf(MutableMapping[Key, Array]):
    """Read-only copies of arrays. Large ones wait in files in `scratch`: they take memory only while somebody
    holds what was taken from the shelf."""

    def __init__(self, scratch: Path | None) -> None:
        self._scratch = scratch
        self._held: dict[Key, Array | _OnDisk] = {}

    def __setitem__(self, key: Key, array: Array) -> None:
        if array.nbytes < _LARGE or self._scratch is None:
            copy = np.array(array, order="C")
            copy.flags.writeable = False
            self._held[key] = copy
            return
        file = tempfile.TemporaryFile(dir=self._scratch)  # noqa: SIM115 (closed with its holder)
        np.ascontiguousarray(array).reshape(-1).view(np.uint8).tofile(file)
        file.flush()
        self._held[key] = _OnDisk(file, array.shape, array.dtype)

    def __getitem__(self, key: Key) -> Array:
        held = self._held[key]
        return held.array() if isinstance(held, _OnDisk) else held

    def __contains__(self, key: object) -> bool:
        return key in self._held

    def __delitem__(self, key: Key) -> None:
        del self._held[key]

    def __iter__(self) -> Iterator[Key]:
        return iter(self._held)

    def __len__(self) -> int:
        return len(self._held)

    def only(self, keys: Iterable[Key]) -> "Shelf[Key]":
        """A shelf with some of the arrays; nothing is copied."""
        part = Shelf[Key](self._scratch)
        part._held = {key: self._held[key] for key in keys}
        return part


def raise_if_memory(error: BaseException) -> None:
    """Raise `MemoryError` when `error` is a runtime's word for it, so that the job ends as out of memory."""
    text = str(error).lower()
    if isinstance(error, MemoryError) or any(sign in text for sign in _SIGNS):
        raise MemoryError(text[:200]) from None
