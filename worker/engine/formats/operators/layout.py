"""Operators that move elements or give tensors another shape."""

import math
from typing import Any

import torch
from torch import Tensor

from worker.engine.formats.operators.call import Call, Value
from worker.engine.formats.operators.registry import operator
from worker.engine.formats.operators.sizes import Sizes

#: Further than any axis is long.
_FAR = 2**48


@operator("Identity", sizes=True)
def identity(call: Call, x: Value) -> Value:
    """x."""
    return x


@operator("Reshape", sizes=True)
def reshape(call: Call, x: Value, shape: Value) -> Value:
    """The elements in another shape; 0 keeps a size unless `allowzero`, -1 is what is left."""
    sizes = call.ints_of(shape)
    if isinstance(x, Sizes) and len(sizes) <= 1:
        return Sizes(x.values, len(sizes), x.dtype)
    tensor = call.tensor_of(x)
    if not call.int("allowzero"):
        sizes = tuple(tensor.shape[i] if size == 0 else size for i, size in enumerate(sizes))
    if -1 in sizes and 0 in sizes:
        rest = math.prod(size for size in sizes if size > 0)
        sizes = tuple(tensor.numel() // rest if size == -1 else size for size in sizes)
    return tensor.reshape(sizes)


@operator("Transpose")
def transpose(call: Call, x: Tensor) -> Tensor:
    """Axes in another order, reversed by default."""
    return x.permute(call.ints("perm") or tuple(reversed(range(x.dim()))))


@operator("Flatten")
def flatten(call: Call, x: Tensor) -> Tensor:
    """A matrix: the axes before `axis` by the rest."""
    axis = call.int("axis", 1)
    axis = axis + x.dim() if axis < 0 else axis
    return x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))


@operator("Squeeze", sizes=True)
def squeeze_by_attribute(call: Call, x: Value) -> Value:
    """Without the axes of size 1 that an attribute names, or all of them."""
    return _squeezed(call, x, call.ints("axes"))


@operator("Squeeze", since=13, sizes=True)
def squeeze(call: Call, x: Value, axes: Value = None) -> Value:
    """Without the axes of size 1 that an operand names, or all of them."""
    return _squeezed(call, x, () if axes is None else call.ints_of(axes))


def _squeezed(call: Call, x: Value, axes: tuple[int, ...]) -> Value:
    if isinstance(x, Sizes):
        return Sizes(x.values, 0 if len(x) == 1 else x.rank, x.dtype)
    tensor = call.tensor_of(x)
    return tensor.squeeze(axes) if axes else tensor.squeeze()


@operator("Unsqueeze", sizes=True)
def unsqueeze_by_attribute(call: Call, x: Value) -> Value:
    """With axes of size 1 where an attribute names them in the result."""
    return _unsqueezed(call, x, call.ints("axes"))


@operator("Unsqueeze", since=13, sizes=True)
def unsqueeze(call: Call, x: Value, axes: Value) -> Value:
    """With axes of size 1 where an operand names them in the result."""
    return _unsqueezed(call, x, call.ints_of(axes))


def _unsqueezed(call: Call, x: Value, axes: tuple[int, ...]) -> Value:
    if isinstance(x, Sizes) and x.rank + len(axes) <= 1:
        return Sizes(x.values, x.rank + len(axes), x.dtype)
    tensor = call.tensor_of(x)
    rank = tensor.dim() + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        tensor = tensor.unsqueeze(axis)
    return tensor


@operator("Concat", sizes=True)
def concat(call: Call, *parts: Value) -> Value:
    """Tensors one after another along an axis."""
    if all(isinstance(part, Sizes) for part in parts):
        sizes = [part for part in parts if isinstance(part, Sizes)]
        return Sizes([value for part in sizes for value in part.values], 1, sizes[0].dtype)
    return torch.cat([call.tensor_of(part) for part in parts], call.int("axis"))


@operator("Split", sizes=True)
def split_by_attribute(call: Call, x: Value) -> tuple[Value, ...]:
    """Parts along an axis, as large as an attribute says or equal."""
    return _parts(call, x, call.ints("split"))


@operator("Split", since=13, sizes=True)
def split(call: Call, x: Value, sizes: Value = None) -> tuple[Value, ...]:
    """Parts along an axis, as large as an operand says or equal but for the last."""
    return _parts(call, x, () if sizes is None else call.ints_of(sizes))


