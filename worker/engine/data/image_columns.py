"""Images of a zip as arrays: decoded batch by batch, each only once where the pixels fit on the disk."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np

from worker.engine.data.byte_files import ByteFile
from worker.engine.data.members import Archive, Member
from worker.engine.data.pictures import Fit, pixels_of
from worker.engine.data.sources import Index, Source, Stored
from worker.engine.errors import TooLargeError
from worker.engine.types import Array

#: Decoded pixels up to this many bytes are kept in a scratch file for the next epoch.
_KEPT_BYTES: Final = 4 * 2**30
#: Images decoded at once, and the mean size of a file from which on threads are worth their start.
_AT_ONCE: Final = 64
_MOST_THREADS: Final = 4
_LARGE_BYTES: Final = 8 * 2**10


@final
class Pixels(Source):
    """(rows, height, width, channels) as uint8."""

    def __init__(self, archive: Archive, members: Sequence[Member], fit: Fit) -> None:
        self._archive, self._members, self._fit = archive, members, fit
        self._large = sum(member.packed for member in members) > _LARGE_BYTES * len(members)
        self._kept: _Kept | None = None
        if len(members) * int(np.prod(fit.shape)) <= _KEPT_BYTES:
            self._kept = _Kept(len(members), fit.shape)

    def take(self, index: Index) -> Array:
        """The pixels of these rows. Raises `InvalidDatasetError` for an image that cannot be decoded."""
        rows = np.arange(*index.indices(len(self._members))) if isinstance(index, slice) else index
        if self._kept is None:
            return self._decoded(rows)
        missing = rows[~self._kept.done[rows]]
        for start in range(0, len(missing), _AT_ONCE):
            some = missing[start : start + _AT_ONCE]
            try:
                self._kept.put(some, self._decoded(some))
            except TooLargeError:  # the disk is full: decode anew whenever asked
                self._kept = None
                return self._decoded(rows)
        return self._kept.take(rows)

    def _decoded(self, rows: Array) -> Array:
        found = np.empty((len(rows), *self._fit.shape), np.uint8)

        def decode(place: int) -> None:
            member = self._members[rows[place]]
            found[place] = pixels_of(self._archive.read(member), member.name, self._fit)

        threads = _threads() if self._large and len(rows) > 1 else 1
        if threads == 1:
            for place in range(len(rows)):
                decode(place)
            return found
        with ThreadPoolExecutor(threads) as pool:  # Pillow decodes without holding the interpreter
            for _ in pool.map(decode, range(len(rows))):
                pass
        return found


def _threads() -> int:
    return min(_MOST_THREADS, len(os.sched_getaffinity(0)))


@final
class _Kept:
    """Pixels in a scratch file, and which rows are there."""

    def __init__(self, rows: int, shape: tuple[int, ...]) -> None:
        self.done = np.zeros(rows, np.bool_)
        self._file = ByteFile.scratch()
        self._row_bytes = int(np.prod(shape))
        self._stored = Stored(self._file, np.dtype(np.uint8), (rows, *shape))

    def put(self, rows: Array, pixels: Array) -> None:
        for row, one in zip(rows, pixels, strict=True):
            self._file.write(one.tobytes(), int(row) * self._row_bytes)
            self.done[row] = True

    def take(self, rows: Array) -> Array:
        return self._stored.take(rows)


@final
@dataclass(frozen=True)
class Layout:
    """How pixels become an input: the order of its axes, its type, and (pixel · scale − mean) / std.

    `order` is NCHW, NHWC, or NHW without a channel axis. Whole numbers are handed on as they are.
    """

    order: str
    dtype: np.dtype[Any]
    scale: float = 1 / 255
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def shape(self, fit: Fit) -> tuple[int, ...]:
        """The shape of one row."""
        sizes = {"C": fit.channels, "H": fit.height, "W": fit.width}
        return tuple(sizes[axis] for axis in self.order[1:])

    def of(self, pixels: Array) -> Array:
        """(rows, height, width, channels) in this layout."""
        values = pixels if self.dtype.kind in "biu" else self._scaled(pixels)
        if self.order == "NCHW":
            values = values.transpose(0, 3, 1, 2)
        elif self.order == "NHW":
            values = values[..., 0]
        return np.ascontiguousarray(values)

    def _scaled(self, pixels: Array) -> Array:
        kind: np.dtype[Any] = np.dtype(np.float64 if self.dtype == np.float64 else np.float32)
        values: Array = np.multiply(pixels, np.asarray(self.scale, kind), dtype=kind)
        if self.mean:
            values -= np.asarray(self.mean, kind)
        if self.std:
            values /= np.asarray(self.std, kind)
        return values


@final
class Pictures(Source):
    """Pixels in the layout of an input."""

    def __init__(self, pixels: Source, layout: Layout) -> None:
        self._pixels, self._layout = pixels, layout

    def take(self, index: Index) -> Array:
        """The rows, scaled and laid out."""
        return self._layout.of(self._pixels.take(index))


@final
class Masks(Source):
    """(rows, height, width) labels of pixels."""

    def __init__(self, pixels: Source) -> None:
        self._pixels = pixels

    def take(self, index: Index) -> Array:
        """The labels as int64."""
        return self._pixels.take(index)[..., 0].astype(np.int64)
