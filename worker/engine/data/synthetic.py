"""Seeded random inputs, for models that came without data."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from api_schemas.jobs import InputSpecs
from api_schemas.models import TensorInfo
from worker.engine.data.batches import Batch
from worker.engine.data.columns import BFLOAT16
from worker.engine.data.shapes import InputShape, input_shapes
from worker.engine.errors import NeedsInputsError
from worker.engine.types import Array


def random_inputs(
    inputs: Sequence[TensorInfo], rows: int = 1, seed: int = 0, given: InputSpecs | None = None
) -> dict[str, Array]:
    """One array per input: floats standard normal, integers 0 or 1, booleans either; the same for a seed.

    A dimension the file leaves open is the user's where `given` has it, `rows` where it is the batch, else 1.
    Raises `NeedsInputsError` when a shape or type cannot be known.
    """
    shapes = input_shapes(inputs, given)
    sizes = _sizes(shapes, rows)
    generator = np.random.default_rng(seed)
    return {item.name: _draw(item, _resolved(item, sizes, rows), generator) for item in shapes}


def random_batches(
    inputs: Sequence[TensorInfo], rows: int, size: int = 1, seed: int = 0, given: InputSpecs | None = None
) -> Iterator[Batch]:
    """Random batches of `size` rows (or of as many as the model is bound to) until `rows` are drawn."""
    drawn, step = 0, 0
    while drawn < rows:
        feeds = random_inputs(inputs, min(size, rows - drawn), seed + step, given)
        count = _rows_of(feeds)
        yield Batch(feeds, count)
        drawn, step = drawn + count, step + 1


def _rows_of(feeds: Mapping[str, Array]) -> int:
    """Rows in a batch: the first axis of the first input that has one."""
    return next((max(1, array.shape[0]) for array in feeds.values() if array.ndim), 1)


def _sizes(shapes: Sequence[InputShape], rows: int) -> dict[str, int]:
    """What symbolic dimensions stand for: as given, and `rows` for the batch, wherever its name occurs."""
    sizes = dict[str, int]()
    batch = next((item.shape[0] for item in shapes if item.shape), None)
    if isinstance(batch, str):
        sizes[batch] = rows
    for item in shapes:
        for symbol, size in zip(item.shape or (), item.given or (), strict=False):
            if isinstance(symbol, str):
                sizes[symbol] = size
    return sizes


def _resolved(item: InputShape, sizes: Mapping[str, int], rows: int) -> tuple[int, ...]:
    if item.given is not None:
        return item.given
    if item.value is not None:
        return ()
    if item.shape is None:
        raise NeedsInputsError(
            f"the shape of input {item.name[:80]!r} is not in the file", hint="give it as `inputs`"
        )
    return tuple(_size(dimension, axis, sizes, rows) for axis, dimension in enumerate(item.shape))


def _size(dimension: int | str | None, axis: int, sizes: Mapping[str, int], rows: int) -> int:
    if isinstance(dimension, int):
        return dimension
    if dimension is not None:
        return sizes.get(dimension, rows if "batch" in dimension.lower() else 1)
    return rows if axis == 0 else 1


def _draw(item: InputShape, shape: tuple[int, ...], generator: np.random.Generator) -> Array:
    dtype = dtype_of(item)
    if item.value is not None:
        return np.full(shape, item.value, dtype)
    if dtype.kind == "f" or dtype == BFLOAT16:
        return np.asarray(generator.standard_normal(shape)).astype(dtype)
    return generator.integers(0, 2, shape).astype(dtype)


def dtype_of(item: InputShape) -> np.dtype[Any]:
    """The numpy type of an input; float32 where the file says none. Raises `NeedsInputsError` for text."""
    if item.dtype == "bfloat16":
        return BFLOAT16
    try:
        dtype: np.dtype[Any] = np.dtype("float32" if item.untyped else item.dtype)
    except TypeError:
        dtype = np.dtype(object)
    if dtype.kind not in "biufc":
        raise NeedsInputsError(f"input {item.name[:80]!r} is of type {item.dtype[:40]!r}, which is not fed")
    return dtype
