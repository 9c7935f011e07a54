"""Lookahead factors read off the channel maps.

`in(j)` is the energy (sum of squares) of the weights that make input j of a layer, `out(k)` of those that
read its output k, slopes squared multiplied in, added over branches. Graph inputs and outputs, and
neighbours that are not known, count as identity weights of energy 1. On a plain chain this is the
published score (LAP, ICLR 2020, §3; reference page §1.2–1.4).
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from worker.engine.graph.analysis import Graph
from worker.engine.graph.channels import ChannelMap, Floats, Source, Term
from worker.engine.graph.layer import Layer, LayerUse

Array = np.ndarray[Any, np.dtype[Any]]
#: A weight in the operator's layout (groups, outputs, inputs, *taps), as the criterion sees it.
Weigh = Callable[[LayerUse], Array]


@dataclass(frozen=True, eq=False)
class Link:
    """Channels on their way to a reader: a layer use, or None for what counts as energy 1 per index."""

    channels: ChannelMap
    terms: tuple[Term, ...]
    use: LayerUse | None


def links(graph: Graph) -> list[Link]:
    """Every reader of every followed value, with all terms."""
    return [
        Link(consumer.channels, consumer.channels.terms, consumer.use)
        for consumer in graph.consumers
        if isinstance(consumer.channels, ChannelMap)
    ]


class Energies:
    """Row and column energies of every layer use, kept until a weight changes (`forget`)."""

    def __init__(self, graph: Graph, along: Sequence[Link], weigh: Weigh, *, slopes: bool = True) -> None:
        self._weigh, self._slopes = weigh, slopes
        uses = [use for layer in (*graph.layers, *graph.refused) for use in layer.uses]
        self._makers: Mapping[Source, LayerUse] = {use.source: use for use in uses if use.source is not None}
        self._incoming = {link.use: link for link in along if link.use is not None}
        self._readers: dict[Source, list[tuple[Term, Link]]] = defaultdict(list)
        for link in along:
            for term in link.terms:
                self._readers[term.source].append((term, link))
        self._sums: dict[LayerUse, tuple[Floats, Floats]] = {}

    def forget(self, layer: Layer) -> None:
        """Recompute this layer's sums when they are next needed."""
        for use in layer.uses:
            self._sums.pop(use, None)

    def incoming(self, use: LayerUse) -> Floats:
        """in(j) as an array (groups, 1, inputs / group)."""
        link = self._incoming.get(use)
        if link is None:
            return np.ones((use.inputs.shape[0], 1, use.inputs.shape[1]))
        total = sum((self._carried(term) for term in link.terms), np.zeros(link.channels.sizes))
        return np.asarray(total).reshape(-1)[use.inputs][:, None, :]

    def outgoing(self, use: LayerUse) -> Floats:
        """out(k) as an array (groups, outputs / group, 1)."""
        readers = self._readers.get(use.source, []) if use.source is not None else []
        if use.source is None or not readers:
            return np.ones((*use.outputs.shape, 1))
        total = np.zeros(use.source.units)
        for term, link in readers:
            self._spread(term, self._wanted(link), total)
        return total[use.outputs][:, :, None]

    def _carried(self, term: Term) -> Floats:
        """Energy that a term brings to each index."""
        maker = self._makers.get(term.source)
        if term.source.empty:
            return np.zeros(term.units.shape)
        energy = np.ones(term.source.units) if maker is None else self._both(maker)[0].reshape(-1)
        return np.where(term.units >= 0, energy[term.units] * self._squared(term), 0.0)

    def _spread(self, term: Term, wanted: Floats, total: Floats) -> None:
        """Add what each index's readers want to the units that the term carries."""
        present = term.units >= 0
        weight = (wanted.reshape(term.units.shape) * self._squared(term))[present]
        np.add.at(total, term.units[present], weight)

    def _squared(self, term: Term) -> Floats | float:
        return 1.0 if term.slope is None or not self._slopes else np.square(term.slope)

    def _wanted(self, link: Link) -> Floats:
        """Energy with which a reader takes each index."""
        wanted = np.ones(int(np.prod(link.channels.sizes)))
        if link.use is not None:
            wanted[:] = 0.0
            np.add.at(wanted, link.use.inputs.reshape(-1), self._both(link.use)[1].reshape(-1))
        return wanted

    def _both(self, use: LayerUse) -> tuple[Floats, Floats]:
        """Sums of squares per output, shape (groups, outputs), and per input, shape (groups, inputs)."""
        if use not in self._sums:
            self._sums[use] = _sums_of_squares(self._weigh(use))
        return self._sums[use]


def _sums_of_squares(weight: Array) -> tuple[Floats, Floats]:
    squared = np.square(weight, dtype=np.float64)
    squared = squared.reshape(*weight.shape[:3], -1)
    taps = squared[..., 0] if squared.shape[3] == 1 else squared.sum(axis=3)
    return taps.sum(axis=2), taps.sum(axis=1)
