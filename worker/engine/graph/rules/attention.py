"""Fused attention (opset 23), on (batch, head, position, feature) or with the heads side
by side in (batch, position, features)."""

import math
from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from worker.engine.graph.channels import (
    Boundary,
    ChannelMap,
    Channels,
    Ints,
    Reshaped,
    Taken,
    joined,
    mapped,
    spread,
)
from worker.engine.graph.constants import attribute
from worker.engine.graph.heads import alike, scale_before
from worker.engine.graph.layer import Summed
from worker.engine.graph.surgery import Edit, Operation, SetAttribute, surgery
from worker.engine.graph.trace import Trace, label, rule

_HEAD, _FEATURE = 1, 3


@rule("Attention")
def attention(node: ir.Node, trace: Trace) -> None:
    """Features of query and key meet one to one in every head; those of the value pass to the result."""
    for result in node.outputs:
        trace.put(result, Boundary("an attention"))
    query, key, value = (_by_head(node, trace, index) for index in range(3))
    if query is None or key is None or value is None or not _is_plain(node, trace, query.sizes[0]):
        for index in range(min(len(node.inputs), 3)):
            trace.freeze(trace.channels(node.inputs[index]), f"{label(node)} is not followed head by head")
        return
    found = meet(trace, node, query, key, value)
    if not trace.heads:
        axis = len(trace.shape(node.inputs[0]) or ()) - 1
        trace.findings.summed += [Summed(node, 0, (axis,)), Summed(node, 1, (axis,))]
    trace.put(node.outputs[0], side_by_side(found, trace.shape(node.outputs[0])))


def meet(trace: Trace, node: ir.Node, query: ChannelMap, key: ChannelMap, value: ChannelMap) -> ChannelMap:
    """The result's map over heads and features, given those of the three operands; what must stay or go
    together is tied: whole heads, or features that all heads have."""
    times = query.sizes[0] // key.sizes[0]
    sides = (query, key, value)
    if trace.heads:
        for side in sides:
            alike(trace, side, _grid(side))
        if key.sizes[0] == 1 < times:
            return _heads_alone(trace, node, query, key, value)
        return _heads_meet(trace, query, key, value, times)
    for side in sides:
        alike(trace, side, _grid(side).T)
    trace.tie(query, np.arange(query.sizes[1]), key, np.arange(key.sizes[1]))
    return _repeated(value, times)


def _grid(side: ChannelMap) -> Ints:
    return np.arange(math.prod(side.sizes)).reshape(side.sizes)


def _by_head(node: ir.Node, trace: Trace, index: int) -> ChannelMap | None:
    """The map of an operand over heads and features, or None where it is another."""
    heads = int(attribute(node, "q_num_heads" if index == 0 else "kv_num_heads", 0))
    return by_head(trace, node.inputs[index], heads)


