"""Operators that only move channels: reshape, transpose, concat, split, slice, gather, pad, shuffle."""

from collections.abc import Iterator, Sequence

import numpy as np
import onnx_ir as ir

from worker.engine.graph.channels import (
    Boundary,
    ChannelMap,
    Channels,
    Ints,
    Permuted,
    Placed,
    Reshaped,
    Source,
    Taken,
    Term,
    given,
    joined,
    mapped,
)
from worker.engine.graph.constants import attribute
from worker.engine.graph.reshape import reshaped
from worker.engine.graph.surgery import Edit, Operation, SetAttribute, SetOperand, surgery
from worker.engine.graph.trace import Trace, label, rule


@rule("Reshape", "Flatten", "Squeeze", "Unsqueeze")
def reshape(node: ir.Node, trace: Trace) -> None:
    """The same elements in another shape; both shapes must be known."""
    channels = trace.channels(node.inputs[0])
    if isinstance(channels, Boundary):
        trace.put(node.outputs[0], channels)
        return
    before, after = trace.shape(node.inputs[0]), trace.shape(node.outputs[0])
    moved = reshaped(channels, before, after)
    if isinstance(moved, Boundary):
        trace.stop(node, moved.reason)
    else:
        trace.put(node.outputs[0], moved)


@rule("Transpose")
def transpose(node: ir.Node, trace: Trace) -> None:
    """Axes in another order."""
    channels, shape = trace.channels(node.inputs[0]), trace.shape(node.inputs[0])
    if isinstance(channels, Boundary) or shape is None:
        trace.put(node.outputs[0], channels)
        return
    order = list(attribute(node, "perm", range(len(shape))[::-1]))
    places = sorted(range(len(channels.axes)), key=lambda i: order.index(channels.axes[i]))
    axes = [order.index(channels.axes[i]) for i in places]
    sizes = [channels.sizes[i] for i in places]
    trace.put(node.outputs[0], mapped(channels, Permuted(places), axes, sizes))


@rule("Concat")
def concat(node: ir.Node, trace: Trace) -> None:
    """Side by side along the channels: each part keeps its place. Along another axis: a join."""
    shape = trace.shape(node.outputs[0])
    maps = [c for c in map(trace.channels, node.inputs) if isinstance(c, ChannelMap)]
    if not maps or shape is None:
        trace.put(node.outputs[0], Boundary("no operand's channels are known"))
        return
    axis = attribute(node, "axis") % len(shape)
    parts = _placed(node, trace, maps[0].axes, axis)
    if parts is None:
        trace.stop(node, "parts are concatenated with channels on different axes or of unknown size")
        return
    result = parts[0]
    for part in parts[1:]:
        result = joined(result, part)
    trace.put(node.outputs[0], result)


def _placed(node: ir.Node, trace: Trace, axes: tuple[int, ...], axis: int) -> list[ChannelMap] | None:
    total, start = trace.shapes.size(node.outputs[0], axis), 0
    parts: list[ChannelMap] = []
    for value in node.inputs:
        shape = trace.shape(value)
        if shape is None or total is None or any(shape[a] is None for a in (*axes, axis)):
            return None
        channels = trace.channels(value)
        if isinstance(channels, Boundary):
            channels = given(f"{value.name if value else ''}", axes, [shape[a] or 0 for a in axes])
        if channels.axes != axes:
            return None
        if axis in axes:
            place = axes.index(axis)
            sizes = [total if i == place else size for i, size in enumerate(channels.sizes)]
            channels = mapped(channels, Placed(start, total, place), axes, sizes)
        parts.append(channels)
        start += shape[axis] or 0
    return parts if len({part.sizes for part in parts}) == 1 else None


def _take(channels: ChannelMap, axis: int, indices: Ints) -> ChannelMap:
    """Indices along a tensor axis; an axis without channels leaves the map as it is."""
    if axis not in channels.axes:
        return channels
    place = channels.axes.index(axis)
    sizes = [len(indices) if i == place else size for i, size in enumerate(channels.sizes)]
    return mapped(channels, Taken(indices, place), channels.axes, sizes)


@rule("Split")
def split(node: ir.Node, trace: Trace) -> None:
    """Each output takes its run of channels."""
    channels, shape = trace.channels(node.inputs[0]), trace.shape(node.inputs[0])
    if isinstance(channels, Boundary) or shape is None:
        for value in node.outputs:
            trace.put(value, channels)
        return
    axis = attribute(node, "axis", 0) % len(shape)
    sizes = [trace.shapes.size(value, axis) for value in node.outputs]
    if axis in channels.axes and any(size is None for size in sizes):
        trace.stop(node, "a split into parts of unknown size")
        return
    start = 0
    for value, size in zip(node.outputs, sizes, strict=True):
        trace.put(value, _take(channels, axis, np.arange(start, start + (size or 0))))
        start += size or 0


