"""Coupled channels: which units must stay or go together, read off the channel maps.

Units that meet at one index of a tensor are tied (a residual add); so are all positions along the other
axes of a map over several, for what is left must be rectangular (channel shuffle), and what operators
demand (groups). Units that anything reads as they are (an output, an operator without a rule, a
normalisation over channels) are frozen, with the reason.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from worker.engine.graph.analysis import Graph
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


class _Cells:
    """Union-find over all units of all sources."""

    def __init__(self) -> None:
        self.offsets: dict[Source, int] = {}
        self._parent: list[int] = []
        self.reasons: dict[int, str] = {}

    def of(self, source: Source) -> int:
        """Number of the source's first cell."""
        if source not in self.offsets:
            self.offsets[source] = len(self._parent)
            self._parent.extend(range(len(self._parent), len(self._parent) + source.units))
            if source.given:
                self.freeze(
                    np.arange(self.offsets[source], len(self._parent)), "joined with channels that are given"
                )
        return self.offsets[source]

    def find(self, cell: int) -> int:
        """The representative of a cell's class."""
        while self._parent[cell] != cell:
            self._parent[cell] = self._parent[self._parent[cell]]
            cell = self._parent[cell]
        return cell

    def join(self, first: Ints, second: Ints) -> None:
        """Tie pairs of cells; negative numbers stand for nothing."""
        both = (first >= 0) & (second >= 0)
        for a, b in np.unique(np.stack([first[both], second[both]]), axis=1).T.tolist():
            self._parent[self.find(a)] = self.find(b)

    def freeze(self, cells: Ints, reason: str) -> None:
        """Keep cells for ever; the first reason stands."""
        for cell in np.unique(cells[cells >= 0]).tolist():
            self.reasons.setdefault(cell, reason)

    def at(self, channels: ChannelMap) -> list[Ints]:
        """Cells of every term of a map, −1 where a term has none; flat."""
        found = []
        for term in channels.terms:
            start = self.of(term.source)
            found.append(np.where(term.units >= 0, term.units + start, -1).reshape(-1))
        return found


def couple(graph: Graph) -> Coupling:
    """Find the groups. Layers that the recipe excludes keep their outputs."""
    cells = _Cells()
    for layer in (*graph.layers, *graph.refused):
        _bind_layer(cells, layer, frozen=layer.reason)
    for channels in graph.maps.values():
        if isinstance(channels, ChannelMap):
            _bind_map(cells, channels)
    for tie in graph.ties:
        for left in cells.at(tie.left):
            for right in cells.at(tie.right):
                cells.join(left[tie.first], right[tie.second])
    for frozen in graph.frozen:
        for term in cells.at(frozen.channels):
            cells.freeze(term, frozen.reason)
    return _grouped(graph, cells)


def _bind_layer(cells: _Cells, layer: Layer, frozen: str | None) -> None:
    """One weight used several times has one set of outputs and one of inputs."""
    sources = [use.source for use in layer.uses if use.source is not None]
    for source in sources:
        start, first = cells.of(source), cells.of(sources[0])
        if frozen is not None:
            cells.freeze(np.arange(start, start + source.units), frozen)
        if layer.view.quantization is not None:
            cells.freeze(np.arange(start, start + source.units), "quantised weights keep their channels")
        cells.join(np.arange(start, start + source.units), np.arange(first, first + source.units))
    maps = [use.incoming for use in layer.uses]
    known = [m for m in maps if isinstance(m, ChannelMap)]
    for channels in known:
        for a in cells.at(known[0]):
            for b in cells.at(channels):
                cells.join(a, b)
        if layer.view.quantization is not None:
            for term in cells.at(channels):
                cells.freeze(term, f"{layer.name} reads them with quantised weights")
        if len(known) < len(maps):
            for term in cells.at(channels):
                cells.freeze(term, f"{layer.name} is shared, and also reads channels that are not followed")


def _bind_map(cells: _Cells, channels: ChannelMap) -> None:
    terms = cells.at(channels)
    anchor = terms[0]
    for term in terms[1:]:
        cells.join(anchor, term)
        anchor = np.where(anchor < 0, term, anchor)
    if len(channels.axes) > 1:
        _bind_rectangle(cells, channels, terms)


def _bind_rectangle(cells: _Cells, channels: ChannelMap, terms: list[Ints]) -> None:
    """Along all axes but the largest every position shares its fate."""
    free = int(np.argmax(channels.sizes))
    for term in terms:
        grid = np.moveaxis(term.reshape(channels.sizes), free, -1).reshape(-1, channels.sizes[free])
        for row in grid[1:]:
            cells.join(grid[0], row)


def _grouped(graph: Graph, cells: _Cells) -> Coupling:
    frozen = {cells.find(cell): reason for cell, reason in cells.reasons.items()}
    owners = {use.source: layer for layer in graph.layers for use in layer.uses if use.source is not None}
    roots = {
        s: np.array([cells.find(cells.of(s) + u) for u in range(s.units)]) for s in owners if s is not None
    }
    clusters = _clusters(roots)
    groups: list[ChannelGroup] = []
    reasons: dict[str, str] = {}
    for sources in clusters:
        layers = tuple(dict.fromkeys(owners[source] for source in sources))
        free = sorted({int(r) for s in sources for r in roots[s] if int(r) not in frozen})
        if not free:
            why = next(frozen[int(r)] for s in sources for r in roots[s] if int(r) in frozen)
            reasons.update({layer.name: why for layer in layers})
            continue
        number = {root: i for i, root in enumerate(free)}
        members = {s: np.array([number.get(int(r), -1) for r in roots[s]]) for s in sources}
        groups.append(ChannelGroup(layers[0].name, len(free), members, layers))
    return Coupling(tuple(groups), reasons)


def _clusters(roots: Mapping[Source, Ints]) -> list[list[Source]]:
    """Sources that share a class, directly or through others, in the order of the graph."""
    parent = {source: source for source in roots}

    def find(source: Source) -> Source:
        while parent[source] is not source:
            source = parent[source]
        return source

    first: dict[int, Source] = {}
    for source, cells in roots.items():
        for root in set(cells.tolist()):
            if root in first:
                parent[find(source)] = find(first[root])
            else:
                first[root] = source
    found: dict[Source, list[Source]] = defaultdict(list)
    for source in roots:
        found[find(source)].append(source)
    return list(found.values())
