"""Orders of channels: groups of them that may change places together, and what stored tensors follow.

A permutation of a layer's outputs leaves the function as it is when everything that holds one number per
channel, and everything that reads the channels, is permuted alike. That asks for more than removal does: no
operator may look at positions. So every operator that a group touches must be known here to treat channels
alike; a group that meets any other is left in its order.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import onnx_ir as ir

from worker.engine.formats.base import Network
from worker.engine.formats.filled import filled
from worker.engine.graph.analysis import Graph
from worker.engine.graph.candidates import is_excluded
from worker.engine.graph.channels import ChannelMap, Channels, Ints, Source
from worker.engine.graph.constants import Constants, attribute
from worker.engine.graph.layer import Layer, LayerUse
from worker.engine.graph.views import Reshape, Transposed, WeightView

#: Operators that do the same to every channel and hold nothing per channel.
_ALIKE = set(
    """
    Relu LeakyRelu Elu Selu Celu ThresholdedRelu Sigmoid HardSigmoid HardSwish Tanh Softplus Softsign Mish
    Swish Erf Gelu Abs Neg Exp Log Sqrt Reciprocal Sign Floor Ceil Round Sin Cos Clip Identity Dropout Cast
    Softmax LogSoftmax MaxPool AveragePool LpPool GlobalAveragePool GlobalMaxPool GlobalLpPool Upsample Resize
    Pad Shape Flatten Reshape Transpose Squeeze Unsqueeze Concat Slice Split Expand LpNormalization
    ReduceMean ReduceSum ReduceMax ReduceMin ReduceProd ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp
    ReduceSumSquare
    """.split()
)
#: Operators whose stored operands broadcast against the channels.
_BROADCASTING = set(
    """
    Add Sub Mul Div Sum Mean Max Min PRelu Pow LayerNormalization RMSNormalization
    SimplifiedLayerNormalization
    """.split()
)
#: Of these only the first operand may be computed: the channels of others are not joined with its.
_ONE_OPERAND = {"PRelu", "Pow", "LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization"}
#: Operators whose further operands are vectors over axis 1.
_VECTORS = {"BatchNormalization", "InstanceNormalization"}
_PRODUCTS = {"Conv", "ConvTranspose", "Gemm", "MatMul"}


@final
@dataclass(frozen=True, eq=False)
class Order:
    """Index i along an axis of a stored tensor becomes what index `order[i]` was."""

    value: ir.Value
    axis: int
    order: Ints


@final
@dataclass(frozen=True, eq=False)
class Reader:
    """A layer that reads channels of a group: the channel behind each of its inputs, −1 for none of these."""

    layer: Layer
    channels: Ints


@final
@dataclass(frozen=True, eq=False)
class Follower:
    """A stored tensor that follows the channels: the channel at each index along its axis, −1 for none."""

    value: ir.Value
    axis: int
    channels: Ints


@final
@dataclass(frozen=True, eq=False)
class MovableGroup:
    """Channels that may change places, with everything that must follow them."""

    units: int
    followers: tuple[Follower, ...]
    readers: tuple[Reader, ...]

    def orders(self, channels: Ints) -> Iterator[Order]:
        """What becomes of every tensor when channel i is what channel `channels[i]` was."""
        for follower in self.followers:
            yield Order(follower.value, follower.axis, moved(follower.channels, channels))


def moved(labels: Ints, channels: Ints) -> Ints:
    """The order of an axis whose indices carry these channels, once channel i is what `channels[i]` was: the
    j-th index of the one goes where the j-th index of the other was. Indices of none stay."""
    order = np.arange(labels.size)
    inside = np.flatnonzero(labels >= 0)
    places = inside[np.argsort(labels[inside], kind="stable")].reshape(channels.size, -1)
    order[places] = places[channels]
    return order


def reorder(network: Network, orders: Iterable[Order]) -> None:
    """Put stored tensors in those orders."""
    for item in orders:
        stored = network.read(item.value)
        network.write(item.value, np.ascontiguousarray(np.take(stored, item.order, axis=item.axis)))


def inverse(orders: Sequence[Order]) -> list[Order]:
    """The orders that undo these."""
    return [Order(item.value, item.axis, np.argsort(item.order)) for item in reversed(orders)]


def movable_groups(graph: Graph, network: Network) -> tuple[MovableGroup, ...]:
    """Every group of channels of which a layer of the graph reads some, and that may be permuted."""
    return _Survey(graph, network).groups()


_Labels = Mapping[Source, tuple[int, Ints]]


@final
class _Survey:
    """Sources that meet at an index of any tensor make a group, called by its first source."""

    def __init__(self, graph: Graph, network: Network) -> None:
        self._graph, self._network = graph, network
        self._constants = Constants(network, graph.shapes)
        self._first: dict[Source, Source] = {}
        self._fixed: set[Source] = set()
        self._labels: dict[ir.Value, _Labels] = {}
        self._uses: dict[ir.Node, list[tuple[Layer, LayerUse]]] = defaultdict(list)
        self._needs: dict[tuple[Source, ir.Value, int], tuple[Ints, set[tuple[ir.Node, int]]]] = {}
        self._readers: dict[Source, list[Reader]] = defaultdict(list)
        for layer in (*graph.layers, *graph.refused):
            for use in layer.uses:
                self._uses[use.node].append((layer, use))

    def groups(self) -> tuple[MovableGroup, ...]:
        """All that may move."""
        maps = {value: found for value, found in self._graph.maps.items() if isinstance(found, ChannelMap)}
        self._join(maps.values())
        self._freeze()
        self._labels = {value: self._labelled(channels) for value, channels in maps.items()}
        for node in self._network.structure.graph:
            self._visit(node)
        self._hold_readers()
        return tuple(self._group(first) for first in dict.fromkeys(self._readers) if first not in self._fixed)

    def _group(self, first: Source) -> MovableGroup:
        followers = tuple(
            Follower(value, axis, labels)
            for (source, value, axis), (labels, _) in self._needs.items()
            if source is first
        )
        return MovableGroup(first.units, followers, tuple(self._readers[first]))

    def _root(self, source: Source) -> Source:
        while (above := self._first.setdefault(source, source)) is not source:
            source = above
        return source

    def _join(self, maps: Iterable[ChannelMap]) -> None:
        for channels in maps:
            for place, term in enumerate(channels.terms):
                self._root(term.source)
                for other in channels.terms[:place]:
                    if ((term.units >= 0) & (other.units >= 0)).any():
                        self._first[self._root(term.source)] = self._root(other.source)
        for uses in self._uses.values():
            for _, use in uses:
                if _is_depthwise(use) and use.source is not None and isinstance(use.incoming, ChannelMap):
                    for term in use.incoming.terms:
                        self._first[self._root(term.source)] = self._root(use.source)

    def _freeze(self) -> None:
        for source in list(self._first):
            first = self._root(source)
            if source.given or source.empty or source.stored or source.units != first.units:
                self._fixed.add(first)
        for frozen in self._graph.frozen:
            self._fixed.update(self._root(term.source) for term in frozen.channels.terms)

    def _labelled(self, channels: Channels) -> _Labels:
        """The axis and the channel at each index, by group; a group that is laid out otherwise is fixed."""
        if not isinstance(channels, ChannelMap):
            return {}
        groups = dict.fromkeys(self._root(term.source) for term in channels.terms)
        if len(channels.axes) > 1:
            self._fixed.update(groups)
            return {}
        found = {first: (channels.axes[0], np.full(channels.sizes[0], -1)) for first in groups}
        for term in channels.terms:
            first = self._root(term.source)
            labels, here = found[first][1], term.units >= 0
            if ((labels != term.units) & here & (labels >= 0)).any():
                self._fixed.add(first)
            labels[here] = term.units[here]
        self._fixed.update(first for first, (_, labels) in found.items() if not _regular(labels, first.units))
        return found

    def _visit(self, node: ir.Node) -> None:
        values = [value for value in (*node.inputs, *node.outputs) if value is not None]
        touched = {first for value in values for first in self._labels.get(value, {})} - self._fixed
        standard = node.domain in ("", "ai.onnx") or node.op_type == "SimplifiedLayerNormalization"
        if not touched:
            return
        if standard and node.op_type in _ALIKE and self._is_alike(node):
            return
        if standard and node.op_type in _BROADCASTING and self._follow_broadcast(node):
            return
        if standard and node.op_type in _VECTORS and self._follow_vectors(node):
            return
        if standard and node.op_type in _PRODUCTS and node in self._uses:
            self._follow_products(node)
            return
        self._fixed.update(touched)

    def _is_alike(self, node: ir.Node) -> bool:
        """Side by side along another axis, all must carry the same channels."""
        if node.op_type != "Concat":
            return True
        rank = len(self._graph.shapes.of(node.outputs[0]) or ())
        along = int(attribute(node, "axis", 0)) % max(rank, 1)
        made = self._labels.get(node.outputs[0], {})
        across = [first for first, (axis, _) in made.items() if axis != along]
        inputs = [self._labels.get(value, {}) for value in node.inputs if value is not None]
        return all(first in labels for first in across for labels in inputs)

    def _follow_broadcast(self, node: ir.Node) -> bool:
        for index, operand in enumerate(node.inputs):
            if operand is None:
                continue
            if isinstance(self._graph.maps.get(operand), ChannelMap):
                if index and node.op_type in _ONE_OPERAND:
                    return False
                continue
            self._follow_operand(node, index)
        return True

    def _follow_operand(self, node: ir.Node, index: int) -> None:
        """An operand that broadcasts against the node's result, aligned at the last axis."""
        own, result = (self._graph.shapes.of(v) for v in (node.inputs[index], node.outputs[0]))
        for first, (axis, labels) in self._labels.get(node.outputs[0], {}).items():
            if own is None or result is None:
                self._fixed.add(first)
            elif (place := axis - len(result) + len(own)) >= 0 and own[place] != 1:
                self._need(node, index, place, first, labels)

    def _follow_vectors(self, node: ir.Node) -> bool:
        made = self._labels.get(node.outputs[0], {})
        for first, (axis, labels) in made.items():
            if axis != 1:
                return False
            for index in range(1, len(node.inputs)):
                self._need(node, index, 0, first, labels)
        return True

    def _follow_products(self, node: ir.Node) -> None:
        """Rows, columns and bias of a weight."""
        for layer, use in self._uses[node]:
            reads = self._labelled(use.incoming)
            makes = {} if use.source is None else {self._root(use.source): np.arange(use.source.units)}
            groups = use.view.seen_shape()[0]
            apart = groups > 1 and not self._passes_each(use, reads, makes)
            if apart or is_excluded(layer) or layer.view.quantization is not None:
                self._fixed.update((*reads, *makes))
                continue
            index = self._place(use)
            for first, labels in makes.items():
                self._need(node, index, 0 if groups > 1 else 1, first, labels, use.view)
            for first, (_, labels) in reads.items() if groups == 1 else ():
                self._need(node, index, 2, first, labels[use.inputs[0]], use.view)
                if layer.reason is None:
                    self._readers[first].append(Reader(layer, labels[use.inputs[0]]))
        self._follow_bias(node)

    def _passes_each(self, use: LayerUse, reads: _Labels, makes: Mapping[Source, Ints]) -> bool:
        """True for a depthwise convolution whose channels are the same before and after."""
        same = len(reads) == 1 and reads.keys() == makes.keys()
        return same and _is_depthwise(use) and all(np.array_equal(reads[s][1], makes[s]) for s in makes)

    def _follow_bias(self, node: ir.Node) -> None:
        if len(node.inputs) <= 2 or node.inputs[2] is None:
            return
        if node.op_type == "Gemm":
            self._follow_operand(node, 2)
            return
        for first, (_, labels) in self._labels.get(node.outputs[0], {}).items():
            self._need(node, 2, 0, first, labels)

    def _place(self, use: LayerUse) -> int:
        views = [self._constants.view(value) for value in use.node.inputs]
        return next(i for i, view in enumerate(views) if view is not None and view.value is use.view.value)

    def _need(
        self,
        node: ir.Node,
        index: int,
        seen: int,
        first: Source,
        labels: Ints,
        view: WeightView | None = None,
    ) -> None:
        """A stored operand follows a group along an axis as the operator sees it; else the group is fixed."""
        operand = node.inputs[index]
        view = view or self._constants.view(operand)
        if view is not None and filled(view.value) is not None:
            return  # all its numbers are one
        axis = None if view is None or view.quantization is not None else _stored_axis(view, seen)
        if view is None or axis is None or not self._network.writable(view.value):
            self._fixed.add(first)
            return
        known, readers = self._needs.setdefault((first, view.value, axis), (labels, set()))
        readers.add((node, index))
        if view.shape[axis] != labels.size or not np.array_equal(known, labels):
            self._fixed.add(first)

    def _hold_readers(self) -> None:
        """A tensor that anything else reads too cannot follow."""
        for (first, value, _), (_, readers) in self._needs.items():
            if value.is_graph_output() or set(self._read_by(value)) != readers:
                self._fixed.add(first)

    def _read_by(self, value: ir.Value) -> Iterator[tuple[ir.Node, int]]:
        """Operators that read a stored tensor, through those that only show it otherwise."""
        for node, index in value.uses():
            views = [(out, self._constants.view(out)) for out in node.outputs]
            shown = [out for out, view in views if view is not None and index == 0]
            if not shown:
                yield node, index
            for out in shown:
                yield from [(node, index)] if out.is_graph_output() else self._read_by(out)


def _is_depthwise(use: LayerUse) -> bool:
    groups, outputs, inputs = use.view.seen_shape()[:3]
    return groups > 1 and outputs == inputs == 1


def _regular(labels: Ints, units: int) -> bool:
    """True where all channels lie side by side in order, each as often, one by one or all again and again."""
    inside = np.flatnonzero(labels >= 0)
    times, rest = divmod(inside.size, units)
    if rest or not times or inside[-1] - inside[0] + 1 != inside.size:
        return False
    block, once = labels[inside], np.arange(units)
    return np.array_equal(block, np.repeat(once, times)) or np.array_equal(block, np.tile(once, times))


def _stored_axis(view: WeightView, seen: int) -> int | None:
    """The axis of the stored tensor that the operator sees as that axis; None where it is no single one."""
    for step in reversed(view.steps):
        if isinstance(step, Transposed):
            seen = step.order[seen]
        elif isinstance(step, Reshape):
            before, size = int(np.prod(step.after[:seen])), step.after[seen]
            fitting = [
                axis
                for axis, own in enumerate(step.before)
                if own == size and int(np.prod(step.before[:axis])) == before
            ]
            if not fitting:
                return None
            seen = fitting[-1] if size > 1 else fitting[0]
        else:
            return None
    return seen