def _parts(call: Call, x: Value, sizes: tuple[int, ...]) -> tuple[Value, ...]:
    whole = x if isinstance(x, Sizes) else call.tensor_of(x)
    axis = call.int("axis")
    length = len(whole) if isinstance(whole, Sizes) else whole.shape[axis]
    if not sizes:
        count = call.int("num_outputs") or call.outputs
        each = -(-length // count)
        sizes = (*(each,) * (count - 1), length - each * (count - 1))
    if isinstance(whole, Tensor):
        return torch.split_with_sizes(whole, list(sizes), axis)
    starts = [sum(sizes[:index]) for index in range(len(sizes))]
    return tuple(whole.alike(whole.values[s : s + n]) for s, n in zip(starts, sizes, strict=True))


@operator("Slice", sizes=True)
def slice_by_attributes(call: Call, x: Value) -> Value:
    """Elements between bounds that attributes name."""
    starts = call.ints("starts")
    axes = call.ints("axes") or tuple(range(len(starts)))
    return _sliced(call, x, starts, call.ints("ends"), axes, (1,) * len(starts))


@operator("Slice", since=10, sizes=True)
def slices(
    call: Call, x: Value, starts: Value, ends: Value, axes: Value = None, steps: Value = None
) -> Value:
    """Elements between bounds that operands name, at any step."""
    begins = call.ints_of(starts)
    along = tuple(range(len(begins))) if axes is None else call.ints_of(axes)
    strides = (1,) * len(begins) if steps is None else call.ints_of(steps)
    return _sliced(call, x, begins, call.ints_of(ends), along, strides)


def _sliced(
    call: Call,
    x: Value,
    starts: tuple[int, ...],
    ends: tuple[int, ...],
    axes: tuple[int, ...],
    steps: tuple[int, ...],
) -> Value:
    if isinstance(x, Sizes):
        return x.alike(x.values[starts[0] : ends[0] : steps[0]]) if starts else x
    tensor = call.tensor_of(x)
    index: list[Any] = [slice(None)] * tensor.dim()
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if step > 0:
            index[axis] = slice(_bounded(start), _bounded(end), _bounded(step))
        else:
            tensor, index[axis] = _backwards(tensor, axis, start, end, step)
    return tensor[tuple(index)]


def _bounded(place: int) -> int:
    """Files write the largest integers for "to the end", of which torch warns."""
    return max(-_FAR, min(place, _FAR)) if isinstance(place, int) else place


def _backwards(x: Tensor, axis: int, start: int, end: int, step: int) -> tuple[Tensor, slice]:
    """The axis turned round and the slice that reads it forwards. Unlike in Python, a start before the first
    element is the first."""
    size = x.shape[axis]
    first = min(max(start + size if start < 0 else start, 0), size - 1)
    last = min(max(end + size if end < 0 else end, -1), size - 1)
    return x.flip(axis), slice(size - 1 - first, size - 1 - last, _bounded(-step))


@operator("Expand", since=8, sizes=True)
def expand(call: Call, x: Value, shape: Value) -> Tensor:
    """Broadcast with a shape, each way."""
    tensor, sizes = call.tensor_of(x), call.ints_of(shape)
    rank = max(tensor.dim(), len(sizes))
    own = (1,) * (rank - tensor.dim()) + tuple(tensor.shape)
    other = (1,) * (rank - len(sizes)) + tuple(sizes)
    return tensor.expand([b if a == 1 else a for a, b in zip(own, other, strict=True)])


@operator("Tile", sizes=True)
def tile(call: Call, x: Value, repeats: Value) -> Value:
    """Repeated along each axis."""
    times = call.ints_of(repeats)
    if isinstance(x, Sizes) and x.rank == 1:
        return x.alike(x.values * times[0])
    return call.tensor_of(x).repeat(times)


@operator("DepthToSpace")
def depth_to_space(call: Call, x: Tensor) -> Tensor:
    """Blocks of channels spread over the plane."""
    size = call.int("blocksize")
    batch, channels, height, width = x.shape
    deep = channels // (size * size)
    if call.string("mode", "DCR") == "DCR":
        blocks = x.reshape(batch, size, size, deep, height, width).permute(0, 3, 4, 1, 5, 2)
    else:
        blocks = x.reshape(batch, deep, size, size, height, width).permute(0, 1, 4, 2, 5, 3)
    return blocks.reshape(batch, deep, height * size, width * size)


@operator("SpaceToDepth")
def space_to_depth(call: Call, x: Tensor) -> Tensor:
    """Blocks of the plane stacked as channels."""
    size = call.int("blocksize")
    batch, channels, height, width = x.shape
    blocks = x.reshape(batch, channels, height // size, size, width // size, size)
    order = (0, 3, 5, 1, 2, 4) if call.string("mode", "DCR") == "DCR" else (0, 1, 3, 5, 2, 4)
    return blocks.permute(order).reshape(batch, channels * size * size, height // size, width // size)