def by_head(trace: Trace, value: ir.Value | None, heads: int) -> ChannelMap | None:
    """The map of a tensor over heads and features: (batch, head, position, feature), or so many heads side by
    side; None where it is another."""
    channels, shape = trace.channels(value), trace.shape(value)
    if not isinstance(channels, ChannelMap) or shape is None:
        return None
    if len(shape) == 3 and heads and channels.axes == (2,) and channels.sizes[0] % heads == 0:
        sizes = (heads, channels.sizes[0] // heads)
        return mapped(channels, Reshaped(sizes), (_HEAD, _FEATURE), sizes)
    own = [shape[axis] for axis in (_HEAD, _FEATURE)] if len(shape) == 4 else []
    if None in own or not own:
        return None
    wide = (own[0] or 0, own[1] or 0)
    one = channels.axes == (_FEATURE,) and (own[0] == 1 or not trace.heads)  # laid out for every head
    if one or (trace.heads and channels.axes == (_HEAD,)):
        channels = spread(channels, (_HEAD, _FEATURE), wide)
    return channels if channels.axes == (_HEAD, _FEATURE) and channels.sizes == wide else None


def side_by_side(channels: ChannelMap, shape: tuple[int | None, ...] | None) -> Channels:
    """A map over heads and features as it lies in a tensor of that shape."""
    if shape is None:
        return Boundary("an attention of unknown shape")
    if len(shape) == 4:
        return channels
    size = math.prod(channels.sizes)
    return mapped(channels, Reshaped((size,)), (2,), (size,))


def _is_plain(node: ir.Node, trace: Trace, heads: int) -> bool:
    """No cache of keys, no scores as a result, no mask of its own for each head but a stored one."""
    past = [value for value in node.inputs[4:] if value is not None]
    more = [value for value in node.outputs[1:] if value.is_graph_output() or any(True for _ in value.uses())]
    mask = node.inputs[3] if len(node.inputs) > 3 else None
    shape = trace.shape(mask)
    own = mask is not None and trace.heads and not trace.is_constant(mask)
    return (
        not past and not more and not (own and (shape is None or (len(shape) > 2 and shape[-3] == heads > 1)))
    )


def _repeated(side: ChannelMap, times: int) -> ChannelMap:
    """A key or value head for each of the query heads that share it."""
    order = np.repeat(np.arange(side.sizes[0]), times)
    return mapped(side, Taken(order, 0), side.axes, (side.sizes[0] * times, *side.sizes[1:]))


def first_features(side: ChannelMap) -> ChannelMap:
    """One feature for each head: all of a head share its fate."""
    one = mapped(side, Taken(np.array([0]), 1), side.axes, (side.sizes[0], 1))
    return mapped(one, Reshaped(side.sizes[:1]), (_HEAD,), side.sizes[:1])


def _heads_meet(
    trace: Trace, query: ChannelMap, key: ChannelMap, value: ChannelMap, times: int
) -> ChannelMap:
    """The result's map: heads of query and value, tied to those of the key."""
    heads, keys = first_features(query), first_features(_repeated(key, times))
    order = np.arange(heads.sizes[0])
    trace.tie(heads, order, keys, order)
    trace.findings.heads.append(heads)
    wide = _repeated(value, times)
    return joined(wide, spread(heads, wide.axes, wide.sizes))


def _heads_alone(
    trace: Trace, node: ir.Node, query: ChannelMap, key: ChannelMap, value: ChannelMap
) -> ChannelMap:
    """All query heads share one key and value head: that stays, they go one by one."""
    for side in (key, value):
        trace.freeze(side, f"{label(node)}: the one key and value head that all query heads share")
    heads = first_features(query)
    trace.findings.heads.append(heads)
    return spread(heads, query.axes, (query.sizes[0], value.sizes[1]))


@surgery("Attention")
def cut_attention(node: ir.Node, operation: Operation) -> Iterator[Edit]:
    """The scale stays what it was; head counts and a mask of each head follow."""
    shape = operation.kept.graph.shapes.of(node.inputs[0]) or ()
    if (scale := scale_before(node, operation.kept.graph.shapes.of(node.inputs[0]))) is not None:
        yield SetAttribute(node, "scale", scale)
    if len(shape) == 3:
        for index, name in ((0, "q_num_heads"), (1, "kv_num_heads")):
            left = _heads_left(node, operation, index, int(attribute(node, name)))
            if left is not None and operation.kept.graph.heads:
                yield SetAttribute(node, name, len(left))
    left = operation.kept.axes(node.inputs[0]).get(_HEAD) if len(shape) == 4 else None
    if len(shape) == 3 and operation.kept.graph.heads:
        left = _heads_left(node, operation, 0, int(attribute(node, "q_num_heads")))
    mask = operation.kept.graph.shapes.of(node.inputs[3]) if len(node.inputs) > 3 else None
    if left is not None and mask is not None and len(mask) > 2:
        yield from operation.cut(node, 3, {-3: left})


def _heads_left(node: ir.Node, operation: Operation, index: int, heads: int) -> Ints | None:
    """Heads that stay of an operand that has them side by side."""
    size = operation.kept.graph.shapes.size(node.inputs[index], 2)
    left = operation.kept.axes(node.inputs[index]).get(2)
    return None if left is None or size is None else np.unique(left // (size // heads))
