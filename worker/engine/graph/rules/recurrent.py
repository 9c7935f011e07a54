"""LSTM, GRU, RNN: both weight matrices are layers. Each feature of the state is a unit that all gates of both
make, and that the recurrent matrix reads again; where nothing else may change its size it is a boundary."""

from collections.abc import Iterator, Sequence
from typing import final

import numpy as np
import onnx_ir as ir

from api_schemas.models import ModelFormat
from worker.engine.graph.channels import Boundary, ChannelMap, Ints, Source, Term, joined
from worker.engine.graph.constants import attribute
from worker.engine.graph.surgery import Edit, Operation, SetAttribute, surgery
from worker.engine.graph.trace import Trace, label, rule
from worker.engine.graph.views import WeightView

_REASON = "the state of a recurrent operator"
#: Operands: the two weights, both biases, where state and cell begin, and what the cell adds to the gates.
_WEIGHTS, _BIAS, _BEGINNINGS, _PEEPHOLES = (1, 2), 3, (5, 6), 7
#: Operators that pass a beginning on as it is.
_PASSING = {"Identity", "Cast", "Slice", "Unsqueeze"}


def _inputs(directions: int, size: int) -> Ints:
    """Every direction reads the same features."""
    return np.broadcast_to(np.arange(size), (directions, size))


@rule("LSTM", "GRU", "RNN")
def recurrent(node: ir.Node, trace: Trace) -> None:
    """W (directions, gates · hidden, inputs) reads the data, R (…, hidden) the state."""
    steps = trace.shapes.size(node.inputs[0], 1 if attribute(node, "layout", 0) else 0)
    state = _State.of(node, trace)
    before = Boundary(_REASON) if state is None else state.along((0,), 1)
    data = trace.map_on(node.inputs[0], 2)
    for position, incoming in zip(_WEIGHTS, (data, before), strict=True):
        view = trace.constants.view(node.inputs[position])
        if view is None or len(view.seen_shape()) != 3:
            trace.freeze(incoming, f"{label(node)}: its weights are computed from others")
            trace.read(node.inputs[position])
            continue
        directions, _, size = view.seen_shape()
        inputs = _inputs(directions, size)
        if isinstance(incoming, ChannelMap) and position == 2:
            inputs = np.arange(directions * size).reshape(directions, size)
        source = None if state is None else state.sources[position - 1]
        trace.use(node, view, incoming, inputs=inputs, source=source, positions=steps)
    for place, value in enumerate(node.outputs):
        made = None if state is None else state.along((1,), 3) if place == 0 else state.along((0,), 2)
        trace.put(value, Boundary(_REASON) if made is None else made)


@final
class _State:
    """The features of a state that may get fewer, in each direction."""

    def __init__(self, node: ir.Node, views: Sequence[WeightView]) -> None:
        self._directions, self._rows, self.hidden = views[1].seen_shape()
        count = self._directions * self._rows
        self.sources = tuple(Source(f"{label(node)} {name}", count) for name in "WR")

    @classmethod
    def of(cls, node: ir.Node, trace: Trace) -> "_State | None":
        """None where something that cannot follow holds the size of the state."""
        views = [trace.constants.view(node.inputs[position]) for position in _WEIGHTS]
        known = [view for view in views if view is not None and len(view.seen_shape()) == 3]
        plain = trace.format is ModelFormat.ONNX and not attribute(node, "layout", 0)
        if len(known) < 2 or not plain or any(view.quantization is not None for view in known):
            return None
        if not all(_is_stored(node, place, trace) for place in (_BIAS, _PEEPHOLES)):
            return None
        state = cls(node, known)
        begun = [_passing(node, place, state.hidden, trace) for place in _BEGINNINGS]
        if any(values is None for values in begun):
            return None
        for value in (value for values in begun for value in values or ()):
            state._also(value, trace)
        return state

    def along(self, direction: tuple[int], axis: int) -> ChannelMap:
        """The map over the hidden axis, and that of the directions where there are two."""
        hidden = np.arange(self.hidden)
        begins = np.arange(self._directions)[:, None] * self._rows
        terms = []
        for source in self.sources:
            for gate in range(0, self._rows, self.hidden):
                units = begins + gate + hidden
                terms.append(Term(source, units if self._directions > 1 else units[0]))
        axes, sizes = ((*direction, axis), (self._directions, self.hidden))
        if self._directions == 1:
            return ChannelMap(axes[1:], sizes[1:], tuple(terms))
        return ChannelMap(axes, sizes, tuple(terms))

    def _in_any_direction(self, axis: int) -> ChannelMap:
        """The map over the hidden axis alone."""
        found = self.along((0,), 1)
        places = found.terms if self._directions == 1 else _unstacked(found.terms)
        return ChannelMap((axis,), (self.hidden,), tuple(places))

    def _also(self, value: ir.Value, trace: Trace) -> None:
        """What the state begins with gets as many features; layers that begin alike keep the same."""
        own, other = self._in_any_direction(len(trace.shape(value) or ()) - 1), trace.channels(value)
        fits = isinstance(other, ChannelMap) and (other.axes, other.sizes) == (own.axes, own.sizes)
        trace.put(value, joined(other, own) if fits and isinstance(other, ChannelMap) else own)


