"""Convolutions: weights (outputs, inputs / group, *taps), channels on axis 1."""

from collections.abc import Iterator, Sequence

import numpy as np
import onnx_ir as ir

from worker.engine.graph.channels import ChannelMap, Channels, Source, fresh, joined
from worker.engine.graph.constants import attribute
from worker.engine.graph.surgery import Edit, Operation, SetAttribute, surgery
from worker.engine.graph.trace import MICROSOFT, Trace, label, rule
from worker.engine.graph.views import Reshape, WeightView, transposed


def _grouped(view: WeightView, groups: int, *, transpose: bool) -> WeightView:
    """The view in layout (groups, outputs / group, inputs / group, *taps)."""
    first, second, *taps = view.seen_shape()
    split = view.then(Reshape((first, second, *taps), (groups, first // groups, second, *taps)))
    if not transpose:
        return split
    return split.then(transposed((0, 2, 1, *range(3, 3 + len(taps)))))


def _positions(node: ir.Node, trace: Trace, *, of_input: bool) -> int | None:
    shape = trace.shape(node.inputs[0] if of_input else node.outputs[0])
    if shape is None or any(size is None for size in shape[2:]):
        return None
    return int(np.prod([size or 1 for size in shape[2:]]))


def convolve(node: ir.Node, trace: Trace, view: WeightView | None, *, transpose: bool) -> None:
    if view is None or len(view.seen_shape()) < 3:
        trace.stop(node, "the convolution's weight is computed from data")
        return
    seen = _grouped(view, attribute(node, "group", 1), transpose=transpose)
    source = Source(label(node), int(np.prod(seen.seen_shape()[:2])))
    incoming = trace.map_on(node.inputs[0], 1)
    positions = _positions(node, trace, of_input=transpose)
    made = fresh(source, 1)
    trace.use(node, seen, incoming, source=source, positions=positions)
    trace.put(node.outputs[0], made)
    _bind_groups(trace, seen, incoming, made)


def _bind_groups(trace: Trace, seen: WeightView, incoming: Channels, made: ChannelMap) -> None:
    """What groups demand: with one input or output each a group goes as a whole, else every group keeps
    the same positions."""
    groups, outputs, inputs = seen.seen_shape()[:3]
    if groups == 1:
        return
    reads, makes = (
        np.arange(groups * inputs).reshape(groups, -1),
        np.arange(groups * outputs).reshape(groups, -1),
    )
    if inputs == 1 or outputs == 1:
        for position in range(max(inputs, outputs)):
            trace.tie(incoming, reads[:, position % inputs], made, makes[:, position % outputs])
        if not isinstance(incoming, ChannelMap):
            trace.freeze(made, "a grouped convolution of channels that are not followed")
        return
    for channels, index in ((incoming, reads), (made, makes)):
        trace.tie(channels, np.broadcast_to(index[0], index.shape), channels, index)


@rule("Conv")
def conv(node: ir.Node, trace: Trace) -> None:
    """Conv: output channel = unit."""
    convolve(node, trace, trace.constants.view(node.inputs[1]), transpose=False)


@rule("FusedConv", domain=MICROSOFT)
def fused_conv(node: ir.Node, trace: Trace) -> None:
    """Conv, plus something of the result's shape, then an activation."""
    conv(node, trace)
    made, added = trace.channels(node.outputs[0]), node.inputs[3] if len(node.inputs) > 3 else None
    if added is None or not isinstance(made, ChannelMap):
        return
    other = trace.channels(added)
    if isinstance(other, ChannelMap) and (other.axes, other.sizes) == (made.axes, made.sizes):
        trace.put(node.outputs[0], joined(made, other))
    else:
        trace.read(added, "added inside a convolution")
        trace.freeze(made, f"{label(node)} adds something that is not followed")


@rule("ConvTranspose")
def conv_transpose(node: ir.Node, trace: Trace) -> None:
    """ConvTranspose: weights lie (inputs, outputs / group, *taps); each input position uses every tap."""
    convolve(node, trace, trace.constants.view(node.inputs[1]), transpose=True)


@rule("QLinearConv")
def quantised_conv(node: ir.Node, trace: Trace) -> None:
    """QLinearConv: int8 weights with scale and zero point as operands 4 and 5, per tensor or per output."""
    view = trace.constants.view(node.inputs[3])
    scale, zero = trace.constants.array(node.inputs[4]), trace.constants.array(node.inputs[5])
    if view is not None and scale is not None and not view.steps:
        view = trace.constants.quantized(view, scale, zero, 0)
    convolve(node, trace, view, transpose=False)


@surgery("FusedConv", domain=MICROSOFT)
def cut_fused_conv(node: ir.Node, operation: Operation) -> Iterator[Edit]:
    """The same as for the plain one; a stored addend follows."""
    yield from cut_conv(node, operation)
    if len(node.inputs) > 3:
        yield from operation.broadcast(node, 3, node.outputs[0])


@surgery("Conv", "ConvTranspose")
def cut_conv(node: ir.Node, operation: Operation) -> Iterator[Edit]:
    """Rows, columns and bias; groups that are empty are no groups any more."""
    yield from _cut(node, operation, 1, (2,))


@surgery("QLinearConv")
def cut_quantised_conv(node: ir.Node, operation: Operation) -> Iterator[Edit]:
    """The same; scales and zero points of single outputs follow."""
    yield from _cut(node, operation, 3, (4, 5, 8))


def _cut(node: ir.Node, operation: Operation, weight: int, by_output: Sequence[int]) -> Iterator[Edit]:
    (use,) = operation.uses[node]
    outputs, inputs = operation.kept.outputs(use), operation.kept.inputs(use)
    groups = np.flatnonzero(outputs.any(axis=1))
    own = np.flatnonzero
    if node.op_type != "ConvTranspose":
        axes = {0: own(outputs.reshape(-1)), 1: own(inputs[groups[0]])}
    else:
        axes = {0: own(inputs.reshape(-1)), 1: own(outputs[groups[0]])}
    yield from operation.cut(node, weight, axes)
    for operand in by_output:
        yield from operation.cut(node, operand, {0: own(outputs.reshape(-1))})
    if len(groups) < outputs.shape[0]:
        yield SetAttribute(node, "group", len(groups))
