"""Reads .parquet: one array per column; lists of equal length, nested or not, are further axes.

Parquet is packed by row groups, so rows cannot be taken from it one by one: a column that is asked for is
unpacked once, a few rows at a time, into memory when it is small and into a scratch file when not.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from worker.engine.data.columns import Column, column
from worker.engine.data.sources import Deferred, Source, held_when_small, spool
from worker.engine.errors import InvalidDatasetError
from worker.engine.types import Array

_MOST_ROWS: Final = 4096
_CHUNK_BYTES: Final = 4 * 2**20


@final
@dataclass(frozen=True)
class _Field:
    """A column of the file: its name, and the shape and type of all its rows."""

    path: Path
    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape, dtype=object)) * self.dtype.itemsize


def read_parquet(path: Path) -> tuple[Column, ...]:
    """The columns of a .parquet file. Raises `InvalidDatasetError`.

    Whether all lists are of one length is told from the footer and the first row, and checked in reading.
    """
    with _opened(path, "the .parquet file") as file:
        metadata, schema = file.metadata, file.schema_arrow
        if len(set(schema.names)) != len(schema.names):
            raise InvalidDatasetError("the .parquet file has two columns of one name")
        rows = metadata.num_rows
        found = [_field(path, field, rows, _values(metadata, index)) for index, field in enumerate(schema)]
    return tuple(column(item.name, item.dtype, item.shape, _source(item)) for item in found)


@contextmanager
def _opened(path: Path, what: str) -> Iterator[Any]:
    """The file, without reading ahead: a row group may be larger than memory."""
    try:
        with pq.ParquetFile(path, pre_buffer=False, buffer_size=2**20) as file:
            yield file
    except pa.ArrowMemoryError as error:
        raise MemoryError(str(error)) from None
    except (pa.ArrowException, OSError) as error:
        raise InvalidDatasetError(f"{what} cannot be read: {str(error)[:200]}") from None


def _values(metadata: Any, index: int) -> int:
    groups = range(metadata.num_row_groups)
    return sum(int(metadata.row_group(group).column(index).num_values) for group in groups)


def _field(path: Path, field: Any, rows: int, values: int) -> _Field:
    dtype = _dtype(field.name, _innermost(field.type))
    if rows == 0 or not _is_list(_plain(field.type)):
        return _Field(path, field.name, dtype, (rows,))
    first = next(_batches(path, field.name, 1), None)
    if first is None:
        raise InvalidDatasetError(f"column {field.name[:80]!r} has fewer rows than the file says")
    shape = (rows, *first.shape[1:])
    if 0 not in shape and values != int(np.prod(shape, dtype=object)):
        raise _uneven(field.name)
    return _Field(path, field.name, dtype, shape)


def _source(field: _Field) -> Source:
    return held_when_small(Deferred(lambda: spool(_chunks(field), field.dtype, field.shape)), field.nbytes)


def _chunks(field: _Field) -> Iterator[memoryview]:
    row = max(1, field.nbytes // max(1, field.shape[0]))
    for part in _batches(field.path, field.name, max(1, min(_MOST_ROWS, _CHUNK_BYTES // row))):
        if part.shape[1:] != field.shape[1:]:
            raise _uneven(field.name)
        yield np.ascontiguousarray(part, field.dtype).reshape(-1).view(np.uint8).data


def _batches(path: Path, name: str, rows: int) -> Iterator[Array]:
    with _opened(path, f"column {name[:80]!r}") as file:
        for batch in file.iter_batches(rows, columns=[name], use_threads=False):
            yield _to_numpy(name, batch.column(0))


def _innermost(kind: Any) -> Any:
    kind = _plain(kind)
    return _innermost(kind.value_type) if _is_list(kind) else kind


def _plain(kind: Any) -> Any:
    """The type itself; a fixed-shape tensor is a list with a name for its shape."""
    return getattr(kind, "storage_type", kind)


def _dtype(name: str, kind: Any) -> np.dtype[Any]:
    try:
        dtype: np.dtype[Any] = np.dtype(kind.to_pandas_dtype())
    except (NotImplementedError, TypeError):
        raise InvalidDatasetError(
            f"column {name[:80]!r} is of type {str(kind)[:60]}; only numbers are read"
        ) from None
    if dtype.hasobject:
        raise InvalidDatasetError(f"column {name[:80]!r} is of type {str(kind)[:60]}; only numbers are read")
    return dtype


def _to_numpy(name: str, values: Any) -> Array:
    """An arrow array as numpy; each level of lists becomes an axis, and so does each of a tensor's."""
    if isinstance(values, pa.FixedShapeTensorArray):
        flat = _to_numpy(name, values.storage)
        shape = tuple(values.type.shape)
        order = values.type.permutation or range(len(shape))
        rows = flat.reshape(len(values), *shape)
        return rows.transpose(0, *(axis + 1 for axis in order))
    values = getattr(values, "storage", values)
    if values.null_count:
        raise InvalidDatasetError(f"column {name[:80]!r} has missing values")
    if not _is_list(values.type):
        return np.asarray(values.to_numpy(zero_copy_only=False))
    lengths = set(_lengths(values))
    if len(lengths) > 1:
        raise _uneven(name)
    inner = _to_numpy(name, values.flatten())
    return inner.reshape(len(values), lengths.pop() if lengths else 0, *inner.shape[1:])


def _is_list(kind: Any) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _lengths(values: Any) -> list[int]:
    if pa.types.is_fixed_size_list(values.type):
        return [values.type.list_size]
    return [int(length) for length in np.unique(np.diff(np.asarray(values.offsets)))]


def _uneven(name: str) -> InvalidDatasetError:
    return InvalidDatasetError(
        f"the lists in column {name[:80]!r} differ in length", hint="pad them to one length per column"
    )