@rule("Slice")
def slice_(node: ir.Node, trace: Trace) -> None:
    """Runs of channels with a step; opset 1–9 has the bounds as attributes."""
    channels, shape = trace.channels(node.inputs[0]), trace.shape(node.inputs[0])
    if isinstance(channels, Boundary) or shape is None:
        trace.put(node.outputs[0], channels)
        return
    bounds = _bounds(node, trace, len(shape))
    if bounds is None:
        trace.stop(node, "a slice with bounds computed from data")
        return
    for start, end, axis, step in zip(*bounds, strict=True):
        size = shape[axis % len(shape)]
        if axis % len(shape) in channels.axes and size is not None:
            if step != 1:
                trace.freeze(channels, "taken with a step")
            channels = _take(channels, axis % len(shape), np.arange(size)[slice(*_clip(start, end, step))])
    trace.put(node.outputs[0], channels)


def _clip(start: int, end: int, step: int) -> tuple[int | None, int | None, int]:
    """ONNX writes 'to the very end' as huge numbers; downwards past 0 as a hugely negative end."""
    far = 2**31 - 1
    return start, None if end >= far or end <= -far else end, step


def _bounds(node: ir.Node, trace: Trace, rank: int) -> tuple[list[int], ...] | None:
    if "starts" in node.attributes:
        starts, ends = attribute(node, "starts"), attribute(node, "ends")
        return list(starts), list(ends), list(attribute(node, "axes", range(len(starts)))), [1] * len(starts)
    arrays = [trace.constants.array(value) for value in node.inputs[1:]]
    arrays += [None] * (4 - len(arrays))
    if arrays[0] is None or arrays[1] is None:
        return None
    count = arrays[0].size
    axes = range(rank)[:count] if arrays[2] is None else arrays[2].tolist()
    steps = [1] * count if arrays[3] is None else arrays[3].tolist()
    return arrays[0].tolist(), arrays[1].tolist(), list(axes), steps


@rule("Gather")
def gather(node: ir.Node, trace: Trace) -> None:
    """Known indices along the channels select units; along another axis they may remove it. A stored table
    is an embedding."""
    if trace.is_constant(node.inputs[0]):
        trace.refuse(node, node.inputs[0], "an embedding table: rows are looked up, not multiplied")
        trace.put(node.outputs[0], Boundary("an embedding"))
        return
    channels, shape = trace.channels(node.inputs[0]), trace.shape(node.inputs[0])
    indices = trace.constants.array(node.inputs[1])
    if isinstance(channels, Boundary) or shape is None:
        trace.put(node.outputs[0], channels)
        return
    axis = attribute(node, "axis", 0) % len(shape)
    rank = indices.ndim if indices is not None else len(trace.shape(node.inputs[1]) or (1,))
    if axis in channels.axes and (indices is None or indices.ndim > 1):
        trace.stop(node, "channels are gathered by indices that are computed or not a list")
        return
    if axis in channels.axes and indices is not None and indices.ndim == 0:
        if len(channels.axes) == 1:
            trace.freeze(_take(channels, axis, indices.reshape(1) % channels.sizes[0]), "taken alone")
        trace.put(node.outputs[0], _picked(channels, axis, int(indices)))
        return
    if indices is not None and indices.ndim == 1:
        channels = _take(channels, axis, indices.astype(np.int64))
    axes = [a if a < axis else a + rank - 1 for a in channels.axes]
    trace.put(node.outputs[0], ChannelMap(tuple(axes), channels.sizes, channels.terms))


def _picked(channels: ChannelMap, axis: int, index: int) -> Channels:
    """One index along an axis of channels: the axis is gone."""
    place = channels.axes.index(axis)
    sizes = [size for i, size in enumerate(channels.sizes) if i != place]
    if not sizes:
        return Boundary("a single channel is taken")
    axes = [a - (a > axis) for a in channels.axes if a != axis]
    one = _take(channels, axis, np.array([index % channels.sizes[place]]))
    return mapped(one, Reshaped(sizes), axes, sizes)


