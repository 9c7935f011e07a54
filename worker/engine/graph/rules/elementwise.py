"""Elementwise operators: one operand passes its map on; several are joined after broadcasting."""

from collections.abc import Iterator
from functools import reduce

import numpy as np
import onnx_ir as ir

from worker.engine.graph.channels import (
    Boundary,
    ChannelMap,
    Channels,
    Floats,
    Term,
    is_stored,
    joined,
    scaled,
    spread,
)
from worker.engine.graph.constants import attribute
from worker.engine.graph.surgery import Edit, Operation, surgery
from worker.engine.graph.trace import MICROSOFT, Trace, rule

_UNARY = """
    Relu LeakyRelu Elu Selu Celu ThresholdedRelu PRelu Sigmoid HardSigmoid HardSwish Tanh Softplus Softsign
    Mish Swish Erf Gelu Abs Neg Exp Log Sqrt Reciprocal Sign Floor Ceil Round Sin Cos Tan Asin Acos Atan Sinh
    Cosh Asinh Acosh Atanh Clip Identity Dropout Cast CastLike Shrink Not IsNaN
    IsInf Bernoulli QuantizeLinear DequantizeLinear Pow Mod BitShift BitwiseNot
""".split()


@rule(*_UNARY)
def unary(node: ir.Node, trace: Trace) -> None:
    """Channels stay what they are. The first output alone carries them (Dropout's mask does not)."""
    trace.put(node.outputs[0], trace.channels(node.inputs[0]))
    for value in node.outputs[1:]:
        trace.put(value, Boundary("a mask"))


@rule("Softmax", "LogSoftmax", "Hardmax", "CumSum", "Trilu")
def across(node: ir.Node, trace: Trace) -> None:
    """Every index depends on the others along an axis: the map passes, but its channels must stay."""
    channels, shape = trace.channels(node.inputs[0]), trace.shape(node.inputs[0])
    along = attribute(node, "axis", -1 if (node.version or 13) >= 13 else 1)
    alone = isinstance(channels, ChannelMap) and shape is not None and along % len(shape) not in channels.axes
    if not (alone and node.op_type in ("Softmax", "LogSoftmax") and (node.version or 13) >= 13):
        trace.freeze(channels, f"{node.op_type} mixes them")
    trace.put(node.outputs[0], channels)


@rule("QLinearSigmoid", "QLinearLeakyRelu", domain=MICROSOFT)
def quantised_unary(node: ir.Node, trace: Trace) -> None:
    """Quantised activations of ONNX Runtime."""
    unary(node, trace)


@rule("FastGelu", "Gelu", "BiasGelu", "QuickGelu", domain=MICROSOFT)
def fused_activation(node: ir.Node, trace: Trace) -> None:
    """Fused activations of ONNX Runtime; a bias operand is a constant."""
    unary(node, trace)


@rule("Add", "Sub", "Sum", "Mean", "Max", "Min", "Where")
def additive(node: ir.Node, trace: Trace) -> None:
    """Branches that join: energies add (design: the one analysis)."""
    operands = node.inputs[1:] if node.op_type == "Where" else node.inputs
    trace.put(node.outputs[0], join(node, trace, list(operands)))


@rule("QLinearAdd", domain=MICROSOFT)
def quantised_add(node: ir.Node, trace: Trace) -> None:
    """QLinearAdd(a, a_scale, a_zero, b, b_scale, b_zero, …)."""
    trace.put(node.outputs[0], join(node, trace, [node.inputs[0], node.inputs[3]]))


@rule(
    "And", "Or", "Xor", "Equal", "Greater", "Less", "GreaterOrEqual", "LessOrEqual", "BitwiseAnd", "BitwiseOr"
)
def comparison(node: ir.Node, trace: Trace) -> None:
    """Comparisons carry the channels of what they compare."""
    trace.put(node.outputs[0], join(node, trace, list(node.inputs)))


@rule("Mul", "Div")
def multiplicative(node: ir.Node, trace: Trace) -> None:
    """A constant factor is a slope; two branches that multiply (a gate) are joined."""
    first, second = node.inputs[:2]
    if trace.is_constant(second):
        trace.put(node.outputs[0], _times(node, trace, first, second))
    elif trace.is_constant(first) and node.op_type == "Mul":
        trace.put(node.outputs[0], _times(node, trace, second, first))
    else:
        trace.put(node.outputs[0], join(node, trace, [first, second]))


def _times(node: ir.Node, trace: Trace, data: ir.Value | None, constant: ir.Value | None) -> Channels:
    channels = _lifted(node, trace, data)
    factor = trace.constants.array(constant)
    if isinstance(channels, Boundary) or factor is None or factor.dtype.kind not in "fiu":
        return channels
    with np.errstate(divide="ignore"):
        slope = factor.astype(np.float64) if node.op_type == "Mul" else 1.0 / factor.astype(np.float64)
    laid = _over_axes(node, trace, slope, channels)
    return channels if laid is None or not np.isfinite(laid).all() else scaled(channels, laid)


