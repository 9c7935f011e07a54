"""Opens a dataset file for a model: the kind by its content, arrays or images bound to the inputs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from api_schemas.datasets import SPLIT, TARGETS, VALIDATION, DatasetFormat
from api_schemas.images import Use, has_images
from api_schemas.jobs import InputSpecs
from api_schemas.models import TensorInfo
from worker.engine.data.columns import Column, check_budget
from worker.engine.data.dataset import Dataset
from worker.engine.data.image_binding import bind_images, open_images
from worker.engine.data.matching import bind
from worker.engine.data.members import read_members
from worker.engine.data.npz import read_npz
from worker.engine.data.parquet import read_parquet
from worker.engine.data.safetensors import read_safetensors
from worker.engine.data.shapes import InputShape, input_shapes
from worker.engine.data.sources import Joined, Rows
from worker.engine.errors import InvalidDatasetError, TooFewRowsError
from worker.engine.types import Array

#: What a file may unpack to; it is on the disk, not in memory.
LOGICAL_BYTES: Final = 64 * 2**30
_TRAINING, _VALIDATION, _NEITHER = 0, 1, 2
_CODES: Final = {Use.TRAINING: _TRAINING, Use.VALIDATION: _VALIDATION, Use.NEITHER: _NEITHER}


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
    shapes, kind = input_shapes(inputs, given), format or sniff_dataset(path, logical_bytes)
    if kind is DatasetFormat.IMAGES:
        dataset = _of_images(path, shapes, logical_bytes)
    else:
        dataset = _of_arrays(read_columns(path, kind, logical_bytes), shapes)
    _check_batch(dataset)
    return dataset


def read_columns(path: Path, format: DatasetFormat, logical_bytes: int = LOGICAL_BYTES) -> tuple[Column, ...]:
    """The arrays of a dataset file. Raises `NeedsDatasetError` or `TooLargeError`."""
    if format is DatasetFormat.NPZ:
        columns = read_npz(path, logical_bytes)
    elif format is DatasetFormat.SAFETENSORS:
        columns = read_safetensors(path)
    else:
        columns = read_parquet(path)
    check_budget(columns, logical_bytes)
    return columns


def sniff_dataset(path: Path, logical_bytes: int = LOGICAL_BYTES) -> DatasetFormat:
    """The kind of a dataset file, from its content. Raises `InvalidDatasetError` when it is none."""
    try:
        with path.open("rb") as file:
            head = file.read(9)
    except OSError as error:
        raise InvalidDatasetError(f"the dataset cannot be read: {error.strerror}") from None
    if head.startswith(b"PK"):
        names = [member.name for member in read_members(path, logical_bytes)]
        arrays = any(name.endswith(".npy") for name in names)
        return DatasetFormat.IMAGES if has_images(names) and not arrays else DatasetFormat.NPZ
    if head.startswith(b"PAR1"):
        return DatasetFormat.PARQUET
    if len(head) == 9 and head.endswith(b"{"):
        return DatasetFormat.SAFETENSORS
    raise InvalidDatasetError("the dataset is neither .npz, .safetensors, .parquet nor a zip of images")


def _of_images(path: Path, shapes: Sequence[InputShape], logical_bytes: int) -> Dataset:
    images = open_images(path, read_members(path, logical_bytes))
    bindings, targets = bind_images(shapes, images)
    rows = len(images.folders.images)
    uses = np.array([_CODES[use] for use in images.folders.uses], np.int8)
    return _used(Dataset(rows, bindings, targets, ()), uses if len(uses) else None)


def _of_arrays(columns: Sequence[Column], shapes: Sequence[InputShape]) -> Dataset:
    wanted = {item.name for item in shapes}
    joined, uses = _joined(columns, wanted)
    marks = next((item for item in joined if item.name == SPLIT and _marks(item, wanted)), None)
    joined = [item for item in joined if item is not marks]
    bindings = bind(shapes, joined)
    targets = next((item for item in joined if item.name == TARGETS), None)
    used = [item.column for item in bindings if item.column is not None] + ([targets] if targets else [])
    rows = _common_rows([*used, *([marks] if marks else [])])
    unused = tuple(item.name for item in joined if item is not targets and item not in used)
    return _used(Dataset(rows, bindings, targets, unused), _marked(marks) if marks else uses)


def _joined(columns: Sequence[Column], wanted: set[str]) -> tuple[list[Column], Array | None]:
    """Arrays, their validation rows after the others, and what each row is for where there are such."""
    later = {
        item.name.removeprefix(VALIDATION): item
        for item in columns
        if item.name.startswith(VALIDATION) and item.name not in wanted
    }
    first = [item for item in columns if item not in later.values()]
    missing = later.keys() - {item.name for item in first}
    if missing:
        name = min(missing)
        raise InvalidDatasetError(f"array {VALIDATION + name[:80]!r} has no array {name[:80]!r} beside it")
    if not later:
        return first, None
    held = _common_rows(list(later.values()))
    rows = _common_rows([item for item in first if item.name in later])
    uses = np.repeat(np.array([_TRAINING, _VALIDATION], np.int8), [rows, held])
    return [_join(item, later[item.name]) if item.name in later else item for item in first], uses


def _join(first: Column, later: Column) -> Column:
    if (first.dtype, first.shape[1:]) != (later.dtype, later.shape[1:]):
        raise InvalidDatasetError(f"the arrays {first} and {later} differ in more than their rows")
    source = Joined(first.source, first.rows, later.source, later.rows)
    return Column(first.name, first.dtype, (first.rows + later.rows, *first.shape[1:]), source)


def _marks(column: Column, wanted: set[str]) -> bool:
    """Whether an array named `split` says what each row is for."""
    return column.name not in wanted and column.dtype.kind in "biu" and len(column.shape) == 1


def _marked(marks: Column) -> Array:
    codes = marks.read().astype(np.int64)
    if codes.size and (codes.min() < _TRAINING or codes.max() > _NEITHER):
        raise InvalidDatasetError(
            f"array {SPLIT!r} holds {codes.min()} to {codes.max()}; rows are marked 0 for training, 1 for "
            "validation, 2 for neither"
        )
    return codes


def _used(dataset: Dataset, uses: Array | None) -> Dataset:
    """The dataset with the rows for training and validation, and which are for validation."""
    if uses is None:
        return dataset
    picked: Rows = np.flatnonzero(uses != _NEITHER)
    held: Rows = np.flatnonzero(uses == _VALIDATION)
    if len(picked) == 0:
        raise TooFewRowsError("the dataset keeps no row for training or validation")
    return Dataset(
        rows=len(picked),
        bindings=dataset.bindings,
        target_column=dataset.target_column,
        unused=dataset.unused,
        picked=None if len(picked) == dataset.rows else picked,
        held_out=held if len(held) else None,
    )


def _common_rows(columns: Sequence[Column]) -> int:
    counts = {item.name: item.rows for item in columns}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{name[:80]!r} {rows}" for name, rows in list(counts.items())[:20])
        raise InvalidDatasetError(f"the arrays differ in their number of rows: {listed}")
    rows = next(iter(counts.values()), 0)
    if rows == 0:
        raise TooFewRowsError("the dataset has no rows for the model's inputs")
    return rows


def _check_batch(dataset: Dataset) -> None:
    sizes = {item.batch for item in dataset.bindings if item.batch is not None}
    if len(sizes) > 1:
        raise InvalidDatasetError(f"the model's inputs are bound to different batches: {sorted(sizes)}")
    bound = dataset.bound_batch
    if bound is not None and dataset.rows < bound:
        raise TooFewRowsError(f"the model takes {bound} rows at a time; the dataset has {dataset.rows}")
