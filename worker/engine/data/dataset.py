"""A dataset bound to the inputs of a model, read batch by batch from where it lies."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final, final

import numpy as np

from api_schemas.datasets import TARGETS
from api_schemas.jobs import InputSpec, InputSpecs
from worker.engine.data.batches import Batch
from worker.engine.data.columns import BFLOAT16, Column
from worker.engine.data.matching import Binding
from worker.engine.data.sources import Index, Rows
from worker.engine.data.splitting import class_labels, draw_split
from worker.engine.data.synthetic import dtype_of
from worker.engine.errors import NotFiniteError, TooFewRowsError
from worker.engine.types import Array

#: Targets of more numbers per row than this are no labels, and are not read to divide the rows.
_WIDEST_LABEL: Final = 10_000


@final
@dataclass(frozen=True, eq=False)
class Dataset:
    """Data that fits a model. `unused` names arrays that go into no input.

    `picked` are the rows of the file that belong to it, None for all; `held_out` those of the file that its
    author keeps for validation, None where that is not said.
    """

    rows: int
    bindings: tuple[Binding, ...]
    target_column: Column | None
    unused: tuple[str, ...]
    picked: Rows | None = None
    held_out: Rows | None = None

    @property
    def has_targets(self) -> bool:
        """Whether there are labels."""
        return self.target_column is not None

    @property
    def bound_batch(self) -> int | None:
        """The batch size that the model is bound to, if it is."""
        return next((item.batch for item in self.bindings if item.batch is not None), None)

    def input_specs(self) -> InputSpecs:
        """Shape and dtype of one row of every bound input, for files that do not say them."""
        found: InputSpecs = {}
        for item in self.bindings:
            if item.column is not None:
                shape = [1, *(int(size) for size in item.column.shape[1:])]
                found[item.item.name] = InputSpec(shape=shape, dtype=str(item.column.dtype))
        return found

    def batches(self, size: int, limit: int | None = None, seed: int | None = None) -> Iterator[Batch]:
        """Batches of `size` rows, or of as many as the model is bound to; up to `limit` rows.

        In file order, or with `seed` a random sample in random order. A last batch too small for a bound
        model is left out. Raises `NotFiniteError` for NaN, infinity, or numbers too large for the input.
        """
        size = self.bound_batch or max(1, size)
        for index in self._indices(size, min(limit or self.rows, self.rows), seed):
            yield self._batch(index)

    def epochs(
        self,
        size: int,
        seed: int,
        start: int = 0,
        part: slice = slice(None),
    ) -> Iterator[Batch]:
        """Batches of `size` rows without end, each epoch in an order of its own; all have the same size. Of
        each only the rows of `part` are read and given.

        Rows that are left over after an epoch's last whole batch wait for another epoch. The batch at step
        n is the same whether the iterator began at 0 or, with `start`, at n; nothing before it is read.
        """
        size, steps = self.batch_size(size), self.steps(size)
        epoch, step = divmod(start, steps)
        while True:
            order = np.random.default_rng([seed, epoch]).permutation(self.rows)
            for begin in range(step * size, steps * size, size):
                yield self._batch(order[begin : begin + size][part])
            epoch, step = epoch + 1, 0

    def batch_size(self, size: int) -> int:
        """The size that batches of `epochs` have when `size` is asked for."""
        return self.bound_batch or min(max(1, size), self.rows)

    def steps(self, size: int) -> int:
        """Batches in an epoch of `epochs`."""
        return self.rows // self.batch_size(size)

    def split(self, fraction: float = 0.1, seed: int = 0) -> tuple["Dataset", "Dataset"]:
        """(training, validation): as the file says, else `fraction` of the rows drawn for validation.

        Classes are divided as the whole is. Raises `TooFewRowsError` when a side would have no batch.
        """
        if self.held_out is None:
            parts = draw_split(self.rows, self._labels(), fraction, seed, self.bound_batch or 1)
            return self._picking(parts[0]), self._picking(parts[1])
        held = np.isin(self._of_file(slice(None)), self.held_out)
        sides = self._picking(np.flatnonzero(~held)), self._picking(np.flatnonzero(held))
        if min(side.rows for side in sides) < (self.bound_batch or 1):
            raise TooFewRowsError(
                f"the file keeps {sides[0].rows} rows for training and {sides[1].rows} for validation; "
                f"each needs {self.bound_batch or 1} at least"
            )
        return sides

    def sample(self, rows: int, seed: int = 0) -> "Dataset":
        """So many of the rows, drawn by the seed, in the order of the file; all of them where there are no
        more. Never fewer than the model is bound to."""
        wanted = max(rows, self.bound_batch or 1)
        if wanted >= self.rows:
            return self
        drawn = np.random.default_rng(seed).permutation(self.rows)[:wanted]
        return self._picking(np.sort(drawn))

    def _picking(self, positions: Rows) -> "Dataset":
        return replace(self, rows=len(positions), picked=self._of_file(positions), held_out=None)

    def _of_file(self, index: Index) -> Rows:
        """Rows of the file for positions in this set."""
        if self.picked is not None:
            return self.picked[index]
        return np.arange(*index.indices(self.rows)) if isinstance(index, slice) else index

    def _labels(self) -> Array | None:
        """One class number per row, where the targets are that."""
        column = self.target_column
        if column is None or int(np.prod(column.shape[1:])) > _WIDEST_LABEL:
            return None
        if len(column.shape) > 2 or (len(column.shape) == 2 and column.nbytes > 2**30):
            return None
        return class_labels(_finite(column.take(self._of_file(slice(None))), TARGETS))

    def _indices(self, size: int, limit: int, seed: int | None) -> Iterator[Index]:
        # A bound model cannot take a part of a batch, but a limit below one batch still means one.
        stop = limit if self.bound_batch is None else max(limit, size) // size * size
        order = None if seed is None else np.random.default_rng(seed).permutation(self.rows)[:stop]
        for start in range(0, stop, size):
            end = min(start + size, stop)
            yield slice(start, end) if order is None else order[start:end]

    def _batch(self, index: Index) -> Batch:
        rows = index if self.picked is None else self.picked[index]
        feeds = {binding.item.name: _feed(binding, rows) for binding in self.bindings}
        count = index.stop - index.start if isinstance(index, slice) else len(index)
        targets = None if self.target_column is None else _finite(self.target_column.take(rows), TARGETS)
        return Batch(feeds, count, targets)


def _feed(binding: Binding, index: Index) -> Array:
    if binding.column is None:
        if binding.constant is None:
            raise ValueError("a binding has a column or a constant")
        return binding.constant
    rows = binding.column.take(index)
    rows = rows[0] if binding.whole else rows
    name = binding.column.name
    if binding.item.untyped:
        return _finite(rows, name)
    return _converted(rows, dtype_of(binding.item), name)


def _converted(rows: Array, dtype: "np.dtype[Any]", name: str) -> Array:
    """Rows in the width that the input takes. Raises when a value does not survive."""
    if dtype.kind in "iu" and rows.size:
        low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
        if int(rows.min()) < low or int(rows.max()) > high:
            raise NotFiniteError(f"array {name[:80]!r} holds numbers that do not fit into {dtype.name}")
    _finite(rows, name)
    with np.errstate(over="ignore"):
        return _finite(np.ascontiguousarray(rows, dtype), name, f" as {dtype.name}")


def _finite(rows: Array, name: str, how: str = "") -> Array:
    if (rows.dtype.kind == "f" or rows.dtype == BFLOAT16) and not np.isfinite(rows).all():
        bad = int(rows.size - np.count_nonzero(np.isfinite(rows)))
        raise NotFiniteError(f"array {name[:80]!r} holds NaN or infinity{how} ({bad} in this batch)")
    return rows
