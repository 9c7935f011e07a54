"""What the pipeline saw of the network before and after, kept small: counts and histograms, no tensors."""

from dataclasses import dataclass, field
from typing import final

import numpy as np

from api_schemas.report import Histogram
from worker.engine.formats.base import Array, Network
from worker.engine.graph import weights
from worker.engine.graph.build import Graph
from worker.engine.graph.layer import Layer
from worker.engine.report.inspection import count_parameters
from worker.engine.types import Histogram as Counts
from worker.engine.types import Plan

_BINS = 64


@dataclass(frozen=True)
class Snapshot:
    """A network at one moment: stored and non-zero numbers, zeros and weight histogram per layer."""

    parameters: int
    nonzero: int
    zeros: dict[str, int]
    histograms: dict[str, Histogram | None]


@final
@dataclass
class History:
    """The first and the last snapshot, and the last graph and plan."""

    first: Snapshot | None = None
    last: Snapshot | None = None
    graph: Graph | None = None
    plan: Plan | None = None
    _ranges: dict[str, float] = field(default_factory=dict)

    def before(self, graph: Graph, network: Network) -> None:
        """Keep the network as it came; later calls (of a schedule's later steps) change nothing."""
        if self.first is None:
            self.first = self._snapshot(graph, network)

    def after(self, graph: Graph, plan: Plan, network: Network) -> None:
        """Keep what the network is now."""
        self.graph, self.plan = graph, plan
        self.last = self._snapshot(graph, network)

    def complete(self) -> tuple[Graph, Snapshot, Snapshot]:
        """Graph, first and last snapshot. Raises RuntimeError before the first step is done."""
        if self.graph is None or self.first is None or self.last is None:
            raise RuntimeError("no step has been done")
        return self.graph, self.first, self.last

    def prunable(self) -> int:
        """Number of weights in the layers that may be pruned."""
        return sum(layer.size for layer in self.complete()[0].layers)

    def _snapshot(self, graph: Graph, network: Network) -> Snapshot:
        parameters, nonzero = count_parameters(network, graph)
        zeros = {layer.name: weights.count_zeros(network, layer.view) for layer in graph.layers}
        histograms = {layer.name: self._histogram(network, layer) for layer in graph.layers}
        return Snapshot(parameters, nonzero, zeros, histograms)

    def _histogram(self, network: Network, layer: Layer) -> Histogram | None:
        """Non-zero weights over the range that the layer had first, so that before and after line up."""
        values = weights.read(network, layer.view)
        reach = self._ranges.setdefault(layer.name, _reach(values))
        if reach == 0.0:
            return None
        counts, edges = np.histogram(values[values != 0], bins=_BINS, range=(-reach, reach))
        return Histogram(edges=edges.tolist(), counts=counts.tolist())


def _reach(values: Array) -> float:
    return float(max(abs(float(values.min())), abs(float(values.max())))) if values.size else 0.0


def as_schema(counts: Counts | None) -> Histogram | None:
    """A histogram of scores in the report's form."""
    if counts is None:
        return None
    return Histogram(edges=counts.edges.tolist(), counts=counts.counts.tolist(), log10=counts.log10)
