"""Normalisation: what is multiplied on each channel becomes a slope."""

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from worker.engine.formats.edits import Narrow, Widen
from worker.engine.graph.channels import Boundary, ChannelMap, Channels, Floats, Ints, Source, fresh, scaled
from worker.engine.graph.constants import attribute
from worker.engine.graph.kept import Kept
from worker.engine.graph.rules.elementwise import join
from worker.engine.graph.shapes import Shape
from worker.engine.graph.statistics import places_of, reference
from worker.engine.graph.surgery import Edit, Operation, SetAttribute, surgery
from worker.engine.graph.trace import MICROSOFT, Trace, label, rule


def _vector(trace: Trace, value: ir.Value | None) -> Floats | None:
    found = trace.constants.array(value)
    return None if found is None else found.astype(np.float64)


def _scale_by(node: ir.Node, trace: Trace, slope: Floats | None, axis: int) -> None:
    """Pass the map on, scaled where the slope is a vector over its only axis."""
    channels = trace.channels(node.inputs[0])
    shape = trace.shape(node.inputs[0])
    wanted = axis + len(shape) if axis < 0 and shape is not None else axis
    fits = isinstance(channels, ChannelMap) and channels.axes == (wanted,)
    if (
        isinstance(channels, ChannelMap)
        and fits
        and slope is not None
        and slope.size in (1, channels.sizes[0])
    ):
        channels = scaled(channels, slope.reshape(-1))
    trace.put(node.outputs[0], channels)


@rule("BatchNormalization")
def batch_norm(node: ir.Node, trace: Trace) -> None:
    """At inference a channel's slope is γ / √(σ² + ε), with the model's own ε (LAP §1.4, trap 4)."""
    gamma, variance = _vector(trace, node.inputs[1]), _vector(trace, node.inputs[4])
    slope = None
    if gamma is not None and variance is not None:
        slope = gamma / np.sqrt(variance + attribute(node, "epsilon", 1e-5))
    _scale_by(node, trace, slope, 1)


@rule("GroupNormalization")
def group_norm(node: ir.Node, trace: Trace) -> None:
    """γ counts (per group in opset 18); the statistics mix the channels of a group, which goes as a whole."""
    channels, groups = trace.channels(node.inputs[0]), attribute(node, "num_groups", 1)
    if isinstance(channels, ChannelMap) and channels.axes == (1,) and channels.sizes[0] % groups == 0:
        _together(trace, channels, np.arange(channels.sizes[0]).reshape(groups, -1))
    else:
        trace.freeze(channels, "GroupNormalization mixes them")
    _scale_by(node, trace, _vector(trace, node.inputs[1]), 1)


def _together(trace: Trace, channels: ChannelMap, rows: Ints) -> None:
    """The flat indices of every row stay or go together."""
    trace.tie(channels, np.broadcast_to(rows[:, :1], rows.shape), channels, rows)


@rule("InstanceNormalization")
def channel_norm(node: ir.Node, trace: Trace) -> None:
    """γ counts; the statistics come from the data, over all axes but the second: what lies at one index of
    that (a group, when several channels were reshaped into one) goes as a whole."""
    channels = trace.channels(node.inputs[0])
    if isinstance(channels, ChannelMap) and 1 in channels.axes:
        grid = np.arange(int(np.prod(channels.sizes))).reshape(channels.sizes)
        place = channels.axes.index(1)
        rows = np.moveaxis(grid, place, 0).reshape(channels.sizes[place], -1)
        _together(trace, channels, rows)
    elif isinstance(channels, ChannelMap):
        trace.freeze(channels, f"{node.op_type} takes its statistics over them")
    _scale_by(node, trace, _vector(trace, node.inputs[1]), 1)


