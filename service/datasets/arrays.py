"""What the readers of dataset headers share: the arrays found, and refusing files that are none."""

from collections.abc import Sequence
from typing import NoReturn

from api_schemas.datasets import TARGETS, ArrayInfo
from service.errors import InvalidRequestError, UnsupportedFormatError

MOST_ARRAYS = 1024
_LONGEST_NAME = 256


def not_a_dataset(reason: str) -> NoReturn:
    """Refuse a file that is no dataset at all (415)."""
    raise UnsupportedFormatError(f"The file cannot be read as a dataset: {reason}.")


def bad_dataset(reason: str) -> NoReturn:
    """Refuse a dataset with content that cannot be used (422)."""
    raise InvalidRequestError(f"The dataset cannot be used: {reason}.")


def common_rows(arrays: Sequence[ArrayInfo]) -> int:
    """The number of rows that all arrays share. Refuses anything else, and datasets without rows."""
    if not arrays:
        bad_dataset("it holds no array")
    if len(arrays) > MOST_ARRAYS:
        bad_dataset(f"it holds more than {MOST_ARRAYS} arrays")
    for array in arrays:
        _check_array(array)
    rows = {array.shape[0] for array in arrays}
    if len(rows) > 1:
        counts = ", ".join(f"{array.name} has {array.shape[0]}" for array in arrays[:8])
        bad_dataset(f"the arrays differ in their number of rows: {counts}")
    if rows == {0}:
        bad_dataset("it has no rows")
    if all(array.name == TARGETS for array in arrays):
        bad_dataset("it holds `targets` and no input")
    return rows.pop()


def _check_array(array: ArrayInfo) -> None:
    if not array.name or len(array.name) > _LONGEST_NAME or not array.name.isprintable():
        bad_dataset("an array has an empty, overlong or unprintable name")
    if not array.shape:
        bad_dataset(f"the array {array.name} has no row dimension")
