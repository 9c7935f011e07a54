"""Weights that a file stores as a shape and one number: ConstantOfShape nodes with a stored shape."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import onnx
import onnx_ir as ir
from onnx import NodeProto, TensorProto

from worker.engine.formats.edits import Edit, SetOperand

Array = np.ndarray[Any, np.dtype[Any]]
_STANDARD = ("", "ai.onnx")
#: Marks, within one save, the number of a node that must become a whole tensor.
_MARK = "lookahead.whole"


@final
@dataclass(frozen=True)
class Filled:
    """`number`, a tensor of one element, at every place of `shape`."""

    number: ir.TensorProtocol
    shape: tuple[int, ...]

    def array(self) -> Array:
        """The tensor as a view that takes no memory; it cannot be written to."""
        return np.broadcast_to(self.number.numpy().reshape(()), self.shape)


def filled(value: ir.Value | None) -> Filled | None:
    """What a ConstantOfShape with a stored shape makes, or None. One of zeros is no weight: nothing in it
    could be pruned."""
    node = None if value is None else value.producer()
    if node is None or node.op_type != "ConstantOfShape" or node.domain not in _STANDARD:
        return None
    number = node.attributes.get("value")
    shape = _stored(node.inputs[0])
    if shape is None or number is None or number.is_ref() or number.type != ir.AttributeType.TENSOR:
        return None
    tensor = number.as_tensor()
    if tensor.size != 1 or isinstance(tensor, ir.ExternalTensor) or not tensor.numpy().any():
        return None
    return Filled(tensor, tuple(int(size) for size in shape.numpy().reshape(-1)))


def _stored(value: ir.Value | None) -> ir.TensorProtocol | None:
    """The tensor of an initializer or of a Constant."""
    if value is None:
        return None
    if value.is_initializer():
        return value.const_value
    node = value.producer()
    if node is None or node.op_type != "Constant" or node.domain not in _STANDARD:
        return None
    held = node.attributes.get("value")
    return None if held is None or held.is_ref() else held.as_tensor()


def shrunk_fills(edits: Sequence[Edit]) -> list[Edit]:
    """The edits, where a filled tensor stays one in a smaller shape: then only its shape is set."""
    wanted: dict[ir.Value, list[SetOperand]] = {}
    for edit in edits:
        if isinstance(edit, SetOperand) and edit.index < len(edit.node.inputs):
            operand = edit.node.inputs[edit.index]
            if operand is not None and filled(operand) is not None:
                wanted.setdefault(operand, []).append(edit)
    stays = {value: asked for value, asked in wanted.items() if _stays_filled(value, asked)}
    replaced = {id(edit) for asked in stays.values() for edit in asked}
    return [edit for edit in edits if id(edit) not in replaced] + [
        _shape_edit(value, asked[0].array) for value, asked in stays.items()
    ]


def _stays_filled(value: ir.Value, asked: Sequence[SetOperand]) -> bool:
    found, first = filled(value), asked[0].array
    if found is None or value.is_graph_output() or len(list(value.uses())) != len(asked):
        return False
    number = found.number.numpy().reshape(())
    return all(
        (edit.array.shape, edit.array.dtype) == (first.shape, number.dtype)
        and bool((edit.array == number).all())
        for edit in asked
    )


def _shape_edit(value: ir.Value, array: Array) -> SetOperand:
    node = value.producer()
    if node is None:
        raise TypeError(f"{value.name!r} is no output of a node")
    return SetOperand(node, 0, np.array(array.shape, dtype=np.int64))


def mark_whole(tensor: TensorProto, array: Array) -> None:
    """Put a whole tensor where a node's number was; `store_whole` then makes the node fit."""
    name = tensor.name
    tensor.CopyFrom(ir.serde.serialize_tensor(ir.Tensor(np.ascontiguousarray(array), name=name)))
    tensor.metadata_props.add(key=_MARK, value="")


def store_whole(model: onnx.ModelProto) -> None:
    """Make Constants of the nodes whose number was replaced by a whole tensor."""
    for node in _nodes([*model.graph.node, *(n for f in model.functions for n in f.node)]):
        for attribute in node.attribute:
            if attribute.HasField("t") and any(p.key == _MARK for p in attribute.t.metadata_props):
                del attribute.t.metadata_props[:]
                node.op_type = "Constant"
                del node.input[:]


def _nodes(nodes: Sequence[NodeProto]) -> Iterator[NodeProto]:
    """Nodes with those of their bodies."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            bodies = [attribute.g] if attribute.HasField("g") else []
            for body in (*bodies, *attribute.graphs):
                yield from _nodes(body.node)


def filled_bytes(graph: onnx.GraphProto) -> int:
    """Bytes that a graph's ConstantOfShape nodes with stored shapes make when it is loaded."""
    shapes = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Constant" and attribute.name == "value" and node.output:
                shapes[node.output[0]] = attribute.t
    makers = [n for n in graph.node if n.op_type == "ConstantOfShape" and n.input and n.input[0] in shapes]
    return sum(_made_bytes(node, shapes[node.input[0]]) for node in makers)


def _made_bytes(node: NodeProto, shape: TensorProto) -> int:
    kind = next((a.t.data_type for a in node.attribute if a.name == "value"), TensorProto.FLOAT)
    if shape.data_type != TensorProto.INT64 or shape.data_location == TensorProto.EXTERNAL:
        return 0
    sizes = [max(int(size), 0) for size in onnx.numpy_helper.to_array(shape).reshape(-1)]
    return math.prod(sizes) * int(ir.DataType(kind).bitwidth) // 8