@rule("Pad")
def pad(node: ir.Node, trace: Trace) -> None:
    """Padding along the channels adds indices that come from nowhere."""
    channels, before = trace.channels(node.inputs[0]), trace.shape(node.inputs[0])
    after = trace.shape(node.outputs[0])
    if isinstance(channels, Boundary) or (before is not None and before == after):
        trace.put(node.outputs[0], channels)
        return
    pads = attribute(node, "pads")
    if pads is None and len(node.inputs) > 1:
        found = trace.constants.array(node.inputs[1])
        pads = None if found is None or len(node.inputs) > 3 else found.tolist()
    if before is None or (pads is None and not _unpadded(channels, before, after)):
        trace.stop(node, "padding computed from data")
        return
    for place, axis in enumerate(channels.axes):
        if pads is not None and (pads[axis] or pads[axis + len(before)]):
            channels = _padded(node, channels, place, pads[axis], pads[axis + len(before)])
    trace.put(node.outputs[0], channels)


def _unpadded(channels: ChannelMap, before: Sequence[int | None], after: Sequence[int | None] | None) -> bool:
    """True when the channels' own axes keep their size."""
    return after is not None and all(after[a] is not None and before[a] == after[a] for a in channels.axes)


def _padded(node: ir.Node, channels: ChannelMap, place: int, before: int, after: int) -> ChannelMap:
    """What is added is a source of its own without energy: it may go with what it is added to."""
    if before < 0 or after < 0:
        kept = np.arange(max(0, -before), channels.sizes[place] + min(0, after))
        return _take(channels, channels.axes[place], kept)
    size = channels.sizes[place] + before + after
    sizes = [size if i == place else s for i, s in enumerate(channels.sizes)]
    wide = mapped(channels, Placed(before, size, place), channels.axes, sizes)
    if len(sizes) > 1:
        return wide
    units = np.full(size, -1)
    added = np.r_[:before, before + channels.sizes[0] : size]
    units[added] = np.arange(before + after)
    padding = Source(f"{label(node)}: padding", before + after, empty=True)
    return ChannelMap(wide.axes, wide.sizes, (*wide.terms, Term(padding, units)))


@surgery("Pad")
def cut_pad(node: ir.Node, operation: Operation) -> Iterator[Edit]:
    """Padding along the channels loses what goes with it."""
    channels = operation.kept.graph.maps.get(node.outputs[0])
    pads = attribute(node, "pads")
    if pads is None and len(node.inputs) > 1:
        found = operation.constants.array(node.inputs[1])
        pads = None if found is None or len(node.inputs) > 3 else found.tolist()
    if not isinstance(channels, ChannelMap) or len(channels.axes) != 1 or pads is None:
        return
    axis, rank, size = channels.axes[0], len(pads) // 2, channels.sizes[0]
    left = operation.kept.grid(channels)
    new = list(pads)
    new[axis] = int(np.count_nonzero(left[: pads[axis]]))
    new[axis + rank] = int(np.count_nonzero(left[size - pads[axis + rank] :])) if pads[axis + rank] else 0
    if new != list(pads):
        inline = "pads" in node.attributes
        yield (
            SetAttribute(node, "pads", new) if inline else SetOperand(node, 1, np.array(new, dtype=np.int64))
        )


@rule("DepthToSpace")
def depth_to_space(node: ir.Node, trace: Trace) -> None:
    """b² channels become one channel at b² positions: each of them is a term of that channel."""
    channels, block = trace.map_on(node.inputs[0], 1), attribute(node, "blocksize")
    if isinstance(channels, Boundary):
        trace.put(node.outputs[0], channels)
        return
    kept = channels.sizes[0] // (block * block)
    index = np.arange(channels.sizes[0])
    columns = attribute(node, "mode", "DCR") == "CRD"
    grid = index.reshape(kept, -1).T if columns else index.reshape(-1, kept)
    terms: list[Term] = [term.moved(Taken(row, 0)) for row in grid for term in channels.terms]
    trace.put(node.outputs[0], ChannelMap((1,), (kept,), tuple(terms)))


@rule("SpaceToDepth")
def space_to_depth(node: ir.Node, trace: Trace) -> None:
    """Every position of a block becomes a channel of its own: the channels repeat b² times."""
    channels, block = trace.map_on(node.inputs[0], 1), attribute(node, "blocksize")
    if isinstance(channels, ChannelMap):
        indices = np.tile(np.arange(channels.sizes[0]), block * block)
        channels = _take(channels, 1, indices)
    trace.put(node.outputs[0], channels)


