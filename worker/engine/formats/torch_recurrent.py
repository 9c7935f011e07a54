"""Gives recurrent operators of an exported graph their parameters back.

The exporter reorders gates by Slice and Concat, so that no operator sees a parameter any more. For reasoning
the order of gates is of no account: here an operator reads Unsqueeze(parameter), and a bidirectional one
becomes two. The result is a structure to think with, not a graph to run.
"""

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

_RECURRENT = {"LSTM", "GRU", "RNN"}
_THROUGH = {"Slice", "Concat", "Unsqueeze", "Identity", "Squeeze", "Cast"}
_DIRECTIONS = ("forward", "reverse")


def restore_parameters(graph: ir.Graph, stored: Sequence[ir.Value]) -> None:
    """Rewrite every recurrent operator whose weights are rearranged parameters; others stay as they are."""
    parameters = set(stored)
    for node in list(graph):
        if node.op_type in _RECURRENT and node.domain in ("", "ai.onnx"):
            inputs = _parameters_behind(node.inputs[1], parameters)
            states = _parameters_behind(node.inputs[2], parameters)
            if len(inputs) == len(states) and 1 <= len(inputs) <= len(_DIRECTIONS):
                _replace(graph, node, list(zip(inputs, states, strict=True)))


def _parameters_behind(value: ir.Value | None, parameters: set[ir.Value]) -> list[ir.Value]:
    """Matrices that a value is put together from, in order."""
    if value is None:
        return []
    if value in parameters:
        return [value] if value.shape is not None and len(value.shape) == 2 else []
    node = value.producer()
    if node is None or node.op_type not in _THROUGH:
        return []
    operands = node.inputs if node.op_type == "Concat" else node.inputs[:1]
    found = [found for operand in operands for found in _parameters_behind(operand, parameters)]
    return list(dict.fromkeys(found))


def _replace(graph: ir.Graph, node: ir.Node, pairs: Sequence[tuple[ir.Value, ir.Value]]) -> None:
    made = [_one_direction(node, pair, name) for pair, name in zip(pairs, _DIRECTIONS, strict=False)]
    new = [part for parts in made for part in parts]
    operators = [parts[-1] for parts in made]
    outputs: list[ir.Value] = list(operators[0].outputs)
    if len(operators) > 1:
        joins = [_joined(operators, index) for index in range(len(node.outputs))]
        new += joins
        outputs = [join.outputs[0] for join in joins]
    for old, value in zip(node.outputs, outputs, strict=True):
        value.shape, value.type = old.shape, old.type
    graph.insert_before(node, new)
    ir.convenience.replace_all_uses_with(node.outputs, outputs, replace_graph_outputs=True)
    graph.remove(node, safe=True)


def _one_direction(node: ir.Node, pair: tuple[ir.Value, ir.Value], direction: str) -> list[ir.Node]:
    lifted = [_lifted(value) for value in pair]
    attributes = {name: a for name, a in node.attributes.items() if name not in ("direction", "activations")}
    attributes["direction"] = ir.AttrString("direction", direction)
    weights = [unsqueeze.outputs[0] for _, unsqueeze in lifted]
    operator = ir.node(
        node.op_type, [node.inputs[0], *weights], attributes, num_outputs=len(node.outputs), name=node.name
    )
    return [part for parts in lifted for part in parts] + [operator]


def _lifted(value: ir.Value) -> tuple[ir.Node, ir.Node]:
    """Constant axes and the Unsqueeze that gives a matrix its leading axis of directions."""
    axes = ir.node("Constant", [], {"value": ir.AttrTensor("value", ir.tensor(np.array([0], np.int64)))})
    return axes, ir.node("Unsqueeze", [value, axes.outputs[0]])


def _joined(operators: Sequence[ir.Node], index: int) -> ir.Node:
    """Both directions of an output side by side: axis 1 of the sequence, axis 0 of the last states."""
    return ir.node("Concat", [operator.outputs[index] for operator in operators], {"axis": int(index == 0)})
