"""Rewriting an ONNX file: operands replaced, attributes set, what nobody reads any more removed."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import onnx
import onnx_ir as ir
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto

from worker.engine.formats.base import Array
from worker.engine.formats.edits import Edit, Narrow, Permute, SetAttribute, SetOperand, Widen
from worker.engine.formats.onnx_gathers import gather_around, permute

#: From this IR version on, an initializer need not be listed among the graph's inputs.
_FREE_INITIALIZERS = 4


def rewrite(model: ModelProto, structure: ir.Model, edits: Sequence[Edit]) -> None:
    """Carry out edits on a parsed model, external data loaded; `structure` is its onnx-ir view."""
    nodes = dict(zip(structure.graph, model.graph.node, strict=True))
    readers = _readers(model.graph)
    for edit in edits:
        if isinstance(edit, SetAttribute):
            _set_attribute(nodes[edit.node], edit)
        elif isinstance(edit, Permute):
            permute(model.graph, nodes[edit.node], edit)
    by_operand: dict[str, list[SetOperand]] = defaultdict(list)
    # A shape that several nodes take may be edited for each of them: that is one edit.
    once = {(edit.node, edit.index): edit for edit in edits if isinstance(edit, SetOperand)}
    for edit in once.values():
        by_operand[_operand(nodes[edit.node], edit.index)].append(edit)
    made = {name: _replace(model, name, wanted, nodes, readers) for name, wanted in by_operand.items()}
    _sweep(model.graph, readers)
    for name, new in made.items():
        if len(new) == 1:
            _take_name(model.graph, new[0], name)
    _share_again(model.graph, nodes, [edit for edit in edits if isinstance(edit, SetOperand)])
    gather_around(model.graph, nodes, [edit for edit in edits if isinstance(edit, Narrow | Widen)])
    if model.ir_version < _FREE_INITIALIZERS:
        _list_initializers(model.graph)
    del model.graph.value_info[:]


def _share_again(graph: GraphProto, nodes: Mapping[ir.Node, NodeProto], edits: Sequence[SetOperand]) -> None:
    """What was one tensor, read under several names (behind Identity), and still equal, is stored once."""
    held = {tensor.name for tensor in graph.initializer}
    parts: dict[ir.Value, list[tuple[str, Array]]] = defaultdict(list)
    doubles: set[str] = set()
    for edit in edits:
        name = _operand(nodes[edit.node], edit.index)
        if edit.cut is None or name not in held:
            continue
        known = parts[edit.cut.tensor]
        same = next((other for other, array in known if np.array_equal(array, edit.array)), None)
        if same is None:
            known.append((name, edit.array))
        elif same != name:
            nodes[edit.node].input[edit.index] = same
            doubles.add(name)
    unread = doubles - set(_readers(graph))
    for tensor in [tensor for tensor in graph.initializer if tensor.name in unread]:
        graph.initializer.remove(tensor)
    for value in [value for value in graph.input if value.name in unread]:
        graph.input.remove(value)


def _list_initializers(graph: GraphProto) -> None:
    """Name new tensors among the inputs, where those that were there are."""
    listed = {value.name for value in graph.input}
    for tensor in graph.initializer:
        if tensor.name not in listed:
            graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))


def _readers(graph: GraphProto) -> Counter[str]:
    """How often each name is read, subgraphs and graph outputs included."""
    count = Counter(value.name for value in graph.output)
    for node in graph.node:
        count.update(node.input)
        for body in _bodies(node):
            count.update(_readers(body))
    return count


def _bodies(node: NodeProto) -> Iterator[GraphProto]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _operand(node: NodeProto, index: int) -> str:
    return node.input[index] if index < len(node.input) else ""


def _set_attribute(node: NodeProto, edit: SetAttribute) -> None:
    kept = [attribute for attribute in node.attribute if attribute.name != edit.name]
    del node.attribute[:]
    node.attribute.extend(kept)
    if isinstance(edit.value, int):
        node.attribute.append(AttributeProto(name=edit.name, type=AttributeProto.INT, i=edit.value))
    elif isinstance(edit.value, float):
        node.attribute.append(AttributeProto(name=edit.name, type=AttributeProto.FLOAT, f=edit.value))
    elif edit.value is not None:
        node.attribute.append(AttributeProto(name=edit.name, type=AttributeProto.INTS, ints=edit.value))


def _replace(
    model: ModelProto,
    name: str,
    wanted: Sequence[SetOperand],
    nodes: Mapping[ir.Node, NodeProto],
    readers: Counter[str],
) -> list[str]:
    """Give each operand its array. A tensor whose readers all want the same keeps its name; else readers get
    tensors of their own, equal ones shared (exporters merge equal tensors, which need not stay equal).
    Answers the names of new tensors."""
    stored = _stored(model.graph, name)
    first = wanted[0].array
    alike = all(np.array_equal(edit.array, first) for edit in wanted)
    if name and stored is not None and alike and readers[name] == len(wanted):
        _fill(model, stored, name, first)
        return []
    made: list[tuple[str, Array]] = []
    for edit in wanted:
        own = next(
            (n for n, a in made if a.shape == edit.array.shape and np.array_equal(a, edit.array)), None
        )
        if own is None:
            own = _add(model, name or f"{nodes[edit.node].output[0]}.sizes", edit.array)
            made.append((own, edit.array))
        node = nodes[edit.node]
        node.input.extend([""] * (edit.index + 1 - len(node.input)))
        node.input[edit.index] = own
    return [name for name, _ in made]


def _take_name(graph: GraphProto, new: str, old: str) -> None:
    """Let a new tensor have the name of the initializer whose place it took, once nothing else has it."""
    taken = {t.name for t in graph.initializer} | {o for n in graph.node for o in n.output}
    if not old or old in taken:
        return
    for tensor in graph.initializer:
        tensor.name = old if tensor.name == new else tensor.name
    for value in graph.input:
        value.name = old if value.name == new else value.name
    for node in graph.node:
        for index, name in enumerate(node.input):
            if name == new:
                node.input[index] = old


def _stored(graph: GraphProto, name: str) -> TensorProto | None:
    """The initializer or Constant of that name."""
    for tensor in graph.initializer:
        if tensor.name == name:
            return tensor
    for node in graph.node:
        if node.op_type == "Constant" and node.output[0] == name:
            return next((a.t for a in node.attribute if a.name == "value"), None)
    return None


def _fill(model: ModelProto, tensor: TensorProto, name: str, array: Array) -> None:
    own = tensor.name
    tensor.CopyFrom(_tensor(own, array))
    for value in model.graph.input:
        if value.name == name:
            value.CopyFrom(onnx.helper.make_tensor_value_info(name, tensor.data_type, list(array.shape)))


def _add(model: ModelProto, like: str, array: Array) -> str:
    taken = {t.name for t in model.graph.initializer} | {o for n in model.graph.node for o in n.output}
    number = next(i for i in range(1, len(taken) + 2) if f"{like}.kept{i}" not in taken)
    tensor = _tensor(f"{like}.kept{number}", array)
    model.graph.initializer.append(tensor)
    return tensor.name


def _tensor(name: str, array: Array) -> TensorProto:
    return ir.serde.serialize_tensor(ir.Tensor(np.asarray(array, order="C"), name=name))


def _sweep(graph: GraphProto, before: Counter[str]) -> None:
    """Remove what was read before and is read no more: nodes, then tensors and their inputs."""
    while True:
        now = _readers(graph)
        dead = [n for n in graph.node if _died(n.output, before, now)]
        if not dead:
            break
        for node in dead:
            graph.node.remove(node)
    for tensor in [t for t in graph.initializer if _died([t.name], before, now)]:
        graph.initializer.remove(tensor)
        for value in [v for v in graph.input if v.name == tensor.name]:
            graph.input.remove(value)


def _died(names: Iterable[str], before: Counter[str], now: Counter[str]) -> bool:
    found = [name for name in names if name]
    return any(before[name] for name in found) and not any(now[name] for name in found)
