"""Where the rows of an array are: in memory, in a file, in several places; read when they are asked for."""

import abc
import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, final

import numpy as np

from worker.engine.data.byte_files import ByteFile
from worker.engine.errors import InvalidDatasetError
from worker.engine.types import Array

Rows = np.ndarray[Any, np.dtype[np.int64]]
Index = slice | Rows
#: Arrays up to this many bytes are held in memory once they were read.
_HELD_BYTES: Final = 32 * 2**20
_BLOCK_BYTES: Final = 16 * 2**20


class Source(abc.ABC):
    """Rows of one array."""

    @abc.abstractmethod
    def take(self, index: Index) -> Array:
        """These rows, in the order of the index, in memory of their own."""


@final
class Held(Source):
    """An array in memory."""

    def __init__(self, array: Array) -> None:
        self._array = array

    def take(self, index: Index) -> Array:
        """A copy of the rows."""
        taken = self._array[index]
        return taken.copy() if isinstance(index, slice) else taken


@final
class Deferred(Source):
    """A source that is made when its first rows are asked for: unpacked, say."""

    def __init__(self, make: Callable[[], Source]) -> None:
        self._made = functools.lru_cache(maxsize=1)(make)

    def take(self, index: Index) -> Array:
        """The rows of what was made."""
        return self._made().take(index)


@final
class Stored(Source):
    """Rows that lie one after the other in a file, the first at `offset`."""

    def __init__(self, file: ByteFile, dtype: np.dtype[Any], shape: Sequence[int], offset: int = 0) -> None:
        self.file, self._dtype, self._offset = file, dtype, offset
        self._rows, self._row = shape[0], tuple(shape[1:])
        self._row_bytes = int(np.prod(self._row, dtype=np.int64)) * dtype.itemsize

    def take(self, index: Index) -> Array:
        """The rows, read from front to back; neighbours are read at once."""
        if isinstance(index, slice):
            start, stop, _ = index.indices(self._rows)
            return self._between(start, stop)
        order = np.argsort(index, kind="stable")
        rows = index[order]
        found = np.empty((len(rows), *self._row), self._dtype)
        ends = [*(np.flatnonzero(np.diff(rows) != 1) + 1), len(rows)] if len(rows) else []
        begin = 0
        for end in ends:
            found[order[begin:end]] = self._between(int(rows[begin]), int(rows[end - 1]) + 1)
            begin = end
        return found

    def _between(self, start: int, stop: int) -> Array:
        found = np.empty((max(0, stop - start), *self._row), self._dtype)
        if found.size:
            self.file.read_into(found.reshape(-1).view(np.uint8).data, self._offset + start * self._row_bytes)
        return found


@final
class Joined(Source):
    """Rows of one source, and after them those of another."""

    def __init__(self, first: Source, rows: int, second: Source, rows_after: int) -> None:
        self._first, self._second = first, second
        self._rows, self._total = rows, rows + rows_after

    def take(self, index: Index) -> Array:
        """The rows from whichever source they are in."""
        wanted = np.arange(*index.indices(self._total)) if isinstance(index, slice) else index
        later = wanted >= self._rows
        if not later.any():
            return self._first.take(wanted)
        if later.all():
            return self._second.take(wanted - self._rows)
        early = self._first.take(wanted[~later])
        found = np.empty((len(wanted), *early.shape[1:]), early.dtype)
        found[~later], found[later] = early, self._second.take(wanted[later] - self._rows)
        return found


def held_when_small(source: Source, size: int) -> Source:
    """The source itself, or for arrays of few bytes one that reads them once and holds them in memory."""
    if size > _HELD_BYTES:
        return source
    return Deferred(lambda: Held(source.take(slice(None))))


def spool(chunks: Iterable[bytes | memoryview], dtype: np.dtype[Any], shape: Sequence[int]) -> Stored:
    """An array written to a scratch file as it comes. Raises `InvalidDatasetError` when it is cut short."""
    file, position = ByteFile.scratch(), 0
    size = int(np.prod(shape, dtype=object)) * dtype.itemsize
    for chunk in chunks:
        file.write(chunk, position)
        position += len(chunk)
        if position > size:
            break
    if position != size:
        raise InvalidDatasetError("an array of the dataset is longer or shorter than it says")
    return Stored(file, dtype, shape)


def by_columns(file: ByteFile, dtype: np.dtype[Any], shape: Sequence[int], offset: int = 0) -> Source:
    """An array laid out by columns (Fortran order), turned into rows in a scratch file block by block."""
    rows, width = shape[0], int(np.prod(shape[1:], dtype=np.int64))
    step = max(1, _BLOCK_BYTES // max(1, width * dtype.itemsize))
    columns = Stored(file, dtype, (rows * width,), offset)

    def blocks() -> Iterable[memoryview]:
        for start in range(0, rows, step):
            stop = min(rows, start + step)
            block = np.empty((stop - start, width), dtype, order="F")
            for column in range(width):
                block[:, column] = columns.take(slice(column * rows + start, column * rows + stop))
            turned = block.reshape(stop - start, *shape[1:], order="F")
            yield np.ascontiguousarray(turned).reshape(-1).view(np.uint8).data

    return spool(blocks(), dtype, shape)
