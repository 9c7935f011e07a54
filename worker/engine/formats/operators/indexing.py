"""Reading and writing at given places: gather, scatter, one-hot, selection by condition."""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from worker.engine.formats.operators.call import Call, Value
from worker.engine.formats.operators.registry import operator
from worker.engine.formats.operators.sizes import Sizes

#: ONNX's names of what happens where several updates meet, as torch calls them.
_REDUCTIONS = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


def _counted(indices: Tensor, length: int) -> Tensor:
    """Indices as torch wants them: 64 bits wide, those from the end counted from the start."""
    wide = indices.long()
    return torch.where(wide < 0, wide + length, wide)


@operator("Gather", sizes=True)
def gather(call: Call, data: Value, indices: Value) -> Value:
    """Slices of the data along an axis, in the order of the indices."""
    if isinstance(data, Sizes) and isinstance(indices, Sizes):
        return Sizes([data.values[index] for index in indices.values], indices.rank, data.dtype)
    source = call.tensor_of(data)
    axis = call.int("axis", 0) % source.dim()
    if isinstance(indices, Sizes):
        return _gather_known(source, axis, indices)
    return _gather_tensor(source, axis, call.tensor_of(indices))


def _gather_known(data: Tensor, axis: int, indices: Sizes) -> Tensor:
    """A view where the places known beforehand follow each other: nothing is copied to a device."""
    places = [index + data.shape[axis] if index < 0 else index for index in indices.values]
    if indices.rank == 0:
        return data.select(axis, places[0])
    if places and all(later == first + 1 for first, later in itertools.pairwise(places)):
        return data.narrow(axis, places[0], len(places))
    return data.index_select(axis, torch.tensor(places, dtype=torch.int64, device=data.device))


def _gather_tensor(data: Tensor, axis: int, indices: Tensor) -> Tensor:
    places = _counted(indices, data.shape[axis])
    if axis == 0 and data.dim() == 2 and data.is_floating_point():
        # The same as below, with a backward pass that is deterministic on CUDA too.
        return functional.embedding(places, data)
    picked = data.index_select(axis, places.reshape(-1))
    return picked.reshape(*data.shape[:axis], *indices.shape, *data.shape[axis + 1 :])


@operator("GatherElements", since=11)
def gather_elements(call: Call, data: Tensor, indices: Tensor) -> Tensor:
    """One element per index, its other coordinates those of the index itself."""
    axis = call.int("axis", 0)
    return data.gather(axis, _counted(indices, data.shape[axis]))


@operator("GatherND", since=11)
def gather_nd(call: Call, data: Tensor, indices: Tensor) -> Tensor:
    """Slices of the data at coordinates, which are the rows of the last axis of the indices."""
    batch = call.int("batch_dims", 0)
    depth = indices.shape[-1]
    places: list[Tensor] = []
    for axis in range(batch):
        shape = [1] * (indices.dim() - 1)
        shape[axis] = data.shape[axis]
        places.append(torch.arange(data.shape[axis], device=data.device).reshape(shape))
    places += [_counted(indices[..., axis], data.shape[batch + axis]) for axis in range(depth)]
    return data[tuple(places)]


