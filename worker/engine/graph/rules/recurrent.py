"""LSTM, GRU, RNN: both weight matrices are layers; the state that comes out is a boundary."""

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from worker.engine.graph.channels import Boundary, Ints
from worker.engine.graph.constants import attribute
from worker.engine.graph.surgery import Edit, Operation, surgery
from worker.engine.graph.trace import Trace, label, rule

_REASON = "the state of a recurrent operator"


def _inputs(directions: int, size: int) -> Ints:
    """Every direction reads the same features."""
    return np.broadcast_to(np.arange(size), (directions, size))


@rule("LSTM", "GRU", "RNN")
def recurrent(node: ir.Node, trace: Trace) -> None:
    """W (directions, gates · hidden, inputs) reads the data, R (…, hidden) the state."""
    steps = trace.shapes.size(node.inputs[0], 1 if attribute(node, "layout", 0) else 0)
    data = trace.map_on(node.inputs[0], 2)
    for position, incoming in ((1, data), (2, Boundary(_REASON))):
        view = trace.constants.view(node.inputs[position])
        if view is None or len(view.seen_shape()) != 3:
            trace.freeze(incoming, f"{label(node)}: its weights are computed from others")
            trace.read(node.inputs[position])
            continue
        directions, _, size = view.seen_shape()
        trace.use(node, view, incoming, inputs=_inputs(directions, size), source=None, positions=steps)
    for value in node.outputs:
        trace.put(value, Boundary(_REASON))


@surgery("LSTM", "GRU", "RNN")
def cut_recurrent(node: ir.Node, operation: Operation) -> Iterator[Edit]:
    """Fewer features come in; the state keeps its size."""
    for use in operation.uses.get(node, []):
        if use.view.value is node.inputs[1]:
            yield from operation.cut(node, 1, {2: np.flatnonzero(operation.kept.inputs(use)[0])})
