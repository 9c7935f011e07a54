"""Products of integers, as dynamic quantisation writes them: the weight's zero point stands at the operator,
its scale often further on, where the 32-bit result is made a float again."""

import numpy as np
import onnx_ir as ir

from worker.engine.formats.base import Array
from worker.engine.graph.channels import Boundary
from worker.engine.graph.rules.convolution import convolve
from worker.engine.graph.rules.linear import laid_out, multiply
from worker.engine.graph.trace import MICROSOFT, Trace, label, rule
from worker.engine.graph.views import WeightView, transposed

_STATE = "the state of a recurrent operator"


@rule("DynamicQuantizeLinear")
def dynamic(node: ir.Node, trace: Trace) -> None:
    """Channels stay what they are; scale and zero point are of the whole tensor."""
    trace.put(node.outputs[0], trace.channels(node.inputs[0]))
    for value in node.outputs[1:]:
        trace.put(value, Boundary("a scale or a zero point"))


@rule("MatMulInteger")
def integer_matmul(node: ir.Node, trace: Trace) -> None:
    """MatMulInteger(a, b, a_zero, b_zero)."""
    _multiplied(node, trace, _operand(node, 3), _scale_behind(node, trace))


@rule("DynamicQuantizeMatMul", domain=MICROSOFT)
def dynamic_matmul(node: ir.Node, trace: Trace) -> None:
    """DynamicQuantizeMatMul(a, b, b_scale, b_zero, bias), with `a` in floats."""
    _multiplied(node, trace, _operand(node, 3), trace.constants.array(_operand(node, 2)))


@rule("MatMulIntegerToFloat", domain=MICROSOFT)
def matmul_to_float(node: ir.Node, trace: Trace) -> None:
    """MatMulIntegerToFloat(a, b, a_scale, b_scale, a_zero, b_zero, bias)."""
    _multiplied(node, trace, _operand(node, 5), trace.constants.array(_operand(node, 3)))


@rule("ConvInteger")
def integer_conv(node: ir.Node, trace: Trace) -> None:
    """ConvInteger(x, w, x_zero, w_zero)."""
    view = _quantised(node, trace, _operand(node, 3), _scale_behind(node, trace), 0)
    convolve(node, trace, view, transpose=False)


@rule("DynamicQuantizeLSTM", domain=MICROSOFT)
def dynamic_lstm(node: ir.Node, trace: Trace) -> None:
    """An LSTM with both weights turned: (directions, inputs, gates · hidden), a scale for each direction or
    for each column. The state is a boundary."""
    steps, data = trace.shapes.size(node.inputs[0], 0), trace.map_on(node.inputs[0], 2)
    for position, incoming in ((1, data), (2, Boundary(_STATE))):
        zero, scale = (
            _operand(node, 7 + 2 * position),
            trace.constants.array(_operand(node, 6 + 2 * position)),
        )
        axis = 0 if scale is None or scale.ndim == 1 else 2
        view = _quantised(node, trace, zero, scale, axis, position)
        if view is None or len(view.shape) != 3:
            trace.freeze(incoming, f"{label(node)}: its quantised weights are not stored plainly")
            continue
        directions, size, _ = view.shape
        inputs = np.broadcast_to(np.arange(size), (directions, size))
        turned = view.then(transposed((0, 2, 1)))
        trace.use(node, turned, incoming, inputs=inputs, source=None, positions=steps)
    for value in node.outputs:
        trace.put(value, Boundary(_STATE))


def _operand(node: ir.Node, place: int) -> ir.Value | None:
    return node.inputs[place] if place < len(node.inputs) else None


def _multiplied(node: ir.Node, trace: Trace, zero: ir.Value | None, scale: Array | None) -> None:
    view = _quantised(node, trace, zero, scale, 1)
    if view is None or len(view.shape) != 2:
        trace.stop(node, "the product's quantised weight is not stored plainly")
        return
    multiply(node, trace, node.inputs[0], laid_out(view, (1, 0)), -1, -1)


def _quantised(
    node: ir.Node, trace: Trace, zero: ir.Value | None, scale: Array | None, axis: int, position: int = 1
) -> WeightView | None:
    """A weight as what its integers stand for; None where it is not stored plainly."""
    view = trace.constants.view(node.inputs[position])
    offset = None if zero is None else trace.constants.array(zero)
    if view is None or view.steps or scale is None or (zero is not None and offset is None):
        return None
    if any(one is not None and one.size not in (1, view.shape[axis]) for one in (scale, offset)):
        return None
    return trace.constants.quantized(view, scale.reshape(-1), offset, axis)


def _scale_behind(node: ir.Node, trace: Trace) -> Array:
    """The constant factor of what the result is multiplied by (scale of the data × scale of the weight);
    one, where there is none to be seen: within the layer that is the same."""
    value = node.outputs[0]
    for _ in range(2):
        (*_, (following, place)) = [(None, 0), *value.uses()]
        if following is None or following.op_type not in ("Cast", "Mul"):
            break
        if following.op_type == "Mul":
            return _constant_factor(following.inputs[1 - place], trace)
        value = following.outputs[0]
    return np.ones(1, np.float32)


def _constant_factor(value: ir.Value | None, trace: Trace) -> Array:
    producer = None if value is None else value.producer()
    candidates = [value, *(producer.inputs if producer is not None and producer.op_type == "Mul" else ())]
    known = (trace.constants.array(one) for one in candidates if trace.constants.is_fixed(one))
    return next((array.reshape(-1) for array in known if array is not None), np.ones(1, np.float32))
