"""Normalisation: what is multiplied on each channel becomes a slope."""

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from worker.engine.graph.channels import ChannelMap, Floats, scaled
from worker.engine.graph.constants import attribute
from worker.engine.graph.surgery import Edit, Operation, surgery
from worker.engine.graph.trace import Trace, rule


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
    """γ counts (per group in opset 18); the statistics mix the channels of a group, so they must stay."""
    trace.freeze(trace.channels(node.inputs[0]), "GroupNormalization mixes them")
    channel_norm(node, trace)


@rule("InstanceNormalization")
def channel_norm(node: ir.Node, trace: Trace) -> None:
    """γ counts; the statistics come from the data, over all axes but the channels'."""
    channels = trace.channels(node.inputs[0])
    if isinstance(channels, ChannelMap) and channels.axes != (1,):
        trace.freeze(channels, f"{node.op_type} takes its statistics over them")
    _scale_by(node, trace, _vector(trace, node.inputs[1]), 1)


@rule("LayerNormalization", "RMSNormalization")
def layer_norm(node: ir.Node, trace: Trace) -> None:
    """γ over the last axes. The statistics are taken over all channels."""
    trace.freeze(trace.channels(node.inputs[0]), f"{node.op_type} takes its statistics over them")
    _scale_by(node, trace, _vector(trace, node.inputs[1]), -1)


@rule("SimplifiedLayerNormalization", domain="com.microsoft")
def simplified_layer_norm(node: ir.Node, trace: Trace) -> None:
    """ONNX Runtime's RMS norm."""
    layer_norm(node, trace)


@rule("LRN", "LpNormalization", "MeanVarianceNormalization")
def plain_norm(node: ir.Node, trace: Trace) -> None:
    """No parameters: channels stay what they are, and all of them must stay."""
    trace.freeze(trace.channels(node.inputs[0]), f"{node.op_type} mixes them")
    trace.put(node.outputs[0], trace.channels(node.inputs[0]))


@surgery("BatchNormalization", "InstanceNormalization")
def cut_norm(node: ir.Node, operation: Operation) -> Iterator[Edit]:
    """Every parameter is a vector over the channels."""
    kept = operation.kept.axes(node.outputs[0]).get(1)
    if kept is not None:
        for index in range(1, len(node.inputs)):
            yield from operation.cut(node, index, {0: kept})
