"""Which array of a dataset goes into which input of a model, and how: decided from headers alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from api_schemas.datasets import TARGETS
from worker.engine.data.columns import BFLOAT16, Column
from worker.engine.data.shapes import Dimension, InputShape, spelled
from worker.engine.data.synthetic import dtype_of
from worker.engine.errors import NeedsDatasetError, WrongDtypeError
from worker.engine.types import Array


@final
@dataclass(frozen=True)
class Binding:
    """An input and what feeds it: a column, or one value for every batch.

    `whole`: a row of the column is a whole input, its batch axis included, so rows go in one by one.
    """

    item: InputShape
    column: Column | None
    constant: Array | None = None
    whole: bool = False

    @property
    def batch(self) -> int | None:
        """How many rows the model is bound to, None when any number will do."""
        if self.column is None:
            return None
        if self.whole:
            return 1
        first = self.item.shape[0] if self.item.shape else None
        return first if isinstance(first, int) else None


def bind(items: Sequence[InputShape], columns: Sequence[Column]) -> tuple[Binding, ...]:
    """Pair every input with an array: by name, or, for a single input, with the single array there is.

    Raises `NeedsDatasetError` that lists what was expected and what was found.
    """
    by_name = {item.name: item for item in columns if item.name != TARGETS}
    free = [item for item in items if item.value is None]
    if len(free) == 1 and len(by_name) == 1 and free[0].name not in by_name:
        by_name = {free[0].name: next(iter(by_name.values()))}
    missing = [item for item in free if item.name not in by_name]
    if missing:
        raise _nothing_for(missing[0], free, columns)
    return tuple(
        _constant(item) if item.value is not None else _bound(item, by_name[item.name]) for item in items
    )


def _nothing_for(
    item: InputShape, items: Sequence[InputShape], columns: Sequence[Column]
) -> NeedsDatasetError:
    expected = ", ".join(_described(wanted) for wanted in items[:20])
    found = ", ".join(str(column) for column in columns[:20]) or "none"
    return NeedsDatasetError(
        f"the dataset has no array for input {item.name[:80]!r}; expected {expected}; found {found}",
        hint="name the arrays like the model's inputs; labels are called `targets`",
    )


def _described(item: InputShape) -> str:
    return f"{item.name[:80]!r} {item.dtype}{spelled(item.known)}"


def _constant(item: InputShape) -> Binding:
    shape = tuple(size if isinstance(size, int) else 1 for size in item.given or item.shape or ())
    return Binding(item, None, np.full(shape, item.value, dtype_of(item)))


def constant_or_none(item: InputShape) -> Binding | None:
    """The binding of an input that takes one number for every batch; None for the others."""
    return None if item.value is None else _constant(item)


def _bound(item: InputShape, column: Column) -> Binding:
    _check_type(item, column)
    known = item.known
    if known is None or _fits(known[1:], column.shape[1:], len(known) == len(column.shape)):
        return Binding(item, column)
    if _fits(known, column.shape[1:], len(known) + 1 == len(column.shape)):
        return Binding(item, column, whole=True)
    raise NeedsDatasetError(
        f"array {column.name[:80]!r} has shape {list(column.shape)}, which does not fit input "
        f"{_described(item)}",
        hint="the first axis of the array is the row, the others are those of the input",
    )


def _fits(wanted: Sequence[Dimension], found: Sequence[int], same_rank: bool) -> bool:
    if not same_rank:
        return False
    return all(size == mine for size, mine in zip(wanted, found, strict=True) if isinstance(size, int))


def _check_type(item: InputShape, column: Column) -> None:
    """Widths may differ (they are converted), kinds may not: scaling images is not ours to guess."""
    if item.untyped or _kind(dtype_of(item)) == _kind(column.dtype):
        return
    raise WrongDtypeError(
        f"array {column} is of another type than input {_described(item)}",
        hint=f"convert it as the model was trained, then save it as {item.dtype}",
    )


def _kind(dtype: "np.dtype[np.generic]") -> str:
    if dtype == BFLOAT16:
        return "f"
    return "i" if dtype.kind == "u" else dtype.kind
