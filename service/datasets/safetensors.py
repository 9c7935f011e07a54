"""Headers of .safetensors files: a length, a JSON object, and nothing that could run."""

import json
import math
import os
from pathlib import Path
from typing import IO, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from api_schemas.datasets import ArrayInfo
from service.datasets.arrays import MOST_ARRAYS, bad_dataset, not_a_dataset
from service.datasets.labels import with_range

_LONGEST_HEADER = 16 * 2**20
_DTYPES = {
    "BOOL": ("bool", 1),
    "I8": ("int8", 1),
    "I16": ("int16", 2),
    "I32": ("int32", 4),
    "I64": ("int64", 8),
    "U8": ("uint8", 1),
    "U16": ("uint16", 2),
    "U32": ("uint32", 4),
    "U64": ("uint64", 8),
    "F16": ("float16", 2),
    "BF16": ("bfloat16", 2),
    "F32": ("float32", 4),
    "F64": ("float64", 8),
}


class _Tensor(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    dtype: str = Field(max_length=16)
    shape: list[int] = Field(max_length=32)
    data_offsets: list[int] = Field(min_length=2, max_length=2)


def looks_like_safetensors(head: bytes, size: int) -> bool:
    """True when the first nine bytes are a plausible length and the start of a JSON object."""
    return len(head) >= 9 and head[8:9] == b"{" and 2 <= int.from_bytes(head[:8], "little") <= size - 8


def read_safetensors(path: Path) -> list[ArrayInfo]:
    """The arrays of a .safetensors file, checked against the bytes that are there."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > min(_LONGEST_HEADER, size - 8):
            not_a_dataset("its header is too long")
        header = _parse(file.read(length))
        header.pop("__metadata__", None)
        if len(header) > MOST_ARRAYS:
            bad_dataset(f"it holds more than {MOST_ARRAYS} arrays")
        return [_array(file, name, entry, size - 8 - length) for name, entry in header.items()]


def _parse(data: bytes) -> dict[str, Any]:
    try:
        header = json.loads(data)
    except (ValueError, RecursionError):
        not_a_dataset("its header is not JSON")
    if not isinstance(header, dict):
        not_a_dataset("its header is not a JSON object")
    return header


def _array(file: IO[bytes], name: str, entry: object, data_bytes: int) -> ArrayInfo:
    try:
        tensor = _Tensor.model_validate(entry)
    except ValidationError:
        not_a_dataset(f"the entry of {name[:100]!r} is malformed")
    if tensor.dtype not in _DTYPES:
        bad_dataset(f"the array {name[:100]!r} has the type {tensor.dtype!r}, which is not read")
    dtype, item_size = _DTYPES[tensor.dtype]
    start, end = tensor.data_offsets
    if min(tensor.shape, default=0) < 0 or not 0 <= start <= end <= data_bytes:
        not_a_dataset(f"the array {name[:100]!r} reaches past the end of the file")
    if end - start != math.prod(tensor.shape) * item_size:
        bad_dataset(f"the array {name[:100]!r} is not as long as its header says")
    file.seek(-data_bytes + start, os.SEEK_END)
    return with_range(ArrayInfo(name=name, dtype=dtype, shape=tensor.shape), file)