@operator("Scatter", since=9)
@operator("ScatterElements", since=11)
def scatter_elements(call: Call, data: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
    """The data with single elements replaced by, or combined with, the updates."""
    axis = call.int("axis", 0)
    return _scattered(call, data, axis, _counted(indices, data.shape[axis]), updates)


@operator("ScatterND", since=11)
def scatter_nd(call: Call, data: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
    """The data with slices at coordinates replaced by, or combined with, the updates."""
    depth = indices.shape[-1]
    leading = data.shape[:depth]
    flat = torch.zeros(indices.shape[:-1], dtype=torch.int64, device=data.device)
    for axis, length in enumerate(leading):
        flat = flat * length + _counted(indices[..., axis], length)
    rows = data.reshape(leading.numel(), -1)
    places = flat.reshape(-1, 1).expand(-1, rows.shape[1])
    return _scattered(call, rows, 0, places, updates.reshape(places.shape)).reshape(data.shape)


def _scattered(call: Call, data: Tensor, axis: int, places: Tensor, updates: Tensor) -> Tensor:
    reduction = call.string("reduction", "none")
    if reduction == "none":
        return data.scatter(axis, places, updates)
    return data.scatter_reduce(axis, places, updates, _REDUCTIONS[reduction])


@operator("TensorScatter", since=24)
def tensor_scatter(call: Call, cache: Tensor, update: Tensor, starts: Tensor | None = None) -> Tensor:
    """A cache with the update written from each sample's own place on, round its end where circular."""
    axis = call.int("axis", -2) % cache.dim()
    places = torch.arange(update.shape[axis], device=cache.device).unsqueeze(0)
    if starts is not None:
        places = places + starts.reshape(-1, 1)
    if call.string("mode", "linear") == "circular":
        places = places % cache.shape[axis]
    shape = [1] * cache.dim()
    shape[0], shape[axis] = places.shape
    return cache.scatter(axis, places.reshape(shape).expand(update.shape), update)


@operator("OneHot", since=9, sizes=True)
def one_hot(call: Call, places: Value, depth: Value, values: Value) -> Tensor:
    """A new axis that is `on` at the index and `off` elsewhere; all `off` for an index out of range."""
    indices, length = call.tensor_of(places), int(call.int_of(depth))
    axis = call.int("axis", -1) % (indices.dim() + 1)
    shape = [1] * (indices.dim() + 1)
    shape[axis] = length
    steps = torch.arange(length, device=indices.device).reshape(shape)
    off, on = call.tensor_of(values).unbind(0)
    return torch.where(_counted(indices, length).unsqueeze(axis) == steps, on, off)


@operator("Where", since=9, sizes=True)
def where(call: Call, condition: Value, chosen: Value, otherwise: Value) -> Value:
    """Elements of one or the other by a condition, all three broadcast."""
    if isinstance(condition, Sizes) and isinstance(chosen, Sizes) and isinstance(otherwise, Sizes):
        return _where_known(condition, chosen, otherwise)
    return torch.where(call.tensor_of(condition), call.tensor_of(chosen), call.tensor_of(otherwise))


def _where_known(condition: Sizes, chosen: Sizes, otherwise: Sizes) -> Sizes:
    parts = (condition, chosen, otherwise)
    length = next((len(part) for part in parts if len(part) != 1), 1)
    columns = [part.values * length if len(part) == 1 else part.values for part in parts]
    values = [first if test else second for test, first, second in zip(*columns, strict=True)]
    return Sizes(values, max(part.rank for part in parts), chosen.dtype)


@operator("NonZero", since=9)
def non_zero(call: Call, inputs: Tensor) -> Tensor:
    """Coordinates of the elements that are not zero, one row per axis."""
    return (inputs.reshape(-1) if inputs.dim() == 0 else inputs).nonzero().transpose(0, 1)


@operator("Compress", since=9)
def compress(call: Call, inputs: Tensor, condition: Tensor) -> Tensor:
    """Slices along an axis, or single elements, for which the condition holds."""
    kept = condition.nonzero().squeeze(1)
    if not call.has("axis"):
        return inputs.reshape(-1).index_select(0, kept)
    return inputs.index_select(call.int("axis"), kept)


@operator("Unique", since=11)
def unique(call: Call, inputs: Tensor) -> tuple[Tensor, ...]:
    """Distinct elements or slices, where each is first, which one each was, and how often it occurs."""
    data = inputs if call.has("axis") else inputs.reshape(-1)
    axis = call.int("axis", 0) % data.dim()
    _, inverse, counts = torch.unique(data.detach(), return_inverse=True, return_counts=True, dim=axis)
    last = torch.full_like(counts, data.shape[axis])
    places = torch.arange(data.shape[axis], device=data.device)
    first = last.scatter_reduce(0, inverse, places, "amin")
    if not call.int("sorted", 1):
        order = first.argsort()
        first, counts = first[order], counts[order]
        inverse = order.argsort()[inverse]
    return (data.index_select(axis, first), first, inverse, counts)[: call.outputs]


@operator("Trilu", since=14, sizes=True)
def trilu(call: Call, inputs: Value, diagonal: Value = None) -> Tensor:
    """The upper or lower triangle of each matrix, zeros elsewhere."""
    offset, data = 0 if diagonal is None else call.int_of(diagonal), call.tensor_of(inputs)
    return data.triu(offset) if call.int("upper", 1) else data.tril(offset)


@operator("ReverseSequence", since=10)
def reverse_sequence(call: Call, inputs: Tensor, lengths: Tensor) -> Tensor:
    """Each sample's first steps in reverse order, the rest as it was."""
    time, batch = call.int("time_axis", 0), call.int("batch_axis", 1)
    steps = torch.arange(inputs.shape[time], device=inputs.device).unsqueeze(0)
    ends = lengths.long().unsqueeze(1)
    places = torch.where(steps < ends, ends - 1 - steps, steps)
    return inputs.gather(time, _spread(places, inputs.shape, batch, time))


def _spread(places: Tensor, shape: Sequence[int], batch: int, time: int) -> Tensor:
    """Places by (sample, step) as places of every element of `shape`."""
    if batch > time:
        places = places.transpose(0, 1)
    view = [length if axis in (batch, time) else 1 for axis, length in enumerate(shape)]
    return places.reshape(view).expand(*shape)
