"""Coupled channels: which units must stay or go together, read off the channel maps.

Units that meet at one index of a tensor are tied (a residual add); so are all positions along the other
axes of a map over several, for what is left must be rectangular (channel shuffle), and what operators
demand (groups). Units that anything reads as they are (an output, an operator without a rule, a
normalisation over channels) are frozen, with the reason.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from weakref import WeakKeyDictionary

import numpy as np

from worker.engine.graph.analysis import Graph
from worker.engine.graph.cells import Cells, count_classes
from worker.engine.graph.channels import ChannelMap, Ints, Source
from worker.engine.graph.layer import Layer


@dataclass(frozen=True, eq=False)
class ChannelGroup:
    """Units of coupled sources. `members[source][u]` is the number of the unit that u belongs to, −1 where
    it is frozen; there are `units` of them."""

    name: str
    units: int
    members: Mapping[Source, Ints]
    layers: tuple[Layer, ...]


@dataclass(frozen=True)
class Coupling:
    """All groups of a graph, and why sources that make no group are left alone, by layer name."""

    groups: tuple[ChannelGroup, ...]
    frozen: Mapping[str, str]


#: Why layers whose outputs are not followed keep them.
_STATE = "the state of a recurrent operator keeps its size"

#: Operators whose integers are scaled as the file says, whatever flows through.
_FIXED_SCALES = {"Conv", "ConvTranspose", "Gemm", "MatMul", "QLinearConv", "QLinearMatMul", "QGemm"}
_BY_BATCH = "its integers are scaled by the range of all channels together, found anew for every input"

#: What was found for graphs that are still in use: it takes seconds on a large network.
_FOUND: WeakKeyDictionary[Graph, Coupling] = WeakKeyDictionary()


def couple(graph: Graph) -> Coupling:
    """Find the groups, once for each graph. Layers that the recipe excludes keep their outputs."""
    if graph not in _FOUND:
        _FOUND[graph] = _coupled(graph)
    return _FOUND[graph]


def _coupled(graph: Graph) -> Coupling:
    cells = Cells()
    for layer in (*graph.layers, *graph.refused):
        _bind_layer(cells, layer, frozen=layer.reason)
    maps = [channels for channels in graph.maps.values() if isinstance(channels, ChannelMap)]
    for tie in graph.ties:
        for left in cells.at(tie.left):
            for right in cells.at(tie.right):
                cells.join(left[tie.first], right[tie.second])
    anchors = [(channels, _bind_map(cells, channels)) for channels in maps]
    for channels, anchor in anchors:
        if len(channels.axes) > 1:
            _bind_rectangle(cells, channels, anchor)
    for frozen in graph.frozen:
        for term in cells.at(frozen.channels):
            cells.freeze(term, frozen.reason)
    return _grouped(graph, cells)


def _bind_layer(cells: Cells, layer: Layer, frozen: str | None) -> None:
    """One weight used several times has one set of outputs and one of inputs."""
    if any(not use.view.same_as(layer.view) for use in layer.uses):
        _freeze_around(cells, layer, f"{layer.name} is shared by operators that read it in different layouts")
        return
    sources = [use.source for use in layer.uses if use.source is not None]
    for source in sources:
        start, first = cells.of(source), cells.of(sources[0])
        if frozen is not None:
            cells.freeze(np.arange(start, start + source.units), frozen)
        if not _takes_fewer(layer):
            cells.freeze(np.arange(start, start + source.units), _BY_BATCH)
        cells.join(np.arange(start, start + source.units), np.arange(first, first + source.units))
    maps = [use.incoming for use in layer.uses]
    known = [m for m in maps if isinstance(m, ChannelMap)]
    for channels in known:
        for a in cells.at(known[0]):
            for b in cells.at(channels):
                cells.join(a, b)
        if not _takes_fewer(layer):
            for term in cells.at(channels):
                cells.freeze(term, f"{layer.name} reads them; {_BY_BATCH}")
        if len(known) < len(maps):
            for term in cells.at(channels):
                cells.freeze(term, f"{layer.name} is shared, and also reads channels that are not followed")


def _takes_fewer(layer: Layer) -> bool:
    """False for integer products whose scale is found anew in every batch, over all channels together."""
    return layer.view.quantization is None or all(use.node.op_type in _FIXED_SCALES for use in layer.uses)


def _freeze_around(cells: Cells, layer: Layer, reason: str) -> None:
    """Keep everything that the layer's uses read and make."""
    for use in layer.uses:
        if use.source is not None:
            start = cells.of(use.source)
            cells.freeze(np.arange(start, start + use.source.units), reason)
        if isinstance(use.incoming, ChannelMap):
            for term in cells.at(use.incoming):
                cells.freeze(term, reason)


