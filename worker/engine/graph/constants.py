"""What the graph computes from constants alone: weight views, per-channel vectors, shape arithmetic."""

from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator

from worker.engine.formats.base import Array, Network
from worker.engine.formats.filled import filled
from worker.engine.graph.shapes import Shapes
from worker.engine.graph.views import Quantization, Reshape, WeightView, transposed

#: Largest tensor that is evaluated to know a shape or a vector of slopes.
_SMALL = 1 << 16
_PASSING = {"Identity", "Cast", "Dropout"}
_RESHAPING = {"Reshape", "Flatten", "Squeeze", "Unsqueeze"}
#: Operators through which a stored tensor is still seen as itself.
REARRANGING = _PASSING | _RESHAPING | {"Transpose", "DequantizeLinear"}


def is_constant_node(node: ir.Node) -> bool:
    """True for a Constant node of the standard domain."""
    return node.op_type == "Constant" and node.domain in ("", "ai.onnx")


def is_stored(value: ir.Value) -> bool:
    """True for a tensor that stands in the file: an initializer, a Constant, or a shape and one number."""
    node = value.producer()
    return (
        value.is_initializer() or (node is not None and is_constant_node(node)) or filled(value) is not None
    )


def attribute(node: ir.Node, name: str, default: Any = None) -> Any:
    """An attribute's value, or `default`."""
    found = node.attributes.get(name)
    return default if found is None else found.value


class Constants:
    """Reads constants through `network`, so that what was written to the network is what is seen."""

    def __init__(self, network: Network, shapes: Shapes) -> None:
        self._network, self._shapes = network, shapes
        self._known: dict[ir.Value, Array | None] = {}

    def is_stored(self, value: ir.Value | None) -> bool:
        """True for a tensor that stands in the file."""
        return value is not None and is_stored(value)

    def view(self, value: ir.Value | None) -> WeightView | None:
        """The stored tensor behind an operand, or None when the operand is computed from data."""
        if value is None:
            return None
        if self.is_stored(value):
            found = filled(value)
            shape = self._shapes.of(value) if found is None else found.shape
            if shape is None or any(size is None for size in shape):
                return None
            return WeightView(value, tuple(size for size in shape if size is not None))
        node = value.producer()
        return None if node is None else self._view_through(node, value)

    def _view_through(self, node: ir.Node, value: ir.Value) -> WeightView | None:
        if node.op_type not in REARRANGING:
            return None
        inner = self.view(node.inputs[0])
        if inner is None:
            return None
        if node.op_type == "DequantizeLinear":
            return self._dequantized(node, inner)
        before = inner.seen_shape()
        if node.op_type == "Transpose":
            return inner.then(transposed(attribute(node, "perm", range(len(before))[::-1])))
        if node.op_type in _RESHAPING:
            after = self._shapes.of(value)
            if after is None or any(size is None for size in after):
                after = self._reshaped(node, before)
            return None if after is None else inner.then(Reshape(before, tuple(int(s or 0) for s in after)))
        return inner

    def _reshaped(self, node: ir.Node, before: tuple[int, ...]) -> tuple[int, ...] | None:
        """Target of a Reshape of a constant, from its shape operand."""
        target = self.array(node.inputs[1]) if node.op_type == "Reshape" and len(node.inputs) > 1 else None
        if target is None:
            return None
        return tuple(np.broadcast_to(np.int8(0), before).reshape(target.astype(int).tolist()).shape)

    def _dequantized(self, node: ir.Node, inner: WeightView) -> WeightView | None:
        scale = self.array(node.inputs[1])
        zero = self.array(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] is not None else None
        if scale is None or inner.steps or scale.ndim > 1:
            return None
        return self.quantized(inner, scale, zero, attribute(node, "axis", 1))

    def quantized(self, view: WeightView, scale: Array, zero: Array | None, axis: int) -> WeightView:
        """The view with its quantization, parameters laid out along `axis` of the stored tensor."""
        zero = np.zeros_like(scale, dtype=np.int32) if zero is None else zero
        shape = [1] * len(view.shape)
        if scale.size > 1:
            shape[axis] = scale.size
        quantization = Quantization(
            scale.reshape(shape), zero.reshape(shape if zero.size > 1 else [1] * len(shape))
        )
        return WeightView(view.value, view.shape, view.steps, quantization)

    def is_fixed(self, value: ir.Value | None) -> bool:
        """True when a value is computed from stored tensors alone, whatever the shapes of the inputs are."""
        if value is None or self.is_stored(value):
            return True
        node = value.producer()
        return node is not None and node.op_type != "Shape" and all(map(self.is_fixed, node.inputs))

    def array(self, value: ir.Value | None) -> Array | None:
        """A small constant's value, computed where it is computed from constants or shapes; else None."""
        if value is None:
            return None
        if value not in self._known:
            self._known[value] = None  # a cycle through subgraphs must not recurse for ever
            self._known[value] = self._evaluate(value)
        return self._known[value]

    def _evaluate(self, value: ir.Value) -> Array | None:
        shape = self._shapes.of(value)
        if shape is not None and np.prod([size or 1 for size in shape]) > _SMALL:
            return None
        if self.is_stored(value):
            return self._network.read(value)
        node = value.producer()
        if node is None or node.domain not in ("", "ai.onnx") or any(True for _ in node.outputs[1:]):
            return None
        if node.op_type == "Shape":
            return self._shape_of(node)
        if node.op_type == "CastLike":
            return self._cast_like(node)
        operands = [None if operand is None else self.array(operand) for operand in node.inputs]
        missing = any(a is None and b is not None for a, b in zip(operands, node.inputs, strict=True))
        if missing or not operands:
            return None
        return _run_node(node, operands)

    def _cast_like(self, node: ir.Node) -> Array | None:
        """A constant in the type of something that need not be one."""
        array, like = self.array(node.inputs[0]), node.inputs[1]
        if array is None or like is None or like.dtype is None:
            return None
        return array.astype(like.dtype.numpy())

    def _shape_of(self, node: ir.Node) -> Array | None:
        shape = self._shapes.of(node.inputs[0])
        if shape is None or any(size is None for size in shape):
            return None
        start, end = attribute(node, "start", 0), attribute(node, "end", len(shape))
        return np.array(shape[start:end], dtype=np.int64)


def _run_node(node: ir.Node, operands: list[Array | None]) -> Array | None:
    """One operator on known operands by onnx's reference implementation; None where that cannot."""
    proto = ir.serde.serialize_node(node)
    if any(attribute.HasField("g") for attribute in proto.attribute):
        return None
    version = node.version or (
        node.graph.opset_imports.get("", 17) if isinstance(node.graph, ir.Graph) else 17
    )
    feeds = {name: array for name, array in zip(proto.input, operands, strict=True) if array is not None}
    inputs = [onnx.helper.make_tensor_value_info(name, 0, None) for name in feeds]
    outputs = [onnx.helper.make_tensor_value_info(proto.output[0], 0, None)]
    graph = onnx.helper.make_graph([proto], "one", inputs, outputs)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", version)])
    try:
        (result,) = ReferenceEvaluator(model).run(None, feeds)
    except Exception:  # the reference raises anything; then the value is simply not known here
        return None
    return np.asarray(result)
