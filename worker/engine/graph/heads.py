"""Attention heads as units: products of activations (…, heads, M, K) times (…, heads, K, N), head by head.

All features of a head stay or go together, on both sides of the product, and the scores carry on which head
each of them is of.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from worker.engine.graph.channels import (
    Boundary,
    ChannelMap,
    Channels,
    Ints,
    Reshaped,
    Source,
    Taken,
    Term,
    joined,
    mapped,
    spread,
)
from worker.engine.graph.constants import attribute
from worker.engine.graph.shapes import Shape
from worker.engine.graph.trace import Trace, label

Side = tuple[Channels, Shape]


def product_of_heads(node: ir.Node, trace: Trace, left: Side, right: Side) -> Channels:
    """The result's map: over the heads of both sides, and over features that are not summed up."""
    rank = max(len(left[1]), len(right[1]))
    sides = [_lifted(side, rank) for side in (left, right)]
    maps = [channels for channels, _ in sides if isinstance(channels, ChannelMap)]
    heads = {axis for channels in maps for axis in channels.axes if axis < rank - 2}
    results = _results(maps, sides, heads, rank)
    if results is None:
        for channels in maps:
            trace.freeze(channels, f"{label(node)} does not go head by head")
        return Boundary("a product of two activations")
    for channels in maps:
        _keep_whole(trace, channels, heads)
    result = _together(results)
    if isinstance(result, ChannelMap) and set(result.axes) == heads:
        trace.findings.heads.append(result)
    return result


def repeated_head(node: ir.Node, trace: Trace, channels: ChannelMap) -> ChannelMap:
    """The map of a repetition. Where one head of keys or values is laid out for every query head, it stays,
    and what goes with the query heads are its copies: (batch, …, heads, position, feature)."""
    before, after = trace.shape(node.inputs[0]), trace.shape(node.outputs[0])
    if before is None or after is None or channels.axes != (len(after) - 1,):
        return channels
    own = (1,) * (len(after) - len(before)) + before
    several = [axis for axis in range(1, len(after) - 2) if own[axis] == 1 != after[axis]]
    if len(several) != 1:
        return channels
    trace.freeze(channels, "the one key or value head that all query heads share")
    count = after[several[0]] or 1
    copies = Source(f"{label(node)}: copies", count, empty=True)
    return ChannelMap((several[0],), (count,), (Term(copies, np.arange(count)),))


def _lifted(side: Side, rank: int) -> Side:
    """A side with its axes as they are in the result, of which it has the last ones."""
    channels, shape = side
    more = rank - len(shape)
    if isinstance(channels, ChannelMap):
        channels = replace(channels, axes=tuple(axis + more for axis in channels.axes))
    return channels, (*(1,) * more, *shape)


def _results(
    maps: Sequence[ChannelMap], sides: Sequence[Side], heads: set[int], rank: int
) -> list[ChannelMap] | None:
    """What each side brings to the result; None where heads do not meet heads."""
    if len(heads) > 1 or len({m.sizes[m.axes.index(h)] for m in maps for h in heads if h in m.axes}) > 1:
        return None
    for channels, shape in sides:
        own = channels.axes if isinstance(channels, ChannelMap) else ()
        if any(axis not in own and shape[axis] != 1 for axis in heads):
            return None
    found = [
        _without(channels, inner) for (channels, _), inner in zip(sides, (rank - 1, rank - 2), strict=True)
    ]
    results = [channels for channels in found if channels is not None]
    return None if sum(channels.axes[-1] >= rank - 2 for channels in results) > 1 else results


def _without(channels: Channels, axis: int) -> ChannelMap | None:
    """A map without the axis that is summed up: all along it is of one head."""
    if not isinstance(channels, ChannelMap) or channels.axes == (axis,):
        return None
    if axis not in channels.axes:
        return channels
    place = channels.axes.index(axis)
    sizes = [size for i, size in enumerate(channels.sizes) if i != place]
    first = mapped(channels, Taken(np.array([0]), place), channels.axes, channels.sizes)
    return mapped(first, Reshaped(sizes), [a for a in channels.axes if a != axis], sizes)


def _keep_whole(trace: Trace, channels: ChannelMap, heads: set[int]) -> None:
    """Features of a head stay or go together."""
    for head in heads & set(channels.axes):
        place = channels.axes.index(head)
        grid = np.arange(int(np.prod(channels.sizes))).reshape(channels.sizes)
        rows = np.moveaxis(grid, place, 0).reshape(channels.sizes[place], -1)
        alike(trace, channels, rows)


def alike(trace: Trace, channels: ChannelMap, rows: Ints) -> None:
    """The flat indices that stand in a row stay or go together."""
    trace.tie(channels, np.broadcast_to(rows[:, :1], rows.shape), channels, rows)


def _together(results: Sequence[ChannelMap]) -> Channels:
    if not results:
        return Boundary("a product of two activations")
    sizes = {axis: size for found in results for axis, size in zip(found.axes, found.sizes, strict=True)}
    axes = sorted(sizes)
    laid = [spread(found, axes, [sizes[axis] for axis in axes]) for found in results]
    return laid[0] if len(laid) == 1 else joined(laid[0], laid[1])


def scale_before(node: ir.Node, shape: tuple[int | None, ...] | None) -> float | None:
    """The scale that the operator takes from the number of features by itself; None where it is given."""
    if "scale" in node.attributes or shape is None or shape[-1] is None:
        return None
    heads = int(attribute(node, "q_num_heads", 1)) if len(shape) == 3 else 1
    return 1.0 / math.sqrt(shape[-1] // heads)