@rule("LayerNormalization", "RMSNormalization")
def layer_norm(node: ir.Node, trace: Trace) -> None:
    """γ over the last axes. Statistics that are taken over channels are taken over those that stay."""
    channels, shape = trace.channels(node.inputs[0]), trace.shape(node.inputs[0])
    if shape is None:
        trace.freeze(channels, f"{node.op_type} takes its statistics over them")
    elif isinstance(channels, ChannelMap):
        normed = range(attribute(node, "axis", -1) % len(shape), len(shape))
        if set(channels.axes) & set(normed):
            trace.sums_up(node, normed)
    _scale_by(node, trace, _vector(trace, node.inputs[1]), -1)


@rule("SimplifiedLayerNormalization", domain=MICROSOFT)
def simplified_layer_norm(node: ir.Node, trace: Trace) -> None:
    """ONNX Runtime's RMS norm."""
    layer_norm(node, trace)


@rule("SimplifiedLayerNormalization")
def standard_simplified_layer_norm(node: ir.Node, trace: Trace) -> None:
    """The same where it stands in the standard domain, as ONNX Runtime's exporters write it."""
    layer_norm(node, trace)


@rule("SkipLayerNormalization", "SkipSimplifiedLayerNormalization", domain=MICROSOFT)
def skip_layer_norm(node: ir.Node, trace: Trace) -> None:
    """ONNX Runtime's sum of two branches and the norm of it, which both come out."""
    shape = trace.shape(node.inputs[0])
    found = join(node, trace, list(node.inputs[:2]))
    for index, value in enumerate(node.outputs[1:], 1):
        trace.put(value, found if index == 3 else Boundary("a statistic"))
    if isinstance(found, ChannelMap) and shape is not None and len(shape) - 1 in found.axes:
        trace.sums_up(node, (len(shape) - 1,))
    trace.put(node.outputs[0], _sloped(found, shape, _vector(trace, node.inputs[2])))


def _sloped(channels: Channels, shape: Shape | None, slope: Floats | None) -> Channels:
    """The map after a slope for each index of the last axis."""
    over_last = isinstance(channels, ChannelMap) and shape is not None and channels.axes == (len(shape) - 1,)
    if not isinstance(channels, ChannelMap) or not over_last or slope is None:
        return channels
    return scaled(channels, slope.reshape(-1)) if slope.size in (1, channels.sizes[0]) else channels


#: Operands of EmbedLayerNormalization: tables, and parameters of the norm.
_TABLES, _PARAMETERS = (2, 3, 4), (5, 6)


@rule("EmbedLayerNormalization", domain=MICROSOFT)
def embed_layer_norm(node: ir.Node, trace: Trace) -> None:
    """ONNX Runtime's sum of rows of two or three tables, and its norm: the tables' columns are units of one
    kind, which go with what they are added to."""
    for value in node.outputs:
        trace.put(value, Boundary("computed from words"))
    for index in _TABLES:
        trace.refuse(node, node.inputs[index], "an embedding table: rows are looked up, not multiplied")
    units, stored = (
        trace.shapes.size(node.outputs[0], 2),
        [trace.constants.view(node.inputs[i]) for i in (2, 3)],
    )
    if units is None or any(view is None for view in stored):
        return
    made = fresh(Source(label(node), units, stored=True), 2)
    trace.sums_up(node, (2,))
    trace.put(node.outputs[0], _sloped(made, (None, None, units), _vector(trace, node.inputs[5])))
    if len(node.outputs) > 2:
        trace.put(node.outputs[2], made)


@surgery("EmbedLayerNormalization", domain=MICROSOFT)
def cut_embed_layer_norm(node: ir.Node, operation: Operation) -> Iterator[Edit]:
    """All tables lose columns, the norm's parameters elements."""
    kept = operation.kept.axes(node.outputs[0]).get(2)
    if kept is not None:
        for index in (*_TABLES, *_PARAMETERS):
            yield from operation.cut(node, index, {-1: kept})


