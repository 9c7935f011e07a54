"""Images of a zip as arrays: decoded batch by batch, each only once where the pixels fit on the disk."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np

from worker.engine.data.byte_files import ByteFile
from worker.engine.data.members import Archive, Member
from worker.engine.data.pictures import Fit, pixels_of
from worker.engine.data.sources import Index, Source, Stored
from worker.engine.types import Array

#: Decoded pixels up to this many bytes are kept in a scratch file for the next epoch.
_KEPT_BYTES: Final = 4 * 2**30


@final
class Pixels(Source):
    """(rows, height, width, channels) as uint8."""

    def __init__(self, archive: Archive, members: Sequence[Member], fit: Fit) -> None:
        self._archive, self._members, self._fit = archive, members, fit
        self._kept: _Kept | None = None
        if len(members) * int(np.prod(fit.shape)) <= _KEPT_BYTES:
            self._kept = _Kept(len(members), fit.shape)

    def take(self, index: Index) -> Array:
        """The pixels of these rows. Raises `InvalidDatasetError` for an image that cannot be decoded."""
        rows = np.arange(*index.indices(len(self._members))) if isinstance(index, slice) else index
        if self._kept is None:
            return self._decoded(rows)
        missing = rows[~self._kept.done[rows]]
        for row in missing:
            self._kept.put(int(row), self._decoded(np.array([row])))
        return self._kept.take(rows)

    def _decoded(self, rows: Array) -> Array:
        found = np.empty((len(rows), *self._fit.shape), np.uint8)
        for place, row in enumerate(rows):
            member = self._members[row]
            found[place] = pixels_of(self._archive.read(member), member.name, self._fit)
        return found


@final
class _Kept:
    """Pixels in a scratch file, and which rows are there."""

    def __init__(self, rows: int, shape: tuple[int, ...]) -> None:
        self.done = np.zeros(rows, np.bool_)
        self._file = ByteFile.scratch()
        self._row_bytes = int(np.prod(shape))
        self._stored = Stored(self._file, np.dtype(np.uint8), (rows, *shape))

    def put(self, row: int, pixels: Array) -> None:
        self._file.write(pixels.tobytes(), row * self._row_bytes)
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
