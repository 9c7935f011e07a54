"""Channels in an order in which N of every M weights keep more score, group by group."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import final

import numpy as np
import onnx_ir as ir

from worker.engine.formats.base import Network
from worker.engine.granularity.base import Arrangement, Gain, ScoreLayer
from worker.engine.graph.analysis import Graph
from worker.engine.graph.channels import Ints
from worker.engine.graph.layer import Layer
from worker.engine.graph.permutation import MovableGroup, Order, Reader, movable_groups, moved
from worker.engine.graph.swaps import better_order, kept_score
from worker.engine.types import Scores

#: Groups of more channels stay as they are: the search looks at every pair.
_WIDEST = 4096


@final
@dataclass(frozen=True)
class Search:
    """The pattern, and how long to search for an order that suits it."""

    n: int
    m: int
    sweeps: int
    seed: int


def arrange(graph: Graph, network: Network, score: ScoreLayer, search: Search) -> Arrangement:
    """Find orders; over the layers that read a group, each keeps more of the score than the one before."""
    found = _Found(score)
    for group in movable_groups(graph, network):
        if group.units % search.m == 0 and search.m < group.units <= _WIDEST:
            found.look(group, search)
    return Arrangement(tuple(found.orders), found.gains)


@final
class _Found:
    """What has been found so far; scores are those of the order so far."""

    def __init__(self, score: ScoreLayer) -> None:
        self._score = score
        self._of: dict[ir.Value, list[Order]] = {}
        self.orders: list[Order] = []
        self.gains: dict[str, Gain] = {}

    def look(self, group: MovableGroup, search: Search) -> None:
        """Search one group, and keep the order if all its readers together keep more by it."""
        readers = {reader.layer.name: reader for reader in group.readers}
        rows = {name: self._rows(reader.layer) for name, reader in readers.items()}
        columns = [part for name in readers for part in _columns(readers[name], rows[name], group, search.m)]
        if not columns:
            return
        channels = better_order(np.concatenate(columns), search.n, search.m, search.sweeps, search.seed)
        gains = {name: _gain(rows[name], readers[name], channels, search) for name in readers}
        if sum(after - before for before, after, _ in gains.values()) <= 0.0:
            return
        for name, (before, after, total) in gains.items():
            first = self.gains[name].before if name in self.gains else before / total
            self.gains[name] = Gain(first, after / total)
        self._keep(group.orders(channels))

    def _keep(self, orders: Iterable[Order]) -> None:
        for order in orders:
            self.orders.append(order)
            self._of.setdefault(order.value, []).append(order)

    def _rows(self, layer: Layer) -> Scores:
        """Scores as (rows, inputs), in the order so far; pruned weights are worth no more than any other."""
        stored = layer.view.back(self._score(layer))
        for order in self._of.get(layer.view.value, []):
            stored = np.take(stored, order.order, axis=order.axis)
        seen = np.moveaxis(layer.view.forward(stored), 2, -1)
        finite = np.isfinite(seen)
        least = float(seen.min(where=finite, initial=0.0))
        return np.where(finite, seen, least).reshape(-1, seen.shape[-1])


def _columns(reader: Reader, rows: Scores, group: MovableGroup, m: int) -> Iterable[Scores]:
    """Scores by channel where a layer reads all channels one after another, from the start of a stripe.

    Where several inputs in a row read one channel, as behind Flatten, stripes lie within channels or nearly.
    """
    inside = np.flatnonzero(reader.channels >= 0)
    once = np.arange(group.units)
    if inside[0] % m == 0:
        for part in inside.reshape(-1, group.units):
            if np.array_equal(reader.channels[part], once):
                yield rows[:, part]


def _gain(rows: Scores, reader: Reader, channels: Ints, search: Search) -> tuple[float, float, float]:
    """The kept score before and after, and the whole."""
    before = kept_score(rows, search.n, search.m)
    after = kept_score(rows[:, moved(reader.channels, channels)], search.n, search.m)
    return before, after, float(rows.sum()) or 1.0
