"""A dataset file bound to the inputs of a model, read batch by batch."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np

from api_schemas.datasets import TARGETS, DatasetFormat
from api_schemas.jobs import InputSpec, InputSpecs
from api_schemas.models import TensorInfo
from worker.engine.data.batches import Batch
from worker.engine.data.columns import BFLOAT16, Column, check_budget
from worker.engine.data.matching import Binding, bind
from worker.engine.data.npz import read_npz
from worker.engine.data.parquet import read_parquet
from worker.engine.data.safetensors import read_safetensors
from worker.engine.data.shapes import input_shapes
from worker.engine.data.synthetic import dtype_of
from worker.engine.errors import NeedsDatasetError
from worker.engine.types import Array

LOGICAL_BYTES = 16 * 2**30
Index = slice | np.ndarray[Any, np.dtype[np.int64]]


@final
@dataclass(frozen=True)
class Dataset:
    """Data that fits a model. `unused` names arrays that go into no input."""

    rows: int
    bindings: tuple[Binding, ...]
    target_column: Column | None
    unused: tuple[str, ...]

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
        model is left out. Raises `NeedsDatasetError` for NaN, infinity, or numbers too large for the input.
        """
        size = self.bound_batch or max(1, size)
        for index, rows in self._indices(size, min(limit or self.rows, self.rows), seed):
            feeds = {binding.item.name: _feed(binding, index) for binding in self.bindings}
            yield Batch(feeds, rows, self._targets(index))

    def _indices(self, size: int, limit: int, seed: int | None) -> Iterator[tuple[Index, int]]:
        # A bound model cannot take a part of a batch, but a limit below one batch still means one.
        stop = limit if self.bound_batch is None else max(limit, size) // size * size
        order = None if seed is None else np.random.default_rng(seed).permutation(self.rows)[:stop]
        for start in range(0, stop, size):
            end = min(start + size, stop)
            yield slice(start, end) if order is None else order[start:end], end - start

    def _targets(self, index: Index) -> Array | None:
        if self.target_column is None:
            return None
        return _finite(np.array(self.target_column.read()[index]), TARGETS)


def load_dataset(
    path: Path,
    inputs: Sequence[TensorInfo],
    *,
    format: DatasetFormat | None = None,
    given: InputSpecs | None = None,
    logical_bytes: int = LOGICAL_BYTES,
) -> Dataset:
    """Open a dataset for a model with these inputs; the format is told from the content unless stated.

    Raises `NeedsDatasetError` when the file is no dataset or does not fit, `TooLargeError` when it unpacks
    to more than `logical_bytes`, `NeedsInputsError` when `given` contradicts the model.
    """
    columns = read_columns(path, format or sniff_dataset(path), logical_bytes)
    bindings = bind(input_shapes(inputs, given), columns)
    targets = next((item for item in columns if item.name == TARGETS), None)
    used = [item.column for item in bindings if item.column is not None]
    dataset = Dataset(
        rows=_common_rows([*used, *([targets] if targets else [])]),
        bindings=bindings,
        target_column=targets,
        unused=tuple(item.name for item in columns if item is not targets and item not in used),
    )
    _check_batch(dataset)
    return dataset


def read_columns(path: Path, format: DatasetFormat, logical_bytes: int = LOGICAL_BYTES) -> tuple[Column, ...]:
    """The arrays of a dataset file. Raises `NeedsDatasetError` or `TooLargeError`."""
    if format is DatasetFormat.NPZ:
        columns = read_npz(path, logical_bytes)
    elif format is DatasetFormat.SAFETENSORS:
        columns = read_safetensors(path)
    else:
        columns = read_parquet(path, logical_bytes)
    check_budget(columns, logical_bytes)
    return columns


def sniff_dataset(path: Path) -> DatasetFormat:
    """The kind of a dataset file, from its first bytes. Raises `NeedsDatasetError` when it is none."""
    try:
        with path.open("rb") as file:
            head = file.read(9)
    except OSError as error:
        raise NeedsDatasetError(f"the dataset cannot be read: {error.strerror}") from None
    if head.startswith(b"PK"):
        return DatasetFormat.NPZ
    if head.startswith(b"PAR1"):
        return DatasetFormat.PARQUET
    if len(head) == 9 and head.endswith(b"{"):
        return DatasetFormat.SAFETENSORS
    raise NeedsDatasetError("the dataset is neither .npz, nor .safetensors, nor .parquet")


def _common_rows(columns: Sequence[Column]) -> int:
    counts = {item.name: item.rows for item in columns}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{name[:80]!r} {rows}" for name, rows in list(counts.items())[:20])
        raise NeedsDatasetError(f"the arrays differ in their number of rows: {listed}")
    rows = next(iter(counts.values()), 0)
    if rows == 0:
        raise NeedsDatasetError("the dataset has no rows for the model's inputs")
    return rows


def _check_batch(dataset: Dataset) -> None:
    sizes = {item.batch for item in dataset.bindings if item.batch is not None}
    if len(sizes) > 1:
        raise NeedsDatasetError(f"the model's inputs are bound to different batches: {sorted(sizes)}")
    bound = dataset.bound_batch
    if bound is not None and dataset.rows < bound:
        raise NeedsDatasetError(f"the model takes {bound} rows at a time; the dataset has {dataset.rows}")


def _feed(binding: Binding, index: Index) -> Array:
    if binding.column is None:
        if binding.constant is None:
            raise ValueError("a binding has a column or a constant")
        return binding.constant
    rows = np.array(binding.column.read()[index])  # a copy: runtimes want memory of their own, not a map
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
            raise NeedsDatasetError(f"array {name[:80]!r} holds numbers that do not fit into {dtype.name}")
    _finite(rows, name)
    with np.errstate(over="ignore"):
        return _finite(np.ascontiguousarray(rows, dtype), name, f" as {dtype.name}")


def _finite(rows: Array, name: str, how: str = "") -> Array:
    if (rows.dtype.kind == "f" or rows.dtype == BFLOAT16) and not np.isfinite(rows).all():
        bad = int(rows.size - np.count_nonzero(np.isfinite(rows)))
        raise NeedsDatasetError(f"array {name[:80]!r} holds NaN or infinity{how} ({bad} in this batch)")
    return rows