def _bind_map(cells: Cells, channels: ChannelMap) -> Ints:
    """Tie the terms at each index; a cell of every index (−1 where there is none)."""
    terms = cells.at(channels)
    anchor = terms[0]
    for term in terms[1:]:
        cells.join(anchor, term)
        anchor = np.where(anchor < 0, term, anchor)
    return anchor


def _bind_rectangle(cells: Cells, channels: ChannelMap, anchor: Ints) -> None:
    """Along all axes but one every position shares its fate; `anchor` has a cell of every index.

    The free axis is the one that leaves most classes, given what is tied already.
    """
    grids = [
        np.moveaxis(anchor.reshape(channels.sizes), axis, -1).reshape(-1, size)
        for axis, size in enumerate(channels.sizes)
    ]
    grids = [np.unique(grid, axis=0) for grid in grids]  # places often repeat the same channels
    roots = cells.roots()
    free = max(grids, key=lambda grid: count_classes(np.where(grid >= 0, roots[grid], -1)))
    for row in free[1:]:
        cells.join(free[0], row)


def _grouped(graph: Graph, cells: Cells) -> Coupling:
    """Classes of cells that lie in the same sources, as often in each, make a group: its units are alike."""
    classes = cells.roots()
    frozen = {int(classes[cell]): reason for cell, reason in cells.reasons.items()}
    owners = {use.source: layer for layer in graph.layers for use in layer.uses if use.source is not None}
    followed = [s for s in cells.offsets if s in owners or s.empty or s.stored]
    roots = {s: classes[cells.of(s) : cells.of(s) + s.units] for s in followed}
    found: dict[_Signature, list[int]] = defaultdict(list)
    for root, signature in _signatures(roots).items():
        if root not in frozen:
            found[signature].append(root)
    groups = [
        _group(signature, free, roots, owners)
        for signature, free in found.items()
        if any(source in owners for source, _ in signature)
    ]
    stateful = {layer.name: _STATE for layer in graph.layers if all(use.source is None for use in layer.uses)}
    return Coupling(_distinct(groups), stateful | _left_alone(roots, owners, frozen))


_Signature = frozenset[tuple[Source, int]]


def _signatures(roots: Mapping[Source, Ints]) -> dict[int, _Signature]:
    """Where the cells of each class lie: source and how many."""
    places: dict[int, list[tuple[Source, int]]] = defaultdict(list)
    for source, cells in roots.items():
        for root, count in zip(*np.unique(cells, return_counts=True), strict=True):
            places[int(root)].append((source, int(count)))
    return {root: frozenset(where) for root, where in places.items()}


def _group(
    signature: _Signature, free: list[int], roots: Mapping[Source, Ints], owners: Mapping[Source, Layer]
) -> ChannelGroup:
    inside = {source for source, _ in signature}
    sources = [source for source in roots if source in inside]
    layers = tuple(dict.fromkeys(owners[source] for source in sources if source in owners))
    number = {root: i for i, root in enumerate(free)}
    members = {s: np.array([number.get(int(root), -1) for root in roots[s]]) for s in sources}
    return ChannelGroup(layers[0].name, len(free), members, layers)


def _distinct(groups: list[ChannelGroup]) -> tuple[ChannelGroup, ...]:
    """Groups with names of their own: a layer may lead several, parts of it added to different things."""
    seen: Counter[str] = Counter()
    named: list[ChannelGroup] = []
    for group in groups:
        seen[group.name] += 1
        count = seen[group.name]
        named.append(group if count == 1 else replace(group, name=f"{group.name}/{count}"))
    return tuple(named)


def _left_alone(
    roots: Mapping[Source, Ints], owners: Mapping[Source, Layer], frozen: Mapping[int, str]
) -> dict[str, str]:
    """Layers all of whose outputs are frozen, with the first reason."""
    return {
        owners[source].name: frozen[int(cells[0])]
        for source, cells in roots.items()
        if source in owners and all(int(root) in frozen for root in cells)
    }
