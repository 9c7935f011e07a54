"""Rotary positions as one operator, ONNX's or ONNX Runtime's: features turn in pairs, alike in all heads."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from worker.engine.graph.channels import ChannelMap, Ints, Term, is_stored
from worker.engine.graph.constants import attribute
from worker.engine.graph.heads import alike
from worker.engine.graph.shapes import Shapes
from worker.engine.graph.surgery import Edit, Operation, SetAttribute, surgery
from worker.engine.graph.trace import Trace, label, rule

_MICROSOFT = "com.microsoft"


@dataclass(frozen=True)
class _Turn:
    """How the operator sees its data: so many heads side by side (or on axis 1) of so many features each, of
    which the first `width` turn, in pairs of neighbours or of halves."""

    heads: int
    features: int
    width: int
    interleaved: bool

    def grid(self) -> Ints:
        """Flat indices, (heads, features)."""
        return np.arange(self.heads * self.features).reshape(self.heads, self.features)

    def pairs(self) -> Ints:
        """Features that turn together, (pairs, 2)."""
        turned = np.arange(self.width)
        return turned.reshape(-1, 2) if self.interleaved else turned.reshape(2, -1).T

    def partners(self) -> Ints:
        """The flat index that every flat index turns with, −1 for those that do not turn."""
        partner = np.full(self.features, -1)
        first, second = self.pairs().T
        partner[first], partner[second] = second, first
        starts = self.grid()[:, :1]
        return np.where(partner >= 0, starts + partner, -1).reshape(-1)


def _tables(node: ir.Node) -> tuple[int, int]:
    """Which operands are the cosines and the sines."""
    return (2, 3) if node.domain == _MICROSOFT else (1, 2)


def _turn(node: ir.Node, shapes: Shapes) -> _Turn | None:
    shape = shapes.of(node.inputs[0])
    if shape is None or len(shape) not in (3, 4) or shape[-1] is None or (len(shape) == 4 and not shape[1]):
        return None
    columns = shapes.size(node.inputs[_tables(node)[0]], -1) or 0
    heads = int(shape[1] or 1) if len(shape) == 4 else int(attribute(node, "num_heads", 0))
    size = int(shape[-1]) * (heads if len(shape) == 4 else 1)
    if not heads:  # ONNX Runtime then takes the tables' width for a whole head's
        heads = size // (2 * columns) if columns else 0
    if not heads or size % heads:
        return None
    width = int(attribute(node, "rotary_embedding_dim", 0)) or size // heads
    return _Turn(heads, size // heads, width, bool(attribute(node, "interleaved", 0)))


@rule("RotaryEmbedding")
def rotary(node: ir.Node, trace: Trace) -> None:
    """Every index gets something of its own unit and of the one that it turns with."""
    channels, turn = trace.channels(node.inputs[0]), _turn(node, trace.shapes)
    if not isinstance(channels, ChannelMap) or turn is None:
        trace.freeze(channels, f"{label(node)} turns them in pairs")
        trace.put(node.outputs[0], channels)
        return
    if math.prod(channels.sizes) != turn.heads * turn.features:
        trace.freeze(channels, f"{label(node)} turns them in pairs")
        trace.put(node.outputs[0], channels)
        return
    trace.put(node.outputs[0], _turned(channels, turn))
    if trace.heads:
        alike(trace, channels, turn.grid())
    elif all(_follows(node, trace, channels, turn, index) for index in _tables(node)):
        alike(trace, channels, turn.grid().T)
        alike(trace, channels, turn.pairs())
    else:
        trace.freeze(channels, f"{label(node)} turns them by tables that are computed")


@rule("RotaryEmbedding", domain=_MICROSOFT)
def rotary_of_runtime(node: ir.Node, trace: Trace) -> None:
    """The same, with the positions before the tables."""
    rotary(node, trace)


def _turned(channels: ChannelMap, turn: _Turn) -> ChannelMap:
    """The map of the result: each of the terms, and each once more at its partner's place."""
    partners = turn.partners()

    def moved(term: Term) -> Term:
        units = np.where(partners >= 0, term.units.reshape(-1)[partners], -1)
        slope = None if term.slope is None else term.slope.reshape(-1)[partners].reshape(channels.sizes)
        return Term(term.source, units.reshape(channels.sizes), slope)

    return replace(channels, terms=(*channels.terms, *map(moved, channels.terms)))


def _follows(node: ir.Node, trace: Trace, channels: ChannelMap, turn: _Turn, index: int) -> bool:
    """Tie pairs to the columns of a table; False for one that is neither stored nor a stored one repeated."""
    table, shape = trace.channels(node.inputs[index]), trace.shape(node.inputs[index])
    if trace.constants.view(node.inputs[index]) is not None:
        return True
    if not is_stored(table) or shape is None or not isinstance(table, ChannelMap):
        return False
    pairs = turn.pairs()
    trace.tie(channels, pairs[:, 0], table, np.arange(len(pairs)))
    return table.axes == (len(shape) - 1,)


@surgery("RotaryEmbedding")
def cut_rotary(node: ir.Node, operation: Operation) -> Iterator[Edit]:
    """The tables have a column for each pair; what is said of heads and of the part that turns follows."""
    data, turn = node.inputs[0], _turn(node, operation.kept.graph.shapes)
    channels = None if data is None else operation.kept.graph.maps.get(data)
    if not isinstance(channels, ChannelMap) or turn is None:
        return
    left = operation.kept.grid(channels).reshape(turn.heads, turn.features)
    heads = int(np.count_nonzero(left.any(axis=1)))
    if attribute(node, "num_heads", 0) and heads < turn.heads:
        yield SetAttribute(node, "num_heads", heads)
    pairs = turn.pairs()
    stay = np.flatnonzero(left[:, pairs[:, 0]].any(axis=0))
    if len(stay) == len(pairs):
        return
    if attribute(node, "rotary_embedding_dim", 0):
        yield SetAttribute(node, "rotary_embedding_dim", 2 * len(stay))
    for index in _tables(node):
        yield from operation.cut(node, index, {-1: stay})


@surgery("RotaryEmbedding", domain=_MICROSOFT)
def cut_rotary_of_runtime(node: ir.Node, operation: Operation) -> Iterator[Edit]:
    """The same."""
    yield from cut_rotary(node, operation)
