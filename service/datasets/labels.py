"""The range of whole-number targets, read without numpy: enough to tell that a label names no class."""

import sys
from array import array
from typing import IO, Final

from api_schemas.datasets import TARGETS, VALIDATION, ArrayInfo

#: Longer columns of labels are left to the child.
_MOST_BYTES: Final = 64 * 2**20
_CHUNK: Final = 2**20
_CODES: Final = {"int8": "b", "int16": "h", "int32": "i", "int64": "q"}


def with_range(found: ArrayInfo, stream: IO[bytes], *, big_endian: bool = False) -> ArrayInfo:
    """The array with its smallest and largest number, where it holds one label per row; else as it is.

    The stream stands where the numbers begin.
    """
    code = _CODES.get(found.dtype.removeprefix("u"))
    if code is None or not _is_labels(found):
        return found
    code = code.upper() if found.dtype.startswith("u") else code
    left = found.shape[0] * array(code).itemsize
    if not 0 < left <= _MOST_BYTES:
        return found
    lows, highs = list[int](), list[int]()
    while left:
        numbers = array(code, stream.read(min(_CHUNK, left)))
        if not numbers:
            return found  # cut short: the child says where
        if big_endian != (sys.byteorder == "big"):
            numbers.byteswap()
        lows.append(min(numbers))
        highs.append(max(numbers))
        left -= len(numbers) * numbers.itemsize
    return found.model_copy(update={"minimum": min(lows), "maximum": max(highs)})


def _is_labels(found: ArrayInfo) -> bool:
    return found.name in (TARGETS, VALIDATION + TARGETS) and found.shape[1:] in ([], [1])
