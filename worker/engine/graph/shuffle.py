"""Channel shuffle: Reshape, Transpose, Reshape that only put channels in another order.

Followed step by step, both halves would have to lose the same positions, and after a few such units all
channels were bound to each other. As one permutation it binds nothing: what is left is gathered in its order.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx_ir as ir

from api_schemas.models import ModelFormat
from worker.engine.formats.edits import Permute
from worker.engine.graph.channels import ChannelMap, Channels, Ints, taken
from worker.engine.graph.constants import attribute
from worker.engine.graph.shapes import Shape, Shapes
from worker.engine.graph.surgery import Edit, Operation
from worker.engine.graph.trace import Trace

Found = tuple[ir.Value, int, Ints]


def starts_shuffle(node: ir.Node, trace: Trace) -> bool:
    """True for the first Reshape of a shuffle."""
    after = _only_reader(node)
    last = None if after is None else _only_reader(after)
    found = None if last is None or trace.format is not ModelFormat.ONNX else shuffled(last, trace.shapes)
    return found is not None and _along(trace.channels(found[0]), found[1])


def _along(channels: Channels | None, axis: int) -> bool:
    """False where what changes places is no channel but a row, say: that is followed step by step."""
    return not isinstance(channels, ChannelMap) or channels.axes == (axis,)


def shuffled_map(node: ir.Node, trace: Trace) -> ChannelMap | None:
    """The map that comes out of the last Reshape of a shuffle of channels."""
    found = shuffled(node, trace.shapes) if trace.format is ModelFormat.ONNX else None
    channels = None if found is None else trace.channels(found[0])
    return taken(channels, *found[1:]) if found is not None and isinstance(channels, ChannelMap) else None


def shuffled(last: ir.Node, shapes: Shapes) -> Found | None:
    """What is shuffled, along which axis, and the order; None where a Reshape does not end a shuffle."""
    transpose = _maker(last, "Transpose")
    first = None if transpose is None else _maker(transpose, "Reshape")
    data = None if first is None else first.inputs[0]
    if transpose is None or first is None or data is None:
        return None
    if _only_reader(first) is not transpose or _only_reader(transpose) is not last:
        return None
    whole, split, result = shapes.of(data), shapes.of(first.outputs[0]), shapes.of(last.outputs[0])
    if whole is None or split is None or whole != result or None in (*whole, *split):
        return None
    return _order(data, whole, split, list(attribute(transpose, "perm", range(len(split))[::-1])))


def _order(data: ir.Value, whole: Shape, split: Shape, perm: list[int]) -> Found | None:
    """One axis is split and its parts change places; all else stays where it is."""
    parts = len(split) - len(whole) + 1
    for axis, size in enumerate(whole):
        alike = split[:axis] == whole[:axis] and split[axis + parts :] == whole[axis + 1 :]
        moved = sorted(perm[axis : axis + parts]) == list(range(axis, axis + parts))
        others = [place for place in range(len(split)) if not axis <= place < axis + parts]
        if parts > 1 and alike and moved and all(perm[place] == place for place in others):
            grid: Any = np.arange(size or 0).reshape([count or 0 for count in split[axis : axis + parts]])
            return data, axis, grid.transpose([p - axis for p in perm[axis : axis + parts]]).reshape(-1)
    return None


def _maker(node: ir.Node, op: str) -> ir.Node | None:
    """The node that makes the first operand, when it is such an operator."""
    value = node.inputs[0] if node.inputs else None
    producer = None if value is None else value.producer()
    return producer if producer is not None and producer.op_type == op else None


def _only_reader(node: ir.Node) -> ir.Node | None:
    readers = [reader for reader, _ in node.outputs[0].uses()]
    return readers[0] if len(readers) == 1 and not node.outputs[0].is_graph_output() else None


def cut_shuffle(node: ir.Node, operation: Operation) -> Iterator[Edit]:
    """The last Reshape of a shuffle becomes a Gather of the channels that are left."""
    shapes = operation.kept.graph.shapes
    found = shuffled(node, shapes) if operation.network.format is ModelFormat.ONNX else None
    if found is None or not _along(operation.kept.graph.maps.get(found[0]), found[1]):
        return
    data, axis, order = found
    left = operation.kept.axes(data).get(axis)
    if left is not None:
        yield Permute(node, data, axis, np.searchsorted(left, order[np.isin(order, left)]))