@rule("Expand", "Tile")
def repeat(node: ir.Node, trace: Trace) -> None:
    """Repetition along axes without channels; along the channels only from size 1, where nothing is known."""
    channels: Channels = trace.channels(node.inputs[0])
    before, after = trace.shape(node.inputs[0]), trace.shape(node.outputs[0])
    if isinstance(channels, ChannelMap) and before is not None and after is not None:
        shift = len(after) - len(before)
        axes = tuple(axis + shift for axis in channels.axes)
        if tuple(after[axis] for axis in axes) == channels.sizes:
            trace.put(node.outputs[0], ChannelMap(axes, channels.sizes, channels.terms))
            return
    trace.stop(node, "repetition along the channels or to an unknown shape")


@surgery("Reshape", "Expand")
def cut_target(node: ir.Node, operation: Operation) -> Iterator[Edit]:
    """The target shape may hold a count of channels."""
    yield from operation.target(node, 1, node.outputs[0])


@surgery("Split")
def cut_split(node: ir.Node, operation: Operation) -> Iterator[Edit]:
    """Parts get the sizes that are left of them; equal parts may not be equal any more."""
    shapes = operation.kept.graph.shapes
    rank = len(shapes.of(node.inputs[0]) or ())
    axis = attribute(node, "axis", 0) % max(rank, 1)
    if axis not in operation.kept.axes(node.inputs[0]):
        return
    sizes = [_size_left(operation, value, axis) for value in node.outputs]
    if "split" in node.attributes or (len(node.inputs) < 2 and (node.version or 13) < 13):
        yield SetAttribute(node, "split", sizes)
        return
    yield SetOperand(node, 1, np.array(sizes, dtype=np.int64))
    if "num_outputs" in node.attributes:
        yield SetAttribute(node, "num_outputs", None)


def _size_left(operation: Operation, value: ir.Value, axis: int) -> int:
    kept = operation.kept.axes(value).get(axis)
    return len(kept) if kept is not None else int(operation.kept.graph.shapes.size(value, axis) or 0)


@surgery("Slice")
def cut_slice(node: ir.Node, operation: Operation) -> Iterator[Edit]:
    """Bounds along the channels count what is left before them."""
    shape = operation.kept.graph.shapes.of(node.inputs[0]) or ()
    found = _slice_operands(node, operation)
    kept = operation.kept.axes(node.inputs[0])
    if found is None or not any(axis % len(shape) in kept for axis in found[2]):
        return
    starts, ends = list(found[0]), list(found[1])
    for place, axis in enumerate(found[2]):
        left, size = kept.get(axis % len(shape)), shape[axis % len(shape)]
        if left is not None and size is not None:
            low, high, _ = slice(starts[place], ends[place]).indices(size)
            starts[place], ends[place] = int(np.searchsorted(left, low)), int(np.searchsorted(left, high))
    if "starts" in node.attributes:
        yield SetAttribute(node, "starts", starts)
        yield SetAttribute(node, "ends", ends)
    else:
        yield SetOperand(node, 1, np.array(starts, dtype=np.int64))
        yield SetOperand(node, 2, np.array(ends, dtype=np.int64))


def _slice_operands(node: ir.Node, operation: Operation) -> tuple[list[int], ...] | None:
    if "starts" in node.attributes:
        starts = attribute(node, "starts")
        return list(starts), list(attribute(node, "ends")), list(attribute(node, "axes", range(len(starts))))
    arrays = [operation.constants.array(value) for value in node.inputs[1:4]]
    if arrays[0] is None or arrays[1] is None:
        return None
    axes = range(arrays[0].size) if len(arrays) < 3 or arrays[2] is None else arrays[2].tolist()
    return arrays[0].tolist(), arrays[1].tolist(), list(axes)


@surgery("Gather")
def cut_gather(node: ir.Node, operation: Operation) -> Iterator[Edit]:
    """Indices along the channels point to where their channel now is; those of removed channels go."""
    shape = operation.kept.graph.shapes.of(node.inputs[0]) or ()
    axis = attribute(node, "axis", 0) % max(len(shape), 1)
    left = operation.kept.axes(node.inputs[0]).get(axis)
    indices = operation.constants.array(node.inputs[1])
    if left is None or indices is None:
        return
    wanted = indices.reshape(-1) % int(shape[axis] or 1)
    moved = np.searchsorted(left, wanted[np.isin(wanted, left)])
    yield SetOperand(node, 1, moved.astype(indices.dtype).reshape(() if indices.ndim == 0 else -1))