def _over_axes(node: ir.Node, trace: Trace, factor: Floats, channels: ChannelMap) -> Floats | None:
    """The factor over the map's axes; None when it varies along other axes too."""
    shape = trace.shape(node.outputs[0])
    if factor.size == 1:
        return np.full(channels.sizes, float(factor.reshape(-1)[0]))
    if shape is None or factor.ndim > len(shape):
        return None
    padded = factor.reshape((1,) * (len(shape) - factor.ndim) + factor.shape)
    if any(size != 1 for axis, size in enumerate(padded.shape) if axis not in channels.axes):
        return None
    own = padded.reshape([padded.shape[axis] for axis in channels.axes])
    return np.broadcast_to(own, channels.sizes)


def _lifted(node: ir.Node, trace: Trace, value: ir.Value | None) -> Channels:
    """An operand's map with its axes as they are after broadcasting to the result's rank."""
    channels = trace.channels(value)
    own, result = trace.shape(value), trace.shape(node.outputs[0])
    if isinstance(channels, Boundary) or own is None or result is None:
        return channels
    axes = tuple(axis + len(result) - len(own) for axis in channels.axes)
    return ChannelMap(axes, channels.sizes, channels.terms)


def join(node: ir.Node, trace: Trace, operands: list[ir.Value | None]) -> Channels:
    """The map of several operands; constants do not count, what only broadcasts neither."""
    data = [value for value in operands if value is not None and not trace.is_constant(value)]
    found = [(value, _lifted(node, trace, value)) for value in data]
    maps = [(value, c) for value, c in found if isinstance(c, ChannelMap) and _is_whole(node, trace, c)]
    if not maps:
        for value in data:
            trace.read(value, "one channel that meets many")
        return Boundary("no operand's channels are known")
    main = max((c for _, c in maps), key=lambda c: (not is_stored(c), np.prod(c.sizes)))
    parts = [_part(node, trace, value, channels, main) for value, channels in found]
    if any(isinstance(part, Boundary) for part in parts):
        for value in data:
            trace.read(value, "branches join with channels on different axes")
        return next(part for part in parts if isinstance(part, Boundary))
    return _unique(reduce(joined, [part for part in parts if isinstance(part, ChannelMap)]))


def _is_whole(node: ir.Node, trace: Trace, channels: ChannelMap) -> bool:
    """False for channels that are repeated over those of another operand."""
    shape = trace.shape(node.outputs[0])
    return shape is None or [shape[axis] for axis in channels.axes] == list(channels.sizes)


def _part(
    node: ir.Node, trace: Trace, value: ir.Value, channels: Channels, main: ChannelMap
) -> Channels | None:
    """What an operand adds to the join: its map, energy 1 for the unknown, None for what only broadcasts."""
    if isinstance(channels, ChannelMap):
        if (channels.axes, channels.sizes) == (main.axes, main.sizes):
            return channels
        if is_stored(channels) and set(channels.axes) < set(main.axes):
            return None if trace.heads else spread(channels, main.axes, main.sizes)
        if all(size == 1 for size in channels.sizes):
            trace.read(value, "one channel that meets many")
        elif not is_stored(channels):
            return Boundary("branches join with channels on different axes")
    shape, result = trace.shape(value), trace.shape(node.outputs[0])
    if shape is None or result is None:
        return trace.given_like(value, main, "of unknown shape")
    sizes = [shape[axis - len(result)] if axis - len(result) >= -len(shape) else 1 for axis in main.axes]
    return None if all(size == 1 for size in sizes) else trace.given_like(value, main, "not followed")


def _unique(channels: ChannelMap) -> ChannelMap:
    """Without terms that stand twice, as in x · sigmoid(x)."""
    kept: list[Term] = []
    for term in channels.terms:
        if not any(_same(term, other) for other in kept):
            kept.append(term)
    return ChannelMap(channels.axes, channels.sizes, tuple(kept))


def _same(first: Term, second: Term) -> bool:
    if first.source is not second.source or not np.array_equal(first.units, second.units):
        return False
    if first.slope is None or second.slope is None:
        return first.slope is second.slope
    return np.array_equal(first.slope, second.slope)


@surgery("BiasGelu", "FastGelu", domain=MICROSOFT)
def cut_bias(node: ir.Node, operation: Operation) -> Iterator[Edit]:
    """The bias is a vector over the features."""
    if len(node.inputs) > 1:
        yield from operation.broadcast(node, 1, node.outputs[0])


@surgery("Add", "Sub", "Mul", "Div", "Sum", "Mean", "Max", "Min", "Where", "PRelu", "Pow", "Mod", "BitShift")
@surgery("And", "Or", "Xor", "Equal", "Greater", "Less", "GreaterOrEqual", "LessOrEqual")
def cut_constants(node: ir.Node, operation: Operation) -> Iterator[Edit]:
    """Stored operands lose what the result loses, along axes where they do not broadcast."""
    for index in range(len(node.inputs)):
        yield from operation.broadcast(node, index, node.outputs[0])
