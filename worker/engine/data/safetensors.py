"""Reads .safetensors: a header of JSON, checked here, and rows that are read in place.

The library maps the whole file to look at its header, which a limit on address space forbids for files that
are larger than memory.
"""

import json
from pathlib import Path
from typing import Any, Final, TypeGuard

import numpy as np

from worker.engine.data.byte_files import ByteFile
from worker.engine.data.columns import BFLOAT16, Column, column
from worker.engine.data.sources import Stored, held_when_small
from worker.engine.errors import InvalidDatasetError

_DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    "BF16": BFLOAT16,
    **{f"F{bits}": np.dtype(f"<f{bits // 8}") for bits in (16, 32, 64)},
    **{f"I{bits}": np.dtype(f"<i{bits // 8}") for bits in (8, 16, 32, 64)},
    **{f"U{bits}": np.dtype(f"<u{bits // 8}") for bits in (8, 16, 32, 64)},
}
#: As in the library.
_LONGEST_HEADER: Final = 100_000_000


def read_safetensors(path: Path) -> tuple[Column, ...]:
    """The arrays of a .safetensors file. Raises `InvalidDatasetError`."""
    try:
        file, size = ByteFile.open(path), path.stat().st_size
    except OSError as error:
        raise InvalidDatasetError(f"the dataset cannot be read: {error.strerror}") from None
    length = int.from_bytes(file.read(8, 0), "little")
    if length > min(_LONGEST_HEADER, size - 8):
        raise _broken("its header is longer than the file")
    entries = _parsed(file.read(length, 8))
    return tuple(_tensor(file, name, entry, 8 + length, size) for name, entry in entries.items())


def _parsed(text: bytes) -> dict[str, Any]:
    try:
        entries = json.loads(text)
    except (ValueError, RecursionError):
        raise _broken("its header is not JSON") from None
    if not isinstance(entries, dict):
        raise _broken("its header is not a JSON object")
    return {name: entry for name, entry in entries.items() if name != "__metadata__"}


def _tensor(file: ByteFile, name: str, entry: object, start: int, size: int) -> Column:
    kind, shape, (begin, end) = _fields(name, entry)
    dtype = _DTYPES.get(kind)
    if dtype is None:
        raise InvalidDatasetError(f"array {name[:80]!r} is of type {kind[:20]}, which is not read")
    if end - begin != int(np.prod(shape, dtype=object)) * dtype.itemsize or start + end > size:
        raise _broken(f"array {name[:80]!r} is not where its header says")
    source = Stored(file, dtype, shape or (1,), start + begin)
    return column(name, dtype, shape, held_when_small(source, end - begin))


def _fields(name: str, entry: object) -> tuple[str, tuple[int, ...], tuple[int, int]]:
    """(type, shape, offsets) of an entry, each of the kind that it must be."""
    found: dict[str, Any] = entry if isinstance(entry, dict) else {}
    kind, shape, offsets = found.get("dtype"), found.get("shape"), found.get("data_offsets")
    if not isinstance(kind, str) or not _sizes(shape) or not _sizes(offsets) or len(offsets) != 2:
        raise _broken(f"the entry of {name[:80]!r} is malformed")
    return kind, tuple(shape), (offsets[0], offsets[1])


def _sizes(value: Any) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(item) is int and item >= 0 for item in value)


def _broken(why: str) -> InvalidDatasetError:
    return InvalidDatasetError(f"the .safetensors file cannot be read: {why}")
