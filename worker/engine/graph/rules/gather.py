"""Gather: known indices along the channels, and tables of rows that are looked up."""

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from worker.engine.graph.channels import Boundary, ChannelMap, Channels, Reshaped, mapped, taken
from worker.engine.graph.constants import attribute
from worker.engine.graph.stored import cut_table, look_up
from worker.engine.graph.surgery import Edit, Operation, SetOperand, surgery
from worker.engine.graph.trace import Trace, rule


@rule("Gather")
def gather(node: ir.Node, trace: Trace) -> None:
    """Known indices along the channels select units; along another axis they may remove it. A stored table
    is an embedding."""
    if trace.is_constant(node.inputs[0]):
        look_up(node, trace)
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
            trace.freeze(taken(channels, axis, indices.reshape(1) % channels.sizes[0]), "taken alone")
        trace.put(node.outputs[0], _picked(channels, axis, int(indices)))
        return
    if indices is not None and indices.ndim == 1:
        channels = taken(channels, axis, indices.astype(np.int64))
    axes = [a if a < axis else a + rank - 1 for a in channels.axes]
    trace.put(node.outputs[0], ChannelMap(tuple(axes), channels.sizes, channels.terms))


def _picked(channels: ChannelMap, axis: int, index: int) -> Channels:
    """One index along an axis of channels: the axis is gone."""
    place = channels.axes.index(axis)
    sizes = [size for i, size in enumerate(channels.sizes) if i != place]
    if not sizes:
        return Boundary("a single channel is taken")
    axes = [a - (a > axis) for a in channels.axes if a != axis]
    one = taken(channels, axis, np.array([index % channels.sizes[place]]))
    return mapped(one, Reshaped(sizes), axes, sizes)


@surgery("Gather")
def cut_gather(node: ir.Node, operation: Operation) -> Iterator[Edit]:
    """Indices along the channels point to where their channel now is; those of removed channels go."""
    if operation.constants.view(node.inputs[0]) is not None:
        yield from cut_table(node, operation)
        return
    shape = operation.kept.graph.shapes.of(node.inputs[0]) or ()
    axis = attribute(node, "axis", 0) % max(len(shape), 1)
    left = operation.kept.axes(node.inputs[0]).get(axis)
    indices = operation.constants.array(node.inputs[1])
    if left is None or indices is None:
        return
    wanted = indices.reshape(-1) % int(shape[axis] or 1)
    moved = np.searchsorted(left, wanted[np.isin(wanted, left)])
    yield SetOperand(node, 1, moved.astype(indices.dtype).reshape(() if indices.ndim == 0 else -1))
