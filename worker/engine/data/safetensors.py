"""Reads .safetensors: the library checks the header, the arrays are mapped."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from worker.engine.data.columns import BFLOAT16, Column, column
from worker.engine.errors import NeedsDatasetError
from worker.engine.types import Array

_DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "BF16": BFLOAT16,
    **{f"F{bits}": np.dtype(f"<f{bits // 8}") for bits in (16, 32, 64)},
    **{f"I{bits}": np.dtype(f"<i{bits // 8}") for bits in (8, 16, 32, 64)},
    **{f"U{bits}": np.dtype(f"<u{bits // 8}") for bits in (8, 16, 32, 64)},
}


def read_safetensors(path: Path) -> tuple[Column, ...]:
    """The arrays of a .safetensors file. Raises `NeedsDatasetError`."""
    try:
        with safe_open(path, framework="numpy") as file:
            names = list(file.keys())
    except (SafetensorError, OSError) as error:
        raise NeedsDatasetError(f"the .safetensors file cannot be read: {str(error)[:200]}") from None
    entries, start = _header(path)
    return tuple(_tensor(path, name, entries[name], start) for name in names)


def _header(path: Path) -> tuple[dict[str, Any], int]:
    """(entries by name, where the data begins) of a file whose header the library has accepted."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        return json.loads(file.read(length)), 8 + length


def _tensor(path: Path, name: str, entry: dict[str, Any], start: int) -> Column:
    dtype = _DTYPES.get(entry["dtype"])
    if dtype is None:
        raise NeedsDatasetError(f"array {name[:80]!r} is of type {entry['dtype'][:20]}, which is not read")
    shape, offset = tuple(entry["shape"]), start + entry["data_offsets"][0]
    return column(name, dtype, shape, lambda: _mapped(path, dtype, shape, offset))


def _mapped(path: Path, dtype: np.dtype[Any], shape: tuple[int, ...], offset: int) -> Array:
    if 0 in shape:
        return np.empty(shape, dtype)  # an empty file region cannot be mapped
    return np.memmap(path, dtype, "r", offset, shape)
