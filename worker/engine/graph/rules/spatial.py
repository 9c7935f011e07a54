"""Pooling, resizing and reductions: channels pass unless the channel axis itself is reduced."""

from collections.abc import Iterator

import onnx_ir as ir

from api_schemas.models import ModelFormat
from worker.engine.graph.channels import Boundary, ChannelMap
from worker.engine.graph.constants import Constants, attribute
from worker.engine.graph.layer import Summed
from worker.engine.graph.surgery import Edit, Operation, SetOperand, surgery
from worker.engine.graph.trace import Trace, rule


@rule(
    "MaxPool",
    "AveragePool",
    "LpPool",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "GlobalLpPool",
    "Upsample",
    "Resize",
)
def pool(node: ir.Node, trace: Trace) -> None:
    """Channels on axis 1 pass; on another they would be mixed. MaxPool's indices carry none."""
    channels = trace.channels(node.inputs[0])
    if isinstance(channels, ChannelMap) and any(axis > 1 for axis in channels.axes):
        trace.stop(node, "it works along the axis that carries channels")
        return
    trace.put(node.outputs[0], channels)
    for value in node.outputs[1:]:
        trace.put(value, Boundary("indices"))


@rule("QLinearGlobalAveragePool", "QLinearAveragePool", domain="com.microsoft")
def quantised_pool(node: ir.Node, trace: Trace) -> None:
    """Quantised pooling of ONNX Runtime, channels first."""
    trace.put(node.outputs[0], trace.channels(node.inputs[0]))


_REDUCTIONS = (
    "ReduceMean ReduceSum ReduceMax ReduceMin ReduceProd ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp"
)


@rule(*_REDUCTIONS.split(), "ReduceSumSquare", "ArgMax", "ArgMin")
def reduce(node: ir.Node, trace: Trace) -> None:
    """A reduction over other axes keeps the channels; over the channels it leaves nothing to follow."""
    channels, shape = trace.channels(node.inputs[0]), trace.shape(node.inputs[0])
    if isinstance(channels, Boundary) or shape is None:
        trace.put(node.outputs[0], channels)
        return
    axes = _axes(node, trace, len(shape))
    if axes is None or set(axes) & set(channels.axes):
        if axes is None or node.op_type.startswith("Arg"):
            trace.read(node.inputs[0], f"{node.op_type} over the channels")
            trace.freeze(channels, f"{node.op_type} is taken over them")
        else:
            trace.sums_up(node, axes)
        trace.put(node.outputs[0], Boundary("a reduction over the channels"))
        return
    if attribute(node, "keepdims", 1):
        trace.put(node.outputs[0], channels)
        return
    left = tuple(axis - sum(a < axis for a in axes) for axis in channels.axes)
    trace.put(node.outputs[0], ChannelMap(left, channels.sizes, channels.terms))


def _axes(node: ir.Node, trace: Trace, rank: int) -> list[int] | None:
    """Reduced axes, not negative; all of them where none are named; None where they are computed."""
    if node.op_type.startswith("Arg"):
        return [attribute(node, "axis", 0) % rank]
    named = attribute(node, "axes")
    if named is None and len(node.inputs) > 1 and node.inputs[1] is not None:
        found = trace.constants.array(node.inputs[1])
        if found is None:
            return None
        named = found.tolist()
    return [axis % rank for axis in named] if named else list(range(rank))


@rule("Shape")
def shape_of(node: ir.Node, trace: Trace) -> None:
    """A shape follows the channels by itself. A number computed from several of its elements changes: where
    nothing else comes of the shape it says how many a mean is over (as Keras writes it): those that stay."""
    channels = trace.channels(node.inputs[0])
    rank = len(trace.shape(node.inputs[0]) or ())
    if isinstance(channels, ChannelMap):
        numbers = _numbers(node.outputs[0], tuple(range(rank)), trace.constants)
        if any(len(picked) > 1 and set(picked) & set(channels.axes) for _, picked in numbers):
            _count(node, trace, channels)
    trace.put(node.outputs[0], Boundary("computed from shapes"))


