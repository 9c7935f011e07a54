"""Gathers put before and after operators of an ONNX graph, or in their place."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import onnx
import onnx_ir as ir
from onnx import GraphProto, NodeProto

from worker.engine.formats.base import Array
from worker.engine.formats.edits import Narrow, Permute, Widen


def gather_around(
    graph: GraphProto, nodes: Mapping[ir.Node, NodeProto], edits: Sequence[Narrow | Widen]
) -> None:
    """Carry out the edits: what a node reads is narrowed before it, what it makes is widened after it."""
    if not edits:
        return
    before: dict[int, list[NodeProto]] = {}
    after: dict[int, list[NodeProto]] = {}
    for number, edit in enumerate(edits):
        node = nodes[edit.node]
        if isinstance(edit, Narrow):
            before.setdefault(id(node), []).extend(_narrowed(graph, node, edit, f"narrow{number}"))
        else:
            after.setdefault(id(node), []).extend(_widened(graph, node, edit, f"widen{number}"))
    # `nodes` holds every node, so that protobuf gives the same object for it, and ids can be compared.
    order = [each for node in graph.node for each in _around(node, before, after)]
    copies = [NodeProto.FromString(node.SerializeToString()) for node in order]
    del graph.node[:]
    graph.node.extend(copies)


def permute(graph: GraphProto, node: NodeProto, edit: Permute) -> None:
    """Make the node a Gather."""
    new = _gather(graph, edit.data.name or "", edit.indices, edit.axis, node.output[0])
    new.name = node.name
    node.CopyFrom(new)


def _around(
    node: NodeProto, before: Mapping[int, list[NodeProto]], after: Mapping[int, list[NodeProto]]
) -> Iterator[NodeProto]:
    yield from before.get(id(node), [])
    yield node
    yield from after.get(id(node), [])


def _narrowed(graph: GraphProto, node: NodeProto, edit: Narrow, name: str) -> Iterator[NodeProto]:
    for axis, kept in edit.kept.items():
        result = f"{name}.{axis}"
        yield _gather(graph, node.input[edit.operand], kept, axis, result)
        node.input[edit.operand] = result


def _widened(graph: GraphProto, node: NodeProto, edit: Widen, name: str) -> Iterator[NodeProto]:
    wide, last = node.output[edit.result], len(edit.taken) - 1
    node.output[edit.result] = found = f"{name}.narrow"
    for place, (axis, taken) in enumerate(edit.taken.items()):
        result = wide if place == last else f"{name}.{axis}"
        yield _gather(graph, found, taken, axis, result)
        found = result


def _gather(graph: GraphProto, data: str, indices: Array, axis: int, result: str) -> NodeProto:
    name = f"{result} from {data}"
    graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(indices, dtype=np.int64), name))
    return onnx.helper.make_node("Gather", [data, name], [result], axis=axis)
