"""Attention as ONNX Runtime's own operators: one matrix for query, key and value inside the operator, biases
inside it, or a cache of keys and values beside it."""

import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np
import onnx_ir as ir

from worker.engine.formats.edits import Narrow, SetAttribute, Widen
from worker.engine.graph.channels import (
    Boundary,
    ChannelMap,
    Channels,
    Ints,
    Reshaped,
    Source,
    fresh,
    mapped,
    spread,
    taken,
)
from worker.engine.graph.constants import attribute
from worker.engine.graph.heads import alike
from worker.engine.graph.kept import Kept
from worker.engine.graph.layer import Consumer, LayerUse, Summed
from worker.engine.graph.rules.attention import by_head, first_features, meet, side_by_side
from worker.engine.graph.statistics import places_of, reference
from worker.engine.graph.surgery import Edit, Operation, surgery
from worker.engine.graph.trace import MICROSOFT, Trace, label, rule
from worker.engine.graph.views import Reshape, transposed

_HEAD, _FEATURE = 1, 3


def _operand(node: ir.Node, index: int) -> ir.Value | None:
    return node.inputs[index] if index < len(node.inputs) else None


def _is_read(node: ir.Node, first: int) -> bool:
    """True when any result from that one on is used."""
    return any(v.name and (v.is_graph_output() or len(list(v.uses())) > 0) for v in node.outputs[first:])


def _why_not(node: ir.Node, trace: Trace, caches: Sequence[int], bias: int) -> str | None:
    """Why heads and features of the operator must stay, or None."""
    if any(_operand(node, index) is not None for index in caches) or _is_read(node, 1):
        return f"{label(node)} keeps them in a cache, whose size is part of the model's interface"
    added = _operand(node, bias)
    shape = trace.shape(added)
    if added is None or not trace.heads or trace.is_constant(added):
        return None
    own = shape is None or len(shape) != 4 or shape[1] != 1
    return f"{label(node)} adds something computed to the scores of each head" if own else None


def _scale(node: ir.Node, features: int) -> float | None:
    """The scale that the operator takes from the number of features by itself; None where it is given."""
    return None if attribute(node, "scale", 0.0) else 1.0 / math.sqrt(features)


def _cut_scores(node: ir.Node, operation: Operation, index: int, heads: Ints) -> Iterator[Edit]:
    """Something stored that is added to the scores of each head."""
    shape = operation.kept.graph.shapes.of(_operand(node, index))
    if shape is not None and len(shape) > 2:
        yield from operation.cut(node, index, {-3: heads})


# Attention: (batch, positions, inputs) times (inputs, query + key + value), all inside.


