"""One array of a dataset: its name and shape at once, its content only when asked for."""

from dataclasses import dataclass
from typing import Any, final

import ml_dtypes
import numpy as np

from worker.engine.data.sources import Index, Source
from worker.engine.errors import InvalidDatasetError, PickledDataError, TooLargeError
from worker.engine.types import Array

#: Kinds of numbers that may be fed: bool, signed, unsigned, float.
_KINDS = "biuf"
BFLOAT16: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)


@final
@dataclass(frozen=True)
class Column:
    """Rows of one array; the first axis is the row."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    source: Source

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self.shape[0]

    @property
    def nbytes(self) -> int:
        """Bytes of the whole array, from its header."""
        return int(np.prod(self.shape, dtype=object)) * self.dtype.itemsize

    def take(self, index: Index) -> Array:
        """These rows, in the order of the index."""
        return self.source.take(index)

    def read(self) -> Array:
        """Every row."""
        return self.take(slice(None))

    def __str__(self) -> str:
        return f"{self.name[:80]!r} {self.dtype.name}{list(self.shape)}"


def column(name: str, dtype: np.dtype[Any], shape: tuple[int, ...], source: Source) -> Column:
    """A column. Raises `PickledDataError` or `InvalidDatasetError` for types that no model takes."""
    if dtype.hasobject:
        raise PickledDataError(f"array {name[:80]!r} holds Python objects, which are never unpickled")
    if dtype.kind not in _KINDS and dtype != BFLOAT16:
        raise InvalidDatasetError(
            f"array {name[:80]!r} is of type {str(dtype)[:40]}; only numbers and booleans are read"
        )
    if not shape:
        raise InvalidDatasetError(f"array {name[:80]!r} is a single number; the first axis must be the row")
    return Column(name, dtype, shape, source)


def check_budget(columns: tuple[Column, ...], logical_bytes: int) -> None:
    """Raise `TooLargeError` when the arrays together are over the budget, whatever the file's size."""
    total = sum(item.nbytes for item in columns)
    if total > logical_bytes:
        raise TooLargeError(f"the dataset unpacks to {total:,} bytes; at most {logical_bytes:,} are read")
