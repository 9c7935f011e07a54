"""Taking channels out of a file: what must change at each node so that smaller tensors still fit.

A surgery rule stands beside the channel rule of its operator family in `rules/` and yields edits. An
operator without one needs none: it takes whatever number of channels comes.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import onnx_ir as ir

from worker.engine.formats.base import Network
from worker.engine.formats.edits import Cut, Edit, SetAttribute, SetOperand
from worker.engine.graph.analysis import Graph
from worker.engine.graph.constants import Constants, attribute
from worker.engine.graph.counts import multiplied
from worker.engine.graph.kept import Axes, Kept
from worker.engine.graph.layer import LayerUse
from worker.engine.graph.views import WeightView

Array = np.ndarray[Any, np.dtype[Any]]
Surgery = Callable[[ir.Node, "Operation"], Iterator[Edit]]

_RULES: dict[tuple[str, str], Surgery] = {}


def surgery(*ops: str, domain: str = "") -> Callable[[Surgery], Surgery]:
    """Register what operators of one family need."""

    def register(function: Surgery) -> Surgery:
        for op in ops:
            _RULES[domain, op] = function
        return function

    return register


@final
@dataclass(frozen=True)
class Operation:
    """One removal of channels from one network."""

    kept: Kept
    network: Network
    constants: Constants
    uses: dict[ir.Node, list[LayerUse]]

    def cut(self, node: ir.Node, index: int, axes: Axes) -> Iterator[Edit]:
        """A constant operand with only the kept indices along some of its axes (negative ones from the end).

        Exporters may compute one, a bias of zeros from the weight's shape; then its value is stored.
        """
        operand = node.inputs[index] if index < len(node.inputs) else None
        view = self.constants.view(operand)
        place = None if view is None else _stored_place(node, index, view)
        array = self.constants.array(operand) if view is None else self._read(view, decoded=place is None)
        if array is None:
            return
        before = array.shape
        taken: Array = np.ones(array.shape, dtype=np.bool_)
        for axis, indices in axes.items():
            if array.ndim and array.shape[axis] > 1 and len(indices) < array.shape[axis]:
                taken = taken & _along(array.shape, axis, indices)
                array = np.take(array, indices, axis=axis)
        if array.shape == before:
            return
        where = None if view is None else _stored_cut(view, taken)
        if view is not None and place is not None:
            node, index, array = *place, view.back(array)
            if node.op_type == "DequantizeLinear" and index == 0 and where is not None:
                yield from self._parameters(node, array.ndim, where)
        else:
            array = as_read(operand, array)
        yield SetOperand(node, index, np.ascontiguousarray(array), where)

    def _parameters(self, node: ir.Node, rank: int, cut: Cut) -> Iterator[Edit]:
        """Scales and zero points of a DequantizeLinear, one for each index along its axis, follow the tensor
        they belong to."""
        axis = attribute(node, "axis", 1)
        kept = cut.kept.get(axis + rank if axis < 0 else axis)
        for operand in range(1, len(node.inputs)):
            if kept is not None:
                yield from self.cut(node, operand, {0: kept})

    def _read(self, view: WeightView, *, decoded: bool) -> Array:
        """A stored tensor as an operator sees it; integers that stand for others as what they stand for."""
        array, quantization = self.network.read(view.value), view.quantization
        if decoded and quantization is not None:
            centred = array.astype(np.float32) - quantization.zero_point.astype(np.float32)
            array = (centred * quantization.scale).astype(quantization.scale.dtype)
        return view.forward(array)

    def broadcast(self, node: ir.Node, index: int, result: ir.Value) -> Iterator[Edit]:
        """A stored operand that broadcasts against a result whose axes lose indices."""
        operand, shape = node.inputs[index], self.kept.graph.shapes.of(result)
        own = self.kept.graph.shapes.of(operand)
        stored = self.constants.view(operand) is not None or self.constants.is_fixed(operand)
        if not stored or own is None or shape is None:
            return
        shift = len(shape) - len(own)
        axes = {axis - shift: kept for axis, kept in self.kept.axes(result).items() if axis >= shift}
        yield from self.cut(node, index, axes)

    def target(self, node: ir.Node, index: int, result: ir.Value) -> Iterator[Edit]:
        """A shape operand (of Reshape, Expand, Resize): constant sizes of axes that lose indices follow."""
        changed = {axis: len(kept) for axis, kept in self.kept.axes(result).items()}
        operand = node.inputs[index] if index < len(node.inputs) else None
        like = shaped_like(node, index)
        if like is not None and changed != {axis: len(left) for axis, left in self.kept.axes(like).items()}:
            yield from self._spelled_out(node, index, changed)
        if not changed or operand is None:
            return
        if operand is not None and self.constants.is_fixed(operand):
            yield from self._resized(node, index, 0, changed)
            return
        parts = _put_together(operand)
        if parts is not None:
            yield from self._resized_parts(parts, changed)

    def _spelled_out(self, node: ir.Node, index: int, changed: dict[int, int]) -> Iterator[Edit]:
        """A Reshape to the shape of something that keeps more or less: what is the same in the operand is
        taken from there, whatever it is when the file runs."""
        before, after = (self.kept.graph.shapes.of(value) for value in (node.inputs[0], node.outputs[0]))
        if before is None or after is None or node.op_type != "Reshape" or attribute(node, "allowzero", 0):
            return
        stays = [axis < len(before) and size == before[axis] for axis, size in enumerate(after)]
        sizes = [changed.get(a, 0 if stays[a] else size) for a, size in enumerate(after)]
        yield SetOperand(node, index, np.array([-1 if size is None else size for size in sizes], np.int64))

    def _resized_parts(self, concat: ir.Node, changed: dict[int, int]) -> Iterator[Edit]:
        """A shape put together by Concat, perhaps of parts that are put together. A part that is one count of
        channels is fixed, however it was computed: from the shape of a tensor that loses them, or of one that
        does not."""
        start = 0
        for index, part in enumerate(concat.inputs):
            known, producer = self.constants.array(part), None if part is None else part.producer()
            parts = _put_together(part)
            length = self.kept.graph.shapes.size(part, 0) if known is None else known.size
            if length is None:
                return
            inside = {axis - start: size for axis, size in changed.items() if 0 <= axis - start < length}
            if self.constants.is_fixed(part):
                yield from self._resized(concat, index, start, changed)
            elif inside and length == 1:
                times = multiplied(producer, inside[0], self.constants)
                yield from [times] if times is not None else self._resized(concat, index, start, changed)
            elif inside and parts is not None:
                yield from self._resized_parts(parts, inside)
            start += length

    def _resized(self, node: ir.Node, index: int, start: int, changed: dict[int, int]) -> Iterator[Edit]:
        sizes = self.constants.array(node.inputs[index])
        if sizes is None:
            return
        new = sizes.copy()
        for axis, size in changed.items():
            if start <= axis < start + new.size and new.reshape(-1)[axis - start] > 0:
                new.reshape(-1)[axis - start] = size
        if not np.array_equal(new, sizes):
            yield SetOperand(node, index, new)


def _put_together(shape: ir.Value | None) -> ir.Node | None:
    """The Concat that makes a shape, perhaps in another type of integers (TensorFlow counts in int32), or
    with ones for what stays as it is (torch writes Expand's as Where(it is −1, 1, it))."""
    producer = None if shape is None else shape.producer()
    while producer is not None and producer.op_type in ("Cast", "Identity", "Reshape", "Where"):
        following = producer.inputs[2 if producer.op_type == "Where" else 0]
        producer = None if following is None else following.producer()
    return producer if producer is not None and producer.op_type == "Concat" else None


def _along(shape: tuple[int, ...], axis: int, indices: Array) -> Array:
    """True at the indices along one axis, broadcast to the shape."""
    mask = np.zeros(shape[axis], dtype=bool)
    mask[indices] = True
    return mask.reshape([-1 if place == axis % len(shape) else 1 for place in range(len(shape))])


#: Operators whose operand may get smaller without any change of their own.
_FOLLOWING = {"Transpose", "Identity", "Cast", "Dropout", "DequantizeLinear"}


def _stored_place(node: ir.Node, index: int, view: WeightView) -> tuple[ir.Node, int] | None:
    """Where a tensor that one operator reads through others (Transpose, Cast, scales) is read as
    it is stored: there it can be replaced, and stays as it is stored. Others may read it so (an output layer
    that is the embedding table), and go on sharing it. None where something on the way holds its sizes."""
    operand = node.inputs[index]
    while operand is not view.value:
        producer = None if operand is None else operand.producer()
        if producer is None or operand is None or len(list(operand.uses())) > 1:
            return None
        if producer.op_type not in _FOLLOWING:
            return None
        node, index, operand = producer, 0, producer.inputs[0]
    return node, index


def as_read(operand: ir.Value | None, array: Array) -> Array:
    """In the type that the last Cast on the way makes of what is stored."""
    producer = None if operand is None else operand.producer()
    while producer is not None and producer.op_type != "Cast" and producer.inputs:
        following = producer.inputs[0]
        producer = None if following is None else following.producer()
    if producer is None or producer.op_type != "Cast":
        return array
    return array.astype(ir.DataType(attribute(producer, "to")).numpy())


def _stored_cut(view: WeightView, taken: Array) -> Cut | None:
    """A cut seen by the operator, on the axes of the stored tensor; None where it is no cut along these."""
    stored = view.back(taken)
    kept = {}
    for axis, size in enumerate(stored.shape):
        left = np.flatnonzero(stored.any(axis=tuple(a for a in range(stored.ndim) if a != axis)))
        if len(left) < size:
            kept[axis] = left
    whole = int(np.prod([len(kept.get(axis, range(size))) for axis, size in enumerate(stored.shape)]))
    return Cut(view.value, kept) if np.count_nonzero(stored) == whole else None


def operate(graph: Graph, network: Network, kept: Kept) -> list[Edit]:
    """Every edit that takes out of the network what `kept` does not keep."""
    operation = Operation(kept, network, Constants(network, graph.shapes), {})
    for layer in (*graph.layers, *graph.refused):
        for use in layer.uses:
            operation.uses.setdefault(use.node, []).append(use)
    edits: list[Edit] = []
    for node in network.structure.graph:
        rule = _RULES.get(("" if node.domain == "ai.onnx" else node.domain, node.op_type))
        if rule is not None and _touched(node, kept, operation.uses.get(node, ())):
            edits.extend(rule(node, operation))
    return edits


def _touched(node: ir.Node, kept: Kept, uses: Sequence[LayerUse]) -> bool:
    """True where something goes around the node, or within (queries and keys of a fused attention)."""
    values = (*node.inputs, *node.outputs, shaped_like(node, 1))
    return any(kept.axes(value) for value in values) or not all(kept.outputs(use).all() for use in uses)


def shaped_like(node: ir.Node, index: int) -> ir.Value | None:
    """The tensor whose whole shape is a Reshape's target, as optimizers write it; None for other targets."""
    operand = node.inputs[index] if index < len(node.inputs) else None
    producer = None if operand is None else operand.producer()
    whole = producer is not None and producer.op_type == "Shape" and not producer.attributes
    return producer.inputs[0] if producer is not None and whole and node.op_type == "Reshape" else None


__all__ = ["Edit", "Operation", "SetAttribute", "SetOperand", "as_read", "operate", "surgery"]
