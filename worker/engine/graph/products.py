"""Products of two activations, as in attention: (…, M, K) times (…, K, N).

Along K index k of one side meets index k of the other: they are tied, whatever the other axes (heads) are.
What lies along N of the right side or M of the left passes to the result.
"""

import numpy as np
import onnx_ir as ir

from worker.engine.graph.channels import Boundary, ChannelMap, Channels, Ints, Permuted, mapped
from worker.engine.graph.heads import product_of_heads
from worker.engine.graph.layer import Summed
from worker.engine.graph.shapes import Shape
from worker.engine.graph.trace import Trace, label

Side = tuple[Channels, Shape]


def product_of_activations(node: ir.Node, trace: Trace, turned: tuple[bool, bool] = (False, False)) -> None:
    """MatMul of two activations, either of which may be `turned`: its last two axes change places first."""
    left, right = (trace.channels(value) for value in node.inputs[:2])
    a, b = (trace.shape(value) for value in node.inputs[:2])
    if a is None or b is None or len(a) < 2 or len(b) < 2:
        trace.stop(node, "a product of activations of unknown shape")
        return
    first = _turned((left, a)) if turned[0] else (left, a)
    second = _turned((right, b)) if turned[1] else (right, b)
    trace.put(node.outputs[0], multiplied(node, trace, first, second))
    sums = len(a) - 1 - turned[0], len(b) - 2 + turned[1]
    trace.findings.summed += [Summed(node, 0, (sums[0],)), Summed(node, 1, (sums[1],))]


def _turned(side: Side) -> Side:
    """A side with its last two axes in the other order."""
    channels, shape = side
    swapped = (*shape[:-2], shape[-1], shape[-2])
    if isinstance(channels, Boundary):
        return channels, swapped
    order = [*range(len(shape) - 2), len(shape) - 1, len(shape) - 2]
    places = sorted(range(len(channels.axes)), key=lambda i: order.index(channels.axes[i]))
    axes = [order.index(channels.axes[i]) for i in places]
    return mapped(channels, Permuted(places), axes, [channels.sizes[i] for i in places]), swapped


def multiplied(node: ir.Node, trace: Trace, left: Side, right: Side) -> Channels:
    """The map of a product: tie what is summed over, pass on what is left; freeze what fits neither."""
    if trace.heads:
        return product_of_heads(node, trace, left, right)
    a, b = len(left[1]), len(right[1])
    _tie_sums(node, trace, left[0], a - 1, right[0], b - 2)
    return _passed(node, trace, (left[0], a, -2), (right[0], b, -1), max(a, b))


def _tie_sums(node: ir.Node, trace: Trace, left: Channels, k: int, right: Channels, j: int) -> None:
    first, second = _along(left, k), _along(right, j)
    if first is None and second is None:
        return
    if first is None or second is None:
        reason = f"{label(node)} sums over them against channels that are not followed"
        trace.freeze(left if first is not None else Boundary(""), reason)
        trace.freeze(right if second is not None else Boundary(""), reason)
        return
    for row in first[1:]:
        trace.tie(left, first[0], left, row)
    for row in second[1:]:
        trace.tie(right, second[0], right, row)
    trace.tie(left, first[0], right, second[0])


def _along(channels: Channels, axis: int) -> Ints | None:
    """Flat indices of a map as rows over one of its axes; None where the map does not lie along it."""
    if not isinstance(channels, ChannelMap) or axis not in channels.axes:
        return None
    grid = np.arange(int(np.prod(channels.sizes))).reshape(channels.sizes)
    place = channels.axes.index(axis)
    return np.moveaxis(grid, place, -1).reshape(-1, channels.sizes[place])


def _passed(
    node: ir.Node,
    trace: Trace,
    left: tuple[Channels, int, int],
    right: tuple[Channels, int, int],
    rank: int,
) -> Channels:
    """The result's map: of the side whose channels lie along its outer axis. Two such sides do not fit."""
    outer = [side for side in (left, right) if _along(side[0], side[1] + side[2]) is not None]
    for found, size, _ in (left, right):
        if isinstance(found, ChannelMap) and not set(found.axes) & {size - 1, size - 2}:
            trace.freeze(found, f"{label(node)} works on each of them apart")
    if len(outer) != 1:
        for found, _, _ in outer:
            trace.freeze(found, f"{label(node)} makes a table of both sides' channels")
        return Boundary("a product of two activations")
    channels, size, axis = outer[0]
    rows = _along(channels, size + axis)
    if rows is None or not isinstance(channels, ChannelMap):
        return Boundary("a product of two activations")
    for row in rows[1:]:
        trace.tie(channels, rows[0], channels, row)
    return ChannelMap(tuple(a + rank - size for a in channels.axes), channels.sizes, channels.terms)
