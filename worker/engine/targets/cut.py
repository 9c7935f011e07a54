"""What taking channels out would leave, read off the edits and the channel maps: nothing is written."""

import math
from collections import defaultdict
from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from worker.engine.formats.base import Array, Network
from worker.engine.formats.edits import SetOperand
from worker.engine.granularity.coupled import kept_channels
from worker.engine.graph import weights
from worker.engine.graph.analysis import Graph
from worker.engine.graph.constants import is_stored
from worker.engine.graph.kept import Kept
from worker.engine.graph.layer import Layer, LayerUse
from worker.engine.graph.surgery import operate
from worker.engine.types import Plan


def removed_parameters(network: Network, graph: Graph, plan: Plan) -> int:
    """Stored numbers that the file would lose: weights, biases, norms, whatever has the channels. Integers
    count where they are weights."""
    layers = (*graph.layers, *graph.refused)
    integers = {layer.view.value for layer in layers if layer.view.quantization is not None}
    wanted: dict[ir.Value, list[SetOperand]] = defaultdict(list)
    parts: dict[ir.Value, list[Array]] = defaultdict(list)
    for edit in operate(graph, network, kept_channels(graph, plan)):
        if isinstance(edit, SetOperand):
            operand = edit.node.inputs[edit.index] if edit.index < len(edit.node.inputs) else None
            if operand is not None:
                wanted[operand].append(edit)
                # What came from one tensor and stays equal is stored once, whatever name it is read by.
                parts[operand if edit.cut is None else edit.cut.tensor].append(edit.array)
    made = sum(
        array.size
        for value, arrays in parts.items()
        for array in _distinct(arrays)
        if value in integers or _counts(array)
    )
    return sum(_numbers(network, value, integers) for value in _unread(wanted)) - made


def dense_macs(graph: Graph, plan: Plan) -> int:
    """Multiply-accumulates for one sample that would be left. Every layer's positions must be known."""
    kept = kept_channels(graph, plan)
    return sum(_macs(kept, use) for layer in _used(graph) for use in layer.uses)


def _used(graph: Graph) -> list[Layer]:
    return [layer for layer in (*graph.layers, *graph.refused) if layer.uses]


def _macs(kept: Kept, use: LayerUse) -> int:
    """Kept outputs by kept inputs of every group, by taps, by positions."""
    pairs = kept.outputs(use).sum(axis=1) * kept.inputs(use).sum(axis=1)
    return int(pairs.sum()) * math.prod(use.view.seen_shape()[3:]) * (use.positions or 0)


def _distinct(arrays: list[Array]) -> list[Array]:
    """Equal arrays are stored once."""
    found: list[Array] = []
    for array in arrays:
        if not any(a.shape == array.shape and np.array_equal(a, array) for a in found):
            found.append(array)
    return found


def _counts(array: Array) -> bool:
    return array.dtype.kind not in "biuOSU"


def _unread(wanted: dict[ir.Value, list[SetOperand]]) -> Iterator[ir.Value]:
    """Stored values that nothing reads once the operands are replaced, directly or through nodes that die."""
    replaced = {(edit.node, edit.index) for edits in wanted.values() for edit in edits}
    dead: set[ir.Node] = set()
    queue, seen = list(wanted), set[ir.Value]()
    while queue:
        value = queue.pop()
        uses = [(use.node, use.idx) for use in value.uses()]
        if value in seen or value.is_graph_output():
            continue
        if any(use not in replaced and use[0] not in dead for use in uses):
            continue
        seen.add(value)
        yield value
        producer = value.producer()
        if producer is not None and all(output in seen or not output.uses() for output in producer.outputs):
            dead.add(producer)
            queue.extend(operand for operand in producer.inputs if operand is not None)


def _numbers(network: Network, value: ir.Value, integers: set[ir.Value]) -> int:
    """How many numbers that count a stored value holds; none if it is computed."""
    if value in integers:
        return int(network.read(value).size)
    dtype = weights.stored_dtype(value) if value.producer() is None or is_stored(value) else None
    if dtype is None or not dtype.is_floating_point() or not network.writable(value):
        return 0
    return int(network.read(value).size)
