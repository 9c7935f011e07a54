"""Einsum of two operands that is a matrix product: of two activations, or of one with a stored weight."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from worker.engine.graph.channels import (
    Boundary,
    ChannelMap,
    Channels,
    Permuted,
    Reshaped,
    Source,
    fresh,
    mapped,
)
from worker.engine.graph.constants import attribute
from worker.engine.graph.layer import Summed
from worker.engine.graph.products import multiplied
from worker.engine.graph.shapes import Shape
from worker.engine.graph.surgery import Edit, Operation, surgery
from worker.engine.graph.trace import Trace, label, rule
from worker.engine.graph.views import Reshape, transposed

#: Stands for an axis of size 1 that a product has and the equation has not.
_NONE = "."


@dataclass(frozen=True)
class _Equation:
    """The letters of both operands and of the result, and which of them each part of a product has."""

    left: str
    right: str
    result: str

    @property
    def batch(self) -> str:
        return "".join(x for x in self.result if x in self.left and x in self.right)

    @property
    def rows(self) -> str:
        return "".join(x for x in self.left if x in self.result and x not in self.right)

    @property
    def columns(self) -> str:
        return "".join(x for x in self.right if x in self.result and x not in self.left)

    @property
    def summed(self) -> str:
        return "".join(x for x in self.left if x in self.right and x not in self.result)

    def turned(self) -> "_Equation":
        """The same with the operands in the other order."""
        return _Equation(self.right, self.left, self.result)


def _equation(node: ir.Node) -> _Equation | None:
    """None for what is no product of two operands, every letter once in each and none in one alone."""
    text = str(attribute(node, "equation", "")).replace(" ", "")
    before, arrow, result = text.partition("->")
    operands = before.split(",")
    if len(operands) != 2 or not arrow or "." in text:
        return None
    letters = (*operands, result)
    alone = any(sum(x in part for part in letters) < 2 for x in "".join(letters))
    return None if alone or any(len(set(part)) < len(part) for part in letters) else _Equation(*letters)


@rule("Einsum")
def einsum(node: ir.Node, trace: Trace) -> None:
    """Matrix products are followed; everything else is a boundary."""
    found = _equation(node)
    stored = [trace.constants.view(value) is not None for value in node.inputs]
    if found is not None and stored == [False, True] and not found.batch:
        _with_weight(node, trace, found, 1)
    elif found is not None and stored == [True, False] and not found.batch:
        _with_weight(node, trace, found.turned(), 0)
    elif found is not None and stored == [False, False] and _is_product(found):
        _of_activations(node, trace, found)
    else:
        for value in node.inputs:
            trace.refuse(node, value, "an Einsum that is no matrix product")
        trace.stop(node, "an Einsum that is no matrix product")


def _is_product(found: _Equation) -> bool:
    return len(found.summed) == 1 and len(found.rows) <= 1 and len(found.columns) <= 1


def _of_activations(node: ir.Node, trace: Trace, found: _Equation) -> None:
    rows, columns = found.rows or _NONE, found.columns or _NONE
    orders = (found.batch + rows + found.summed, found.batch + found.summed + columns)
    sides: list[tuple[Channels, Shape]] = []
    for value, letters, order in zip(node.inputs, (found.left, found.right), orders, strict=True):
        shape = trace.shape(value)
        if shape is None:
            trace.stop(node, "a product of activations of unknown shape")
            return
        laid = tuple(1 if x == _NONE else shape[letters.index(x)] for x in order)
        sides.append((_moved(trace.channels(value), letters, order), laid))
    result = multiplied(node, trace, sides[0], sides[1])
    trace.put(node.outputs[0], _moved(result, found.batch + rows + columns, found.result))
    places = (found.left.index(found.summed), found.right.index(found.summed))
    trace.findings.summed += [Summed(node, index, (place,)) for index, place in enumerate(places)]


def _moved(channels: Channels, before: str, after: str) -> Channels:
    """A map with its axes where their letters stand afterwards."""
    if isinstance(channels, Boundary):
        return channels
    letters = [before[axis] for axis in channels.axes]
    places = sorted(range(len(letters)), key=lambda place: after.index(letters[place]))
    axes = [after.index(letters[place]) for place in places]
    return mapped(channels, Permuted(places), axes, [channels.sizes[place] for place in places])


def _with_weight(node: ir.Node, trace: Trace, found: _Equation, place: int) -> None:
    """A layer: its outputs lie in the order of the result, its inputs in that of the data."""
    data, view = node.inputs[1 - place], trace.constants.view(node.inputs[place])
    shape = trace.shape(node.outputs[0])
    if view is None or shape is None or None in shape or not found.columns or not found.summed:
        trace.stop(node, "an Einsum that is no matrix product")
        return
    outputs = [x for x in found.result if x in found.columns]
    inputs = [x for x in found.left if x in found.summed]
    sizes = dict(zip(found.right, view.seen_shape(), strict=True))
    counts = [math.prod(sizes[x] for x in letters) for letters in (outputs, inputs)]
    order = [found.right.index(x) for x in (*outputs, *inputs)]
    laid = tuple(view.seen_shape()[axis] for axis in order)
    seen = view.then(transposed(order), Reshape(laid, (1, *counts)))
    positions = math.prod(size or 1 for size in shape) // counts[0]
    source = Source(label(node), counts[0])
    incoming = _read(trace, data, [found.left.index(x) for x in inputs])
    trace.use(node, seen, incoming, source=source, positions=positions)
    axes, own = [found.result.index(x) for x in outputs], [sizes[x] for x in outputs]
    trace.put(node.outputs[0], mapped(fresh(source, axes[0]), Reshaped(own), axes, own))


def _read(trace: Trace, data: ir.Value | None, axes: Sequence[int]) -> Channels:
    """The map of the data, when its channels lie on just those axes."""
    channels = trace.channels(data)
    if isinstance(channels, ChannelMap) and channels.axes != tuple(axes):
        reason = f"channels lie on axes {list(channels.axes)}, Einsum reads axes {list(axes)}"
        trace.read(data, reason)
        return Boundary(reason)
    return channels


@surgery("Einsum")
def cut_einsum(node: ir.Node, operation: Operation) -> Iterator[Edit]:
    """The weight loses what its letters lose in the data and in the result."""
    found = _equation(node)
    stored = [operation.constants.view(value) is not None for value in node.inputs]
    if found is None or True not in stored:
        return
    place = stored.index(True)
    found = found if place else found.turned()
    lost = {found.left[axis]: left for axis, left in operation.kept.axes(node.inputs[1 - place]).items()}
    lost |= {found.result[axis]: left for axis, left in operation.kept.axes(node.outputs[0]).items()}
    axes = {axis: np.asarray(lost[x]) for axis, x in enumerate(found.right) if x in lost}
    yield from operation.cut(node, place, axes)