def _unstacked(terms: Sequence[Term]) -> Iterator[Term]:
    for term in terms:
        for units in term.units:
            yield Term(term.source, units)


def _is_stored(node: ir.Node, place: int, trace: Trace) -> bool:
    operand = node.inputs[place] if place < len(node.inputs) else None
    return operand is None or trace.constants.view(operand) is not None


def _passing(node: ir.Node, place: int, hidden: int, trace: Trace) -> list[ir.Value] | None:
    """Computed values on the way to where the state begins with a constant, none where it is stored; or None
    where it begins with something else. Their last axis is that of the features."""
    value = node.inputs[place] if place < len(node.inputs) else None
    if value is None or trace.constants.view(value) is not None:
        return []
    found: list[ir.Value] = []
    while value is not None and trace.shapes.size(value, -1) == hidden:
        found.append(value)
        producer = value.producer()
        if producer is None:
            return None
        if producer.op_type == "ConstantOfShape":
            return found if _ends_in_a_number(producer.inputs[0], trace) else None
        if producer.op_type == "Expand":
            stored = trace.constants.view(producer.inputs[0]) is not None
            return found if stored and _ends_in_a_number(producer.inputs[1], trace) else None
        if producer.op_type not in _PASSING:
            return None
        value = producer.inputs[0]
    return None


def _ends_in_a_number(shape: ir.Value | None, trace: Trace) -> bool:
    """True for a shape that is stored, or put together with a stored last part."""
    if shape is None or trace.constants.is_fixed(shape):
        return shape is not None
    producer = shape.producer()
    while (
        producer is not None and producer.op_type in ("Cast", "Identity") and producer.inputs[0] is not None
    ):
        producer = producer.inputs[0].producer()
    whole = producer is not None and producer.op_type == "Concat"
    return whole and producer is not None and trace.constants.is_fixed(producer.inputs[-1])


@surgery("LSTM", "GRU", "RNN")
def cut_recurrent(node: ir.Node, operation: Operation) -> Iterator[Edit]:
    """Fewer features come in; fewer make the state, in every gate, and stand in its biases and beginnings."""
    for use in operation.uses.get(node, []):
        position = next(p for p in _WEIGHTS if operation.constants.view(node.inputs[p]) == use.view)
        rows = np.flatnonzero(operation.kept.outputs(use)[0])
        axes = {1: rows, 2: np.flatnonzero(operation.kept.inputs(use)[0])}
        yield from operation.cut(node, position, axes)
        if position == 2 and len(rows) < use.outputs.shape[1]:
            yield from _narrowed(node, operation, rows, use.outputs.shape[1])


def _narrowed(node: ir.Node, operation: Operation, rows: Ints, count: int) -> Iterator[Edit]:
    """Everything else that has a number for each feature of the state; `rows` of `count` stay."""
    gates = {"LSTM": 4, "GRU": 3}.get(node.op_type, 1)
    hidden = count // gates
    left = rows[rows < hidden]
    yield from operation.cut(node, _BIAS, {1: np.concatenate([rows, rows + count])})
    yield from operation.cut(
        node, _PEEPHOLES, {1: np.concatenate([left + gate * hidden for gate in range(3)])}
    )
    for place in _BEGINNINGS:
        if place < len(node.inputs) and operation.constants.view(node.inputs[place]) is not None:
            yield from operation.cut(node, place, {2: left})
    yield SetAttribute(node, "hidden_size", len(left))


@surgery("ConstantOfShape")
def cut_filled(node: ir.Node, operation: Operation) -> Iterator[Edit]:
    """What a state begins with, as wide as the state."""
    yield from operation.target(node, 0, node.outputs[0])
