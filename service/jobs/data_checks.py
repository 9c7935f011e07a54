"""A dataset against the inputs of an inspected model: whatever headers tell, before anything is queued.

The child decides with the arrays themselves (`worker.engine.data.matching`); what is refused here would be
refused there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, final

from api_schemas.datasets import SPLIT, TARGETS, VALIDATION, ArrayInfo, DatasetFormat
from api_schemas.jobs import InputSpec, InputSpecs
from api_schemas.models import Inspection, TensorInfo
from service.errors import (
    InvalidRequestError,
    LabelsOutOfRangeError,
    NeedsDatasetError,
    TooFewRowsError,
    WrongDtypeError,
)
from service.problems import json_pointer
from store.records import DatasetRecord

Dimension = int | str | None
_KINDS: Final = {"bool": "booleans", "int": "whole numbers", "uint": "whole numbers"}
_NUMBERS: Final = "floating-point numbers"
_CHANNELS: Final = (1, 3)


@final
@dataclass(frozen=True)
class _Input:
    """One input that data is for: the file's word, completed by what the request gave."""

    name: str
    dtype: str
    shape: tuple[Dimension, ...] | None

    def __str__(self) -> str:
        shape = "" if self.shape is None else ", ".join("?" if d is None else str(d) for d in self.shape)
        return f"{self.name[:80]!r} {self.dtype}[{shape}]"


def check_arrays(inputs: InputSpecs, inspection: Inspection, dataset: DatasetRecord) -> None:
    """Refuse a dataset that goes into no input. Arrays go by name; a single array fits a single input."""
    wanted = [_completed(info, inputs.get(info.name)) for info in inspection.inputs]
    free = [item for item in wanted if item is not None]
    if dataset.format is DatasetFormat.IMAGES:
        _check_images(free, inspection, dataset)
        return
    for item, array in _pairs(free, dataset):
        _check_dtype(item, array)
        if dataset.format is not DatasetFormat.PARQUET:  # its footer does not tell the shape of nested lists
            _check_shape(item, array)
        _check_rows(item, array, dataset.rows)
    _check_labels(inspection, dataset)


def check_given_shapes(inputs: InputSpecs, inspection: Inspection) -> None:
    """Refuse shapes for inputs that the model does not have, and those that contradict the file's own."""
    infos = {info.name: info for info in inspection.inputs}
    for name, given in inputs.items():
        pointer = json_pointer(["inputs", name])
        if name not in infos:
            known = ", ".join(list(infos)[:20]) or "none"
            raise InvalidRequestError.at(pointer, f"the model has no input {name[:80]!r}; it has {known}")
        shape = given.shape if isinstance(given, InputSpec) else given
        own = infos[name].shape
        if shape is not None and own is not None and not _fits(own, shape):
            message = f"the input {name[:80]!r} is {own} in the file, which {list(shape)} contradicts"
            raise InvalidRequestError.at(pointer, message, hint="Give only what the file leaves open.")


def check_rows_to_learn(who: str, dataset: DatasetRecord) -> None:
    """Refuse data whose rows cannot be divided into those to learn from and those to measure on."""
    if dataset.rows < 2:
        raise TooFewRowsError(
            f"{who} learns from some rows and is measured on others: the dataset has a single row.",
            hint="Upload at least two rows, better some hundred.",
        )


def _completed(info: TensorInfo, given: Sequence[int] | InputSpec | None) -> _Input | None:
    """The input; None when one number is given for it, so that it needs no data."""
    shape = None if info.shape is None else tuple(info.shape)
    if given is None:
        return _Input(info.name, info.dtype, shape)
    if not isinstance(given, InputSpec):
        return _Input(info.name, info.dtype, _merged(shape, given))
    if given.value is not None:
        return None
    known = shape if given.shape is None else _merged(shape, given.shape)
    return _Input(info.name, given.dtype or info.dtype, known)


def _merged(shape: tuple[Dimension, ...] | None, given: Sequence[int]) -> tuple[Dimension, ...]:
    """The file's shape with what it leaves open as given; the row dimension given binds no one."""
    if shape is None or len(shape) != len(given):
        return (None, *given[1:])
    mixed = [mine if isinstance(mine, int) else yours for mine, yours in zip(shape, given, strict=True)]
    return (shape[0], *mixed[1:]) if shape else ()


def _pairs(free: Sequence[_Input], dataset: DatasetRecord) -> list[tuple[_Input, ArrayInfo]]:
    names = {item.name for item in free}
    arrays = {
        array.name: array
        for array in dataset.arrays
        if array.name in names or (array.name not in (TARGETS, SPLIT) and not _held_out(array, dataset))
    }
    if len(free) == 1 and len(arrays) == 1:
        return [(free[0], next(iter(arrays.values())))]
    missing = [item.name for item in free if item.name not in arrays]
    if missing:
        raise NeedsDatasetError(
            f"The dataset has no array for the input {missing[0]!r}.",
            hint=f"The model's inputs are {', '.join(item.name for item in free)}; "
            f"the dataset's arrays are {', '.join(arrays) or 'none'}.",
        )
    return [(item, arrays[item.name]) for item in free]