def _count(node: ir.Node, trace: Trace, channels: ChannelMap) -> None:
    if trace.format is ModelFormat.ONNX and _only_numbers(node.outputs[0], trace.constants):
        trace.findings.summed.append(Summed(node, 0, channels.axes))
    else:
        trace.freeze(channels, "a number is computed from how many there are")


_FLOATS = (1, 10, 11, 16)


def _numbers(
    shape: ir.Value, picked: tuple[int, ...], constants: Constants, depth: int = 6
) -> Iterator[tuple[ir.Node, tuple[int, ...]]]:
    """Casts to float of elements of a shape, each with the axes whose sizes it takes."""
    for node, _ in shape.uses():
        if node.op_type == "Cast" and attribute(node, "to") in _FLOATS:
            yield node, picked
        elif depth and (node.op_type in _PASSING or _with_constant(node, shape, constants)):
            yield from _numbers(node.outputs[0], picked, constants, depth - 1)
        elif depth and node.op_type in ("Gather", "Slice"):
            yield from _numbers(node.outputs[0], _picked(node, picked, constants), constants, depth - 1)


_PASSING = {"Squeeze", "Unsqueeze", "Cast", "Identity", "ReduceProd"}
_COUNTING = _PASSING | {"Gather", "Slice"}


def _only_numbers(shape: ir.Value, constants: Constants, depth: int = 6) -> bool:
    """True when every use of a shape ends in a Cast to float."""
    if not depth or shape.is_graph_output():
        return False
    following = [node for node, _ in shape.uses()]
    return all(
        (node.op_type == "Cast" and attribute(node, "to") in _FLOATS)
        or (
            (node.op_type in _COUNTING or _with_constant(node, shape, constants))
            and _only_numbers(node.outputs[0], constants, depth - 1)
        )
        for node in following
    )


def _with_constant(node: ir.Node, counted: ir.Value, constants: Constants) -> bool:
    """True for arithmetic of a count with a constant, as in d // heads."""
    others = [value for value in node.inputs if value is not counted]
    return node.op_type in ("Add", "Sub", "Mul", "Div") and all(map(constants.is_fixed, others))


def _picked(node: ir.Node, picked: tuple[int, ...], constants: Constants) -> tuple[int, ...]:
    """What Gather or Slice takes of a list of axes; all of them when that is not known."""
    arrays = [constants.array(value) for value in node.inputs[1:]]
    if not arrays or any(array is None for array in arrays):  # a Slice before opset 10 has attributes
        return picked
    numbers = [[int(n) for n in array.reshape(-1)] for array in arrays if array is not None]
    if node.op_type == "Gather":
        return tuple(picked[n] for n in numbers[0] if -len(picked) <= n < len(picked))
    step = numbers[3][0] if len(numbers) > 3 else 1
    return picked[numbers[0][0] : numbers[1][0] : step]


@surgery("Shape")
def keep_numbers(node: ir.Node, operation: Operation) -> Iterator[Edit]:
    """A scale that was computed from the count of channels (1/√d) stays what it was."""
    cut = operation.kept.axes(node.inputs[0])
    rank = len(operation.kept.graph.shapes.of(node.inputs[0]) or ())
    for cast, picked in _numbers(node.outputs[0], tuple(range(rank)), operation.constants):
        before = operation.constants.array(cast.inputs[0])
        if len(picked) == 1 and picked[0] in cut and before is not None:
            yield SetOperand(cast, 0, before)


@rule("Size", "ConstantOfShape", "Range", "NonZero", "EyeLike", "RandomNormalLike", "RandomUniformLike")
def about_shape(node: ir.Node, trace: Trace) -> None:
    """Only the shape is read, or nothing: no channel passes."""
    for value in node.outputs:
        trace.put(value, Boundary("computed from shapes"))


@surgery("Resize")
def cut_sizes(node: ir.Node, operation: Operation) -> Iterator[Edit]:
    """Resize by sizes names the channels too."""
    yield from operation.target(node, 3, node.outputs[0])