@reference("EmbedLayerNormalization", domain=MICROSOFT)
def embed_over(kept: Kept, node: ir.Node, twin: ir.Node) -> Iterator[Edit]:
    """Rows and norm over the columns that stay."""
    axes, size = kept.axes(node.outputs[0]), kept.graph.shapes.size(node.outputs[0], 2)
    if 2 not in axes or size is None:
        return
    for index in (*_TABLES, *_PARAMETERS):
        if node.inputs[index] is not None:
            yield Narrow(twin, index, {-1: axes[2]})
    for result in (0, 2):
        if len(node.outputs) > result and node.outputs[result].name:
            yield Widen(twin, {2: places_of(axes[2], size)}, result)


@surgery("SkipLayerNormalization", "SkipSimplifiedLayerNormalization", domain=MICROSOFT)
def cut_skip_layer_norm(node: ir.Node, operation: Operation) -> Iterator[Edit]:
    """γ, β, a bias, and a branch that is stored, lie over the last axis."""
    for index in range(len(node.inputs)):
        yield from operation.broadcast(node, index, node.outputs[0])


@rule("LpNormalization")
def unit_norm(node: ir.Node, trace: Trace) -> None:
    """No parameters; the norm is that of the channels that stay."""
    channels, shape = trace.channels(node.inputs[0]), trace.shape(node.inputs[0])
    if shape is None:
        trace.freeze(channels, "LpNormalization mixes them")
    elif isinstance(channels, ChannelMap) and attribute(node, "axis", -1) % len(shape) in channels.axes:
        trace.sums_up(node, [attribute(node, "axis", -1) % len(shape)])
    trace.put(node.outputs[0], channels)


@rule("MeanVarianceNormalization")
def mean_variance_norm(node: ir.Node, trace: Trace) -> None:
    """No parameters; by default every channel by itself."""
    channels, shape = trace.channels(node.inputs[0]), trace.shape(node.inputs[0])
    if isinstance(channels, ChannelMap) and shape is not None:
        axes = {axis % len(shape) for axis in attribute(node, "axes", (0, 2, 3))}
        if axes & set(channels.axes):
            trace.sums_up(node, axes)
    trace.put(node.outputs[0], channels)


@rule("LRN")
def local_norm(node: ir.Node, trace: Trace) -> None:
    """Neighbours in the order of the channels norm each other: that order must stay."""
    trace.freeze(trace.channels(node.inputs[0]), "LRN mixes them")
    trace.put(node.outputs[0], trace.channels(node.inputs[0]))


@surgery("BatchNormalization", "InstanceNormalization")
def cut_norm(node: ir.Node, operation: Operation) -> Iterator[Edit]:
    """Every parameter is a vector over the channels."""
    kept = operation.kept.axes(node.outputs[0]).get(1)
    if kept is not None:
        for index in range(1, len(node.inputs)):
            yield from operation.cut(node, index, {0: kept})


@surgery("LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization")
def cut_layer_norm(node: ir.Node, operation: Operation) -> Iterator[Edit]:
    """γ and β lie over the last axes."""
    for index in range(1, len(node.inputs)):
        yield from operation.broadcast(node, index, node.outputs[0])


@surgery("SimplifiedLayerNormalization", domain=MICROSOFT)
def cut_simplified_layer_norm(node: ir.Node, operation: Operation) -> Iterator[Edit]:
    """The same."""
    yield from cut_layer_norm(node, operation)


@surgery("GroupNormalization")
def cut_group_norm(node: ir.Node, operation: Operation) -> Iterator[Edit]:
    """Whole groups go; γ and β are per group (opset 18) or per channel."""
    kept = operation.kept.axes(node.outputs[0]).get(1)
    if kept is None:
        return
    groups = int(attribute(node, "num_groups", 1))
    channels = int(operation.kept.graph.shapes.size(node.inputs[0], 1) or groups)
    left = np.unique(kept // (channels // groups))
    for index in (1, 2):
        size = operation.kept.graph.shapes.size(node.inputs[index], 0)
        yield from operation.cut(node, index, {0: left if size == groups else kept})
    yield SetAttribute(node, "num_groups", len(left))
