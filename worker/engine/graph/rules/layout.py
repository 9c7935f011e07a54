"""Operators that only move channels: reshape, transpose, concat, split, pad, shuffle."""

from collections.abc import Iterator, Sequence

import numpy as np
import onnx_ir as ir

from worker.engine.graph.channels import (
    Boundary,
    ChannelMap,
    Channels,
    Permuted,
    Placed,
    Reshaped,
    Source,
    Taken,
    Term,
    given,
    is_stored,
    joined,
    mapped,
    taken,
)
from worker.engine.graph.constants import attribute
from worker.engine.graph.heads import repeated_head
from worker.engine.graph.reshape import reshaped
from worker.engine.graph.shuffle import cut_shuffle, shuffled_map, starts_shuffle
from worker.engine.graph.stored import features, tokens
from worker.engine.graph.surgery import Edit, Operation, SetAttribute, SetOperand, surgery
from worker.engine.graph.trace import Trace, label, rule


@rule("Reshape", "Flatten", "Squeeze", "Unsqueeze")
def reshape(node: ir.Node, trace: Trace) -> None:
    """The same elements in another shape; both shapes must be known."""
    channels = trace.channels(node.inputs[0])
    if starts_shuffle(node, trace):
        trace.put(node.outputs[0], Boundary("channels change places"))
        return
    if isinstance(channels, Boundary):
        trace.put(node.outputs[0], shuffled_map(node, trace) or channels)
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
        trace.put(node.outputs[0], tokens(node, trace))
        return
    axis = attribute(node, "axis") % len(shape)
    data = next((channels for channels in maps if not is_stored(channels)), maps[0])
    parts = _placed(node, trace, data.axes, axis)
    if parts is None:
        trace.stop(node, "parts are concatenated with channels on different axes or of unknown size")
        return
    result = parts[0]
    for part in parts[1:]:
        result = joined(result, part)
    trace.put(node.outputs[0], result)


def _placed(node: ir.Node, trace: Trace, axes: tuple[int, ...], axis: int) -> list[ChannelMap] | None:
    total, start = trace.shapes.size(node.outputs[0], axis), 0
    stacked = _is_stack(node, trace, axes, axis)
    parts: list[ChannelMap] = []
    for value in node.inputs:
        shape = trace.shape(value)
        if shape is None or total is None or any(shape[a] is None for a in (*axes, axis)):
            return None
        channels = trace.channels(value)
        if isinstance(channels, Boundary) and trace.is_constant(value) and axis not in axes:
            channels = ChannelMap(axes, tuple(shape[a] or 0 for a in axes), ())
        elif isinstance(channels, Boundary) or (channels.axes != axes and is_stored(channels)):
            channels = given(f"{value.name if value else ''}", axes, [shape[a] or 0 for a in axes])
        if channels.axes != axes:
            return None
        if stacked:
            wide = (*axes, axis), (*channels.sizes, 1)
            channels = mapped(channels, Reshaped(wide[1]), *wide)
        if axis in channels.axes:
            place = channels.axes.index(axis)
            sizes = [total if i == place else size for i, size in enumerate(channels.sizes)]
            channels = mapped(channels, Placed(start, total, place), channels.axes, sizes)
        parts.append(channels)
        start += shape[axis] or 0
    return parts if len({part.sizes for part in parts}) == 1 else None


def _is_stack(node: ir.Node, trace: Trace, axes: tuple[int, ...], axis: int) -> bool:
    """True where channels are laid side by side on a last axis of their own, to be interleaved."""
    last = len(trace.shape(node.outputs[0]) or ()) - 1
    return axis == last and axis not in axes and all(trace.shapes.size(v, axis) == 1 for v in node.inputs)


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
        trace.put(value, taken(channels, axis, np.arange(start, start + (size or 0))))
        start += size or 0


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
        return taken(channels, channels.axes[place], kept)
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
        channels = taken(channels, 1, indices)
    trace.put(node.outputs[0], channels)


@rule("Expand", "Tile")
def repeat(node: ir.Node, trace: Trace) -> None:
    """Repetition along axes without channels; along the channels only from size 1, where nothing is known."""
    channels: Channels = trace.channels(node.inputs[0])
    if isinstance(channels, Boundary) and trace.constants.view(node.inputs[0]) is not None:
        channels = features(node, trace)
    before, after = trace.shape(node.inputs[0]), trace.shape(node.outputs[0])
    if isinstance(channels, ChannelMap) and before is not None and after is not None:
        shift = len(after) - len(before)
        axes = tuple(axis + shift for axis in channels.axes)
        if tuple(after[axis] for axis in axes) == channels.sizes:
            found = ChannelMap(axes, channels.sizes, channels.terms)
            trace.put(node.outputs[0], repeated_head(node, trace, found) if trace.heads else found)
            return
    trace.stop(node, "repetition along the channels or to an unknown shape")


@surgery("Reshape", "Expand")
def cut_target(node: ir.Node, operation: Operation) -> Iterator[Edit]:
    """The target shape may hold a count of channels."""
    if shuffle := list(cut_shuffle(node, operation)):
        yield from shuffle
        return
    yield from operation.target(node, 1, node.outputs[0])
    if node.op_type == "Expand":
        yield from operation.broadcast(node, 0, node.outputs[0])


@surgery("Tile")
def cut_tile(node: ir.Node, operation: Operation) -> Iterator[Edit]:
    """What is repeated may be stored, a token say."""
    yield from operation.broadcast(node, 0, node.outputs[0])


@surgery("Concat")
def cut_parts(node: ir.Node, operation: Operation) -> Iterator[Edit]:
    """Stored parts that stand beside the data along another axis (a class token) lose what it loses."""
    rank = len(operation.kept.graph.shapes.of(node.outputs[0]) or ())
    own = attribute(node, "axis", 0) % max(rank, 1)
    axes = {axis: kept for axis, kept in operation.kept.axes(node.outputs[0]).items() if axis != own}
    for index in range(len(node.inputs)):
        if axes and operation.constants.view(node.inputs[index]) is not None:
            yield from operation.cut(node, index, axes)


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
