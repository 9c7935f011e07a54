"""Stored tensors that join the data without being multiplied: embedding tables, class and other tokens.

Their units are sources of their own, which go with the channels of what they are added to or stand beside.
"""

from collections.abc import Iterator, Sequence

import onnx_ir as ir

from worker.engine.graph.channels import Boundary, Channels, Source, fresh
from worker.engine.graph.constants import attribute
from worker.engine.graph.surgery import Edit, Operation
from worker.engine.graph.trace import Trace, label


def look_up(node: ir.Node, trace: Trace) -> None:
    """Gather from a stored table: a table of rows of features makes as many units as it has columns."""
    trace.refuse(node, node.inputs[0], "an embedding table: rows are looked up, not multiplied")
    view, result = trace.constants.view(node.inputs[0]), trace.shape(node.outputs[0])
    shape = None if view is None else view.seen_shape()
    table = shape is not None and len(shape) == 2 and attribute(node, "axis", 0) % 2 == 0
    if shape is None or not table or result is None or len(result) < 2:
        trace.put(node.outputs[0], Boundary("an embedding"))
        return
    trace.put(node.outputs[0], fresh(Source(label(node), shape[1], stored=True), len(result) - 1))


def cut_table(node: ir.Node, operation: Operation) -> Iterator[Edit]:
    """The table loses columns."""
    rank = len(operation.kept.graph.shapes.of(node.outputs[0]) or ())
    kept = operation.kept.axes(node.outputs[0]).get(rank - 1)
    if kept is not None:
        yield from operation.cut(node, 0, {-1: kept})


def features(node: ir.Node, trace: Trace) -> Channels:
    """The map of a stored first operand: a token that is repeated, a table of which some rows are taken."""
    view = trace.constants.view(node.inputs[0])
    return _features(node, () if view is None else view.seen_shape(), None)


def tokens(node: ir.Node, trace: Trace) -> Channels:
    """The map of stored tensors side by side (Concat)."""
    shape = trace.shape(node.outputs[0])
    if shape is None or any(trace.constants.view(value) is None for value in node.inputs):
        return Boundary("no operand's channels are known")
    return _features(node, [size or 0 for size in shape], attribute(node, "axis") % len(shape))


def _features(node: ir.Node, shape: Sequence[int], beside: int | None) -> Channels:
    """Features on the last axis that is not of size 1, as tokens have them."""
    wide = [axis for axis, size in enumerate(shape) if size > 1 and axis != beside]
    if not wide:
        return Boundary("a constant")
    return fresh(Source(label(node), shape[wide[-1]], stored=True), wide[-1])
