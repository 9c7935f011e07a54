"""Reads .parquet: one array per column; lists of equal length, nested or not, are further axes."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from worker.engine.data.columns import Column, column
from worker.engine.errors import NeedsDatasetError, TooLargeError
from worker.engine.types import Array

_ROWS_AT_A_TIME = 4096


def read_parquet(path: Path, logical_bytes: int) -> tuple[Column, ...]:
    """The columns of a .parquet file. Raises `NeedsDatasetError`, or `TooLargeError` while it unpacks.

    Lists say their lengths only in the data, so list columns are read here; plain ones when asked for.
    """
    try:
        with pq.ParquetFile(path) as file:
            rows, schema = file.metadata.num_rows, file.schema_arrow
    except (pa.ArrowException, OSError) as error:
        raise NeedsDatasetError(f"the .parquet file cannot be read: {str(error)[:200]}") from None
    if len(set(schema.names)) != len(schema.names):
        raise NeedsDatasetError("the .parquet file has two columns of one name")
    return tuple(_field_column(path, field, rows, logical_bytes) for field in schema)


def _field_column(path: Path, field: Any, rows: int, logical_bytes: int) -> Column:
    name = field.name
    if pa.types.is_primitive(field.type):
        dtype = _dtype(name, field.type)
        return column(name, dtype, (rows,), lambda: _read(path, name, logical_bytes))
    array = _read(path, name, logical_bytes)
    return column(name, array.dtype, array.shape, lambda: array)


def _dtype(name: str, kind: Any) -> np.dtype[Any]:
    try:
        dtype: np.dtype[Any] = np.dtype(kind.to_pandas_dtype())
    except (NotImplementedError, TypeError):
        raise NeedsDatasetError(
            f"column {name[:80]!r} is of type {str(kind)[:60]}; only numbers are read"
        ) from None
    return dtype


def _read(path: Path, name: str, logical_bytes: int) -> Array:
    parts, total = list[Array](), 0
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(_ROWS_AT_A_TIME, columns=[name]):
                total += batch.nbytes
                if total > logical_bytes:
                    raise TooLargeError(f"the dataset unpacks to more than {logical_bytes:,} bytes")
                parts.append(_to_numpy(name, batch.column(0)))
    except (pa.ArrowException, OSError) as error:
        raise NeedsDatasetError(f"column {name[:80]!r} cannot be read: {str(error)[:200]}") from None
    if len({part.shape[1:] for part in parts}) > 1:
        raise _uneven(name)
    return np.concatenate(parts) if parts else np.empty((0,), np.float32)


def _to_numpy(name: str, values: Any) -> Array:
    """An arrow array as numpy; each level of lists becomes an axis."""
    values = getattr(values, "storage", values)  # a fixed-shape tensor is a list with a name for its shape
    if values.null_count:
        raise NeedsDatasetError(f"column {name[:80]!r} has missing values")
    if not _is_list(values.type):
        _dtype(name, values.type)
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


def _uneven(name: str) -> NeedsDatasetError:
    return NeedsDatasetError(
        f"the lists in column {name[:80]!r} differ in length", hint="pad them to one length per column"
    )