def _parts(node: ir.Node, total: int) -> tuple[int, int, int]:
    """Sizes of query, key and value."""
    sizes = attribute(node, "qkv_hidden_sizes")
    return (total // 3, total // 3, total // 3) if sizes is None else (sizes[0], sizes[1], sizes[2])


@rule("Attention", domain=MICROSOFT)
def attention(node: ir.Node, trace: Trace) -> None:
    """One layer of three parts, whose features meet as in any attention."""
    for result in node.outputs:
        trace.put(result, Boundary("an attention"))
    view, heads = trace.constants.view(node.inputs[1]), int(attribute(node, "num_heads", 0))
    shape = trace.shape(node.inputs[0])
    if view is None or len(view.seen_shape()) != 2 or not heads:
        trace.stop(node, "an attention whose weights are not stored")
        return
    inputs, total = view.seen_shape()
    seen = view.then(transposed((1, 0)), Reshape((total, inputs), (1, total, inputs)))
    source = Source(label(node), total)
    positions = None if shape is None else shape[1]
    trace.use(node, seen, trace.map_on(node.inputs[0], 2), source=source, positions=positions)
    made, starts = fresh(source, 2), np.cumsum((0, *_parts(node, total)))
    sides = [taken(made, 2, np.arange(a, b)) for a, b in itertools.pairwise(starts)]
    trace.findings.consumers += [Consumer(side) for side in sides[:2]]  # nothing else reads them
    trace.put(node.outputs[0], _met(node, trace, sides, heads))


def _met(node: ir.Node, trace: Trace, sides: Sequence[ChannelMap], heads: int) -> Channels:
    """What comes out: the value's features, tied as they must be."""
    reason = _why_not(node, trace, (4, 6), 5)
    if attribute(node, "do_rotary", 0) and not trace.heads:
        reason = f"{label(node)} turns them in pairs"
    if any(side.sizes[0] % heads for side in sides):
        reason = f"{label(node)} is not followed head by head"
    if reason is not None:
        for side in sides:
            trace.freeze(side, reason)
        return sides[2]
    wide = [
        mapped(side, Reshaped(sizes), (_HEAD, _FEATURE), sizes)
        for side in sides
        for sizes in [(heads, side.sizes[0] // heads)]
    ]
    if not trace.heads:
        trace.findings.summed.append(Summed(node, 1, (1,)))
    return side_by_side(meet(trace, node, wide[0], wide[1], wide[2]), (None, None, None))


def _use(kept: Kept, node: ir.Node) -> LayerUse | None:
    layers = (*kept.graph.layers, *kept.graph.refused)
    return next((use for layer in layers for use in layer.uses if use.node is node), None)


def _left(kept: Kept, use: LayerUse) -> tuple[Ints, list[int]]:
    """Columns of the matrix that stay, and how many of query, key and value."""
    keep = kept.outputs(use)[0]
    starts = np.cumsum((0, *_parts(use.node, keep.size)))
    counts = [int(np.count_nonzero(keep[a:b])) for a, b in itertools.pairwise(starts)]
    return np.flatnonzero(keep), counts


def _resized(node: ir.Node, twin: ir.Node, total: int, counts: list[int], heads: int) -> Iterator[Edit]:
    """What the operator says of its sizes, after a cut within heads or of whole ones."""
    if "qkv_hidden_sizes" in node.attributes or len(set(counts)) > 1:
        yield SetAttribute(twin, "qkv_hidden_sizes", counts)
    own = int(attribute(node, "num_heads"))
    if heads != own:
        yield SetAttribute(twin, "num_heads", heads)
    scale = _scale(node, _parts(node, total)[0] // own)
    if scale is not None and counts[0] // heads != _parts(node, total)[0] // own:
        yield SetAttribute(twin, "scale", scale)


def _heads_left(kept: Kept, node: ir.Node, columns: Ints, total: int) -> Ints:
    """Heads that stay: all, unless heads go as a whole."""
    heads = int(attribute(node, "num_heads"))
    size = _parts(node, total)[0]
    if not kept.graph.heads:
        return np.arange(heads)
    return np.unique(columns[columns < size] // (size // heads))


@surgery("Attention", domain=MICROSOFT)
def cut_attention(node: ir.Node, operation: Operation) -> Iterator[Edit]:
    """Rows and columns of the matrix, the bias, and what is said of sizes."""
    (use,) = operation.uses[node]
    columns, counts = _left(operation.kept, use)
    total = use.outputs.size
    rows = np.flatnonzero(operation.kept.inputs(use)[0])
    yield from operation.cut(node, 1, {0: rows, 1: columns})
    if len(columns) == total:
        return
    yield from operation.cut(node, 2, {0: columns})
    heads = _heads_left(operation.kept, node, columns, total)
    yield from _resized(node, node, total, counts, len(heads))
    yield from _cut_scores(node, operation, 5, heads)


@reference("Attention", domain=MICROSOFT)
def attention_over(kept: Kept, node: ir.Node, twin: ir.Node) -> Iterator[Edit]:
    """Scores over the features that stay: biases of others would count in them."""
    use = _use(kept, node)
    if use is None:
        return
    columns, counts = _left(kept, use)
    total = use.outputs.size
    if len(columns) == total:
        return
    yield Narrow(twin, 1, {1: columns})
    if _operand(node, 2) is not None:
        yield Narrow(twin, 2, {0: columns})
    yield from _resized(node, twin, total, counts, int(attribute(node, "num_heads")))
    size = _parts(node, total)[2]
    values = columns[columns >= total - size] - (total - size)
    yield Widen(twin, {2: places_of(values, size)})


# MultiHeadAttention: query, key and value apart, their biases inside.


@rule("MultiHeadAttention", domain=MICROSOFT)
def multi_head(node: ir.Node, trace: Trace) -> None:
    """As in any attention; a stored bias follows."""
    for result in node.outputs:
        trace.put(result, Boundary("an attention"))
    heads = int(attribute(node, "num_heads", 0))
    query, key, value = (by_head(trace, _operand(node, index), heads) for index in range(3))
    reason = _why_not(node, trace, (6, 7, 8, 9), 5)
    bias = _operand(node, 3)
    if query is None or key is None or value is None or (bias is not None and not trace.is_constant(bias)):
        reason = f"{label(node)} is not followed head by head"
    if query is None or key is None or value is None or reason is not None:
        for index in range(min(len(node.inputs), 3)):
            trace.freeze(trace.channels(node.inputs[index]), reason or "")
        trace.put(node.outputs[0], trace.channels(_operand(node, 2)) if value is not None else Boundary(""))
        return
    if not trace.heads:
        trace.findings.summed.append(Summed(node, 0, (2,)))
    found = meet(trace, node, query, key, value)
    trace.put(node.outputs[0], side_by_side(found, trace.shape(node.outputs[0])))


def _features_left(kept: Kept, value: ir.Value | None) -> Ints:
    """Flat indices over heads and features that stay, of an operand with either layout."""
    shape = kept.graph.shapes.of(value) or ()
    channels = None if value is None else kept.graph.maps.get(value)
    if isinstance(channels, ChannelMap) and channels.axes in ((2,), (_HEAD, _FEATURE)):
        return np.flatnonzero(kept.grid(channels).reshape(-1))
    return np.arange(math.prod(shape[axis] or 1 for axis in ((2,) if len(shape) == 3 else (_HEAD, _FEATURE))))


def _width(kept: Kept, value: ir.Value | None) -> int:
    """Heads times features of an operand."""
    shape = kept.graph.shapes.of(value) or ()
    return math.prod(shape[axis] or 1 for axis in ((2,) if len(shape) == 3 else (_HEAD, _FEATURE)))


def _bias_left(kept: Kept, node: ir.Node, *, values: bool) -> Ints:
    """Elements of the joint bias that stay; all of the values' unless `values`."""
    sizes = [_width(kept, node.inputs[index]) for index in range(3)]
    left = [_features_left(kept, node.inputs[index]) for index in range(3)]
    if not values:
        left[2] = np.arange(sizes[2])
    return np.concatenate([part + start for part, start in zip(left, np.cumsum((0, *sizes)), strict=False)])


@surgery("MultiHeadAttention", domain=MICROSOFT)
def cut_multi_head(node: ir.Node, operation: Operation) -> Iterator[Edit]:
    """The joint bias, the count of heads, the scale."""
    kept, heads = operation.kept, int(attribute(node, "num_heads"))
    if _operand(node, 3) is not None:
        yield from operation.cut(node, 3, {0: _bias_left(kept, node, values=True)})
    features = _width(kept, node.inputs[0]) // heads
    left = _features_left(kept, node.inputs[0])
    if kept.graph.heads:
        stay = np.unique(left // features)
        if len(stay) < heads:
            yield SetAttribute(node, "num_heads", len(stay))
            yield from _cut_scores(node, operation, 5, stay)
    elif len(left) < heads * features and (scale := _scale(node, features)) is not None:
        yield SetAttribute(node, "scale", scale)


@reference("MultiHeadAttention", domain=MICROSOFT)
def multi_head_over(kept: Kept, node: ir.Node, twin: ir.Node) -> Iterator[Edit]:
    """Scores over the features that stay: biases of others would count in them."""
    axes = [kept.axes(node.inputs[index]) for index in range(2)]
    if not any(axes):
        return
    for index, own in enumerate(axes):
        yield Narrow(twin, index, own)
    if _operand(node, 3) is not None:
        yield Narrow(twin, 3, {0: _bias_left(kept, node, values=False)})
    scale = _scale(node, _width(kept, node.inputs[0]) // int(attribute(node, "num_heads")))
    if scale is not None:
        yield SetAttribute(twin, "scale", scale)


# GroupQueryAttention: fewer key and value heads than query heads, mostly with a cache of them.


@rule("GroupQueryAttention", domain=MICROSOFT)
def grouped(node: ir.Node, trace: Trace) -> None:
    """The size of a head is fixed. Heads go with the key and value head that they share; where a cache holds
    those, queries alone, as many of each group."""
    for result in node.outputs:
        trace.put(result, Boundary("an attention"))
    heads, shared = int(attribute(node, "num_heads", 0)), int(attribute(node, "kv_num_heads", 0))
    query = by_head(trace, _operand(node, 0), heads)
    key, value = (by_head(trace, _operand(node, index), shared) for index in (1, 2))
    cached = _why_not(node, trace, (3, 4), 10)
    more = any(_operand(node, index) is not None for index in range(10, len(node.inputs)))
    for side in (key, value):
        if side is not None and (cached is not None or not trace.heads or more):
            trace.freeze(side, cached or f"{label(node)} keeps the size of its heads")
    if query is None or key is None or value is None or not trace.heads or more:
        for index in range(min(len(node.inputs), 3)):
            trace.freeze(trace.channels(node.inputs[index]), f"{label(node)} keeps the size of its heads")
        return
    found = (
        meet(trace, node, query, key, value)
        if cached is None
        else _queries_alone(trace, query, value, shared)
    )
    trace.put(node.outputs[0], side_by_side(found, trace.shape(node.outputs[0])))


def _queries_alone(trace: Trace, query: ChannelMap, value: ChannelMap, shared: int) -> ChannelMap:
    """The same places of every group of query heads go, so that groups stay of one size."""
    grid = np.arange(math.prod(query.sizes)).reshape(query.sizes)
    alike(trace, query, grid)
    alike(trace, query, grid[:, 0].reshape(shared, -1).T)
    heads = first_features(query)
    trace.findings.heads.append(heads)
    return spread(heads, (_HEAD, _FEATURE), (query.sizes[0], value.sizes[1]))


@surgery("GroupQueryAttention", domain=MICROSOFT)
def cut_grouped(node: ir.Node, operation: Operation) -> Iterator[Edit]:
    """The counts of heads."""
    for index, name in ((0, "num_heads"), (1, "kv_num_heads")):
        heads = int(attribute(node, name))
        size = _width(operation.kept, _operand(node, index)) // heads
        left = np.unique(_features_left(operation.kept, _operand(node, index)) // size)
        if len(left) < heads:
            yield SetAttribute(node, name, len(left))