def _held_out(array: ArrayInfo, dataset: DatasetRecord) -> bool:
    """Whether an array holds the validation rows of another."""
    base = array.name.removeprefix(VALIDATION)
    return base != array.name and any(other.name == base for other in dataset.arrays)


def _check_dtype(item: _Input, array: ArrayInfo) -> None:
    """Widths may differ, for they are converted; kinds may not: how to scale images is not ours to guess."""
    if item.dtype in ("", "unknown") or _kind(item.dtype) == _kind(array.dtype):
        return
    raise WrongDtypeError(
        f"The array {array.name[:80]!r} holds {_kind(array.dtype)} ({array.dtype}); the input {item} takes "
        f"{_kind(item.dtype)}.",
        hint=f"Convert it as the model was trained, then save it as {item.dtype}.",
    )


def _kind(dtype: str) -> str:
    return _KINDS.get(dtype.rstrip("0123456789"), _NUMBERS)


def _check_shape(item: _Input, array: ArrayInfo) -> None:
    if item.shape is None or _fits(item.shape[1:], array.shape[1:]) or _fits(item.shape, array.shape[1:]):
        return
    raise NeedsDatasetError(
        f"The array {array.name[:80]!r} of shape {array.shape} does not fit the input {item}.",
        hint="The first axis of the array is the row, the others are those of the input.",
    )


def _fits(wanted: Sequence[Dimension], found: Sequence[int]) -> bool:
    same_rank = len(wanted) == len(found)
    return same_rank and all(
        size == mine for size, mine in zip(wanted, found, strict=True) if isinstance(size, int)
    )


def _check_rows(item: _Input, array: ArrayInfo, rows: int) -> None:
    shape = item.shape or ()
    bound = shape[0] if shape and len(shape) == len(array.shape) else None
    if isinstance(bound, int) and rows < bound:
        raise TooFewRowsError(
            f"The input {item} takes {bound} rows at a time; the dataset has {rows}.",
            hint="Upload more rows, or a model whose first dimension is open.",
        )


def _check_images(free: Sequence[_Input], inspection: Inspection, dataset: DatasetRecord) -> None:
    if len(free) != 1:
        listed = ", ".join(item.name[:80] for item in free)
        raise NeedsDatasetError(f"Images go into one input; the model has {len(free)}: {listed}.")
    if not _takes_images(free[0].shape):
        raise NeedsDatasetError(
            f"Images do not fit the input {free[0]}.",
            hint="They fit [batch, channels, height, width] or [batch, height, width, channels] with 1 or 3 "
            "channels; for others upload arrays as .npz.",
        )
    _check_classes(inspection, dataset)


def _takes_images(shape: tuple[Dimension, ...] | None) -> bool:
    if shape is None or len(shape) == 3:
        return True
    sides = (shape[1], shape[3]) if len(shape) == 4 else ()
    return any(not isinstance(size, int) or size in _CHANNELS for size in sides)


def _check_classes(inspection: Inspection, dataset: DatasetRecord) -> None:
    """Refuse more folders than the outputs have classes."""
    classes = _classes(inspection)
    for array in dataset.arrays:
        if classes is not None and array.class_count is not None and array.class_count > classes:
            raise LabelsOutOfRangeError(
                f"The dataset has {array.class_count} classes; the model's output has {classes}.",
                hint="Each folder of images is a class, counted from 0 in the order of their names.",
            )


def _check_labels(inspection: Inspection, dataset: DatasetRecord) -> None:
    """Refuse labels that no output has a class for."""
    classes = _classes(inspection)
    for array in dataset.arrays:
        if classes is None or array.minimum is None or array.maximum is None:
            continue
        if array.minimum < 0 or array.maximum >= classes:
            raise LabelsOutOfRangeError(
                f"The array {array.name!r} holds labels from {array.minimum} to {array.maximum}; the model's "
                f"output has {classes} classes, so labels go from 0 to {classes - 1}.",
                hint="Count classes from 0, and leave out rows without a label.",
            )


def _classes(inspection: Inspection) -> int | None:
    """The most classes of any output; None unless all outputs are scores of a known number of classes."""
    shapes = [found.shape for found in inspection.outputs]
    counts = [shape[1] if shape is not None and len(shape) == 2 else None for shape in shapes]
    known = [count for count in counts if isinstance(count, int) and count >= 2]
    return max(known) if known and len(known) == len(counts) else None
