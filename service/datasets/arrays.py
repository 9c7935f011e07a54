"""What the readers of dataset headers share: the arrays found, and refusing files that are none."""

import zipfile
import zlib
from collections.abc import Mapping, Sequence
from typing import NoReturn

from api_schemas.datasets import SPLIT, TARGETS, VALIDATION, ArrayInfo
from service.errors import InvalidDatasetError, TooFewRowsError, UnsupportedFormatError

MOST_ARRAYS = 1024
#: What `zipfile` raises for members that are damaged, encrypted or of a kind that it does not unpack.
DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError)
_LONGEST_NAME = 256


def not_a_dataset(reason: str) -> NoReturn:
    """Refuse a file that is no dataset at all (415)."""
    raise UnsupportedFormatError(f"The file cannot be read as a dataset: {reason}.")


def bad_dataset(reason: str) -> NoReturn:
    """Refuse a dataset with content that cannot be used (422)."""
    raise InvalidDatasetError(f"The dataset cannot be used: {reason}.")


def count_rows(arrays: Sequence[ArrayInfo]) -> int:
    """The rows that all arrays share, with those of their validation arrays.

    Refuses anything else, and datasets without rows.
    """
    if not arrays:
        bad_dataset("it holds no array")
    if len(arrays) > MOST_ARRAYS:
        bad_dataset(f"it holds more than {MOST_ARRAYS} arrays")
    for array in arrays:
        _check_array(array)
    by_name = {array.name: array for array in arrays}
    later = [array for array in arrays if _base(array, by_name) is not None]
    first = [array for array in arrays if _base(array, by_name) is None]
    for array in later:
        _check_alike(array, by_name[array.name.removeprefix(VALIDATION)])
    if all(array.name in (TARGETS, SPLIT) for array in first):
        bad_dataset(f"it holds `{first[0].name}` and no input")
    return _common_rows(first) + (_common_rows(later) if later else 0)


def _base(array: ArrayInfo, arrays: Mapping[str, ArrayInfo]) -> ArrayInfo | None:
    """The array whose validation rows this one holds; None for all others."""
    name = array.name.removeprefix(VALIDATION)
    return arrays.get(name) if name != array.name else None


def _check_alike(later: ArrayInfo, first: ArrayInfo) -> None:
    if (later.dtype, later.shape[1:]) != (first.dtype, first.shape[1:]):
        bad_dataset(f"the arrays {first.name} and {later.name} differ in more than their rows")


def _common_rows(arrays: Sequence[ArrayInfo]) -> int:
    rows = {array.shape[0] for array in arrays}
    if len(rows) > 1:
        counts = ", ".join(f"{array.name} has {array.shape[0]}" for array in arrays[:8])
        bad_dataset(f"the arrays differ in their number of rows: {counts}")
    if rows == {0}:
        raise TooFewRowsError("The dataset cannot be used: it has no rows.")
    return rows.pop()


def _check_array(array: ArrayInfo) -> None:
    if not array.name or len(array.name) > _LONGEST_NAME or not array.name.isprintable():
        bad_dataset("an array has an empty, overlong or unprintable name")
    if not array.shape:
        bad_dataset(f"the array {array.name} has no row dimension")
