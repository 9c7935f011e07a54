"""From a network to its `Graph`: layers, channel maps between them, and refusals with their reasons."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace

import onnx_ir as ir

from api_schemas.jobs import InputSpecs
from worker.engine.formats.base import Network
from worker.engine.graph import rules as _rules  # noqa: F401  (registers every rule)
from worker.engine.graph import weights
from worker.engine.graph.analysis import Graph
from worker.engine.graph.constants import is_constant_node, is_stored
from worker.engine.graph.layer import Layer, LayerUse, Refused
from worker.engine.graph.shapes import Shapes, infer_shapes
from worker.engine.graph.trace import Trace, label, rule_for

_FLOATS = {ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16, ir.DataType.BFLOAT16}
_BYTES = {ir.DataType.INT8, ir.DataType.UINT8}


def build(network: Network, inputs: InputSpecs | None = None, *, heads: bool = False) -> Graph:
    """Analyse a network. Never fails on an operator: what has no rule is a boundary with a reason.

    In attention all heads must keep the same features, unless `heads` go as a whole.
    """
    # A synthesised structure has the layers but not their places: shapes inferred on it would mean nothing.
    known = network.structure_warning is None
    shapes = infer_shapes(network.structure, inputs or {}) if known else Shapes({})
    trace = Trace(network, shapes, heads=heads)
    _walk(network.structure.graph, trace)
    layers, refused = _layers(network, trace)
    found = trace.findings
    return Graph(
        layers,
        refused,
        tuple(found.consumers),
        dict(found.boundaries),
        trace.maps,
        tuple(found.frozen),
        tuple(found.ties),
        tuple(found.summed),
        tuple(found.heads),
        trace.shapes,
    )


def _walk(graph: ir.Graph, trace: Trace) -> None:
    for node in graph:
        if is_constant_node(node) or (node.outputs and is_stored(node.outputs[0])):
            continue
        for body in _bodies(node):
            _walk(body, trace)
            _freeze_all(body, trace)
        _visit(node, trace)
    for value in graph.outputs:
        trace.read(value, "an output of the model")


def _freeze_all(body: ir.Graph, trace: Trace) -> None:
    """Bodies of If, Loop and Scan are scored, but their channels and those they capture stay."""
    for node in body:
        for value in (*node.inputs, *node.outputs):
            trace.freeze(trace.channels(value), "inside the body of an If, Loop or Scan")


def _bodies(node: ir.Node) -> Iterator[ir.Graph]:
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            yield attribute.as_graph()
        elif attribute.type == ir.AttributeType.GRAPHS:
            yield from attribute.as_graphs()


def _visit(node: ir.Node, trace: Trace) -> None:
    apply = rule_for(node)
    if apply is not None:
        apply(node, trace)
        return
    reason = f"no channel rule for operator {node.domain + ':' if node.domain else ''}{node.op_type}"
    for value in node.inputs:
        trace.refuse(node, value, reason)
    trace.stop(node, reason)


def _layers(network: Network, trace: Trace) -> tuple[tuple[Layer, ...], tuple[Layer, ...]]:
    names = _Names()
    by_value: dict[ir.Value, list[LayerUse]] = defaultdict(list)
    for use in trace.findings.uses:
        by_value[use.view.value].append(use)
    others = _other_readers(network.structure)
    good: list[Layer] = []
    bad: list[Layer] = []
    for value, uses in by_value.items():
        layer = _layer(names, value, uses)
        reason = _refusal(network, layer, others)
        (bad if reason else good).append(replace(layer, reason=reason))
    seen = set(by_value)
    for item in trace.findings.refused:
        if item.view.value not in seen:
            seen.add(item.view.value)
            bad.append(_refused_layer(names, item))
    return tuple(good), tuple(bad)


def _layer(names: "_Names", value: ir.Value, uses: list[LayerUse]) -> Layer:
    node = uses[0].node
    return Layer(names.of(value, node), value.name or label(node), node.op_type, uses[0].view, tuple(uses))


def _refused_layer(names: "_Names", item: Refused) -> Layer:
    return Layer(names.of(item.view.value, None), item.name, item.op, item.view, reason=item.reason)


def _refusal(network: Network, layer: Layer, others: dict[ir.Value, str]) -> str | None:
    """Why a weight must be left alone, or None."""
    value = layer.view.value
    if not network.writable(value):
        return "the weight is computed, not stored in the file"
    dtype = weights.stored_dtype(value)
    if layer.view.quantization is None and dtype not in _FLOATS:
        return f"weights of type {dtype} are not pruned"
    if layer.view.quantization is not None and dtype not in _BYTES:
        return f"quantised weights of type {dtype} are not pruned"
    if any(not use.view.same_as(layer.view) for use in layer.uses):
        return "shared by operators that read it in different layouts"
    if value.is_graph_output():
        return "the weight itself is an output of the model"
    return others.get(value)


def _other_readers(structure: ir.Model) -> dict[ir.Value, str]:
    """Tensors that an embedding look-up reads: zeros there would change more than the layer."""
    return {
        node.inputs[0]: f"also read as a table by {label(node)}"
        for node in structure.graph.all_nodes()
        if node.op_type == "Gather" and node.inputs and node.inputs[0] is not None
    }


class _Names:
    """Layer names: the weight's name without its last part, else the node's; made unique."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def of(self, value: ir.Value, node: ir.Node | None) -> str:
        """A name that no other layer has."""
        name = self._first(value, node)
        unique, count = name, 2
        while unique in self._taken:
            unique, count = f"{name}#{count}", count + 1
        self._taken.add(unique)
        return unique

    def _first(self, value: ir.Value, node: ir.Node | None) -> str:
        weight = value.name or ""
        for ending in (".weight", ".weight_quantized", "_quantized", ".kernel"):
            if weight.endswith(ending) and len(weight) > len(ending):
                return weight.removesuffix(ending)
        opaque = not weight or weight.startswith(("onnx::", "/", "val_")) or weight.isdigit()
        return node.name if node is not None and node.name and opaque else weight or "weight"


def constants_in(structure: ir.Model) -> Iterable[ir.Value]:
    """Every stored tensor of the structure, subgraphs included: initializers, then what Constant nodes and
    ConstantOfShape nodes of stored shape give."""
    for graph in structure.graphs():
        yield from graph.initializers.values()
        for node in graph:
            if is_constant_node(node) or (node.outputs and is_stored(node.outputs[0])):
                yield node.outputs[0]
