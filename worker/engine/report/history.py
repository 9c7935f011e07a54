"""What the pipeline saw of the network before and after, kept small: counts and histograms, no tensors."""

from dataclasses import dataclass, field
from typing import final

import numpy as np

from api_schemas.jobs import InputSpecs
from api_schemas.report import Histogram
from worker.engine.formats.base import Array, Network
from worker.engine.graph import weights
from worker.engine.graph.analysis import Graph
from worker.engine.graph.build import build, constants_in
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
    shapes: dict[str, tuple[int, ...]]
    macs: dict[str, int | None]

    def size(self, layer: str) -> int:
        """Number of weights of a layer, zeros included; none of a layer that is gone."""
        return int(np.prod(self.shapes[layer])) if layer in self.shapes else 0

    def nonzero_of(self, layer: str) -> int:
        """Number of weights of a layer that are not zero."""
        return self.size(layer) - self.zeros.get(layer, 0)

    def dense_macs(self) -> int | None:
        """Multiply-accumulates of all layers for one sample; None when one of them is not known."""
        return None if None in self.macs.values() else sum(count or 0 for count in self.macs.values())

    def effective_macs(self) -> int | None:
        """The same without those that multiply by a stored zero."""
        if self.dense_macs() is None:
            return None
        return sum(round((n or 0) * self.nonzero_of(name) / self.size(name)) for name, n in self.macs.items())


@final
@dataclass
class History:
    """The first and the last snapshot, and the last graph and plan."""

    first: Snapshot | None = None
    last: Snapshot | None = None
    graph: Graph | None = None
    now: Graph | None = None
    plan: Plan | None = None
    _ranges: dict[str, float] = field(default_factory=dict)

    def before(self, graph: Graph, network: Network) -> None:
        """Keep the network as it came; later calls (of a schedule's later steps) change nothing."""
        if self.first is None:
            self.first = self._snapshot(graph, network)

    def after(self, graph: Graph, plan: Plan, network: Network, inputs: InputSpecs) -> None:
        """Keep what the network is now. A network whose file got smaller is analysed anew."""
        self.graph, self.plan = graph, plan
        self.now = graph if _holds(network, graph) else build(network, inputs)
        self.last = self._snapshot(self.now, network)

    def complete(self) -> tuple[Graph, Snapshot, Snapshot]:
        """Graph, first and last snapshot. Raises RuntimeError before the first step is done."""
        if self.graph is None or self.first is None or self.last is None:
            raise RuntimeError("no step has been done")
        return self.graph, self.first, self.last

    def whole_channels(self) -> bool:
        """True when the plan is one of channels: its shares then are not shares of weights."""
        return self.plan is not None and bool(self.plan.channels)

    def prunable(self) -> int:
        """Number of weights in the layers that may be pruned."""
        return sum(layer.size for layer in self.complete()[0].layers)

    def _snapshot(self, graph: Graph, network: Network) -> Snapshot:
        parameters, nonzero = count_parameters(network, graph)
        layers = (*graph.layers, *graph.refused)
        return Snapshot(
            parameters,
            nonzero,
            zeros={layer.name: weights.count_zeros(network, layer.view) for layer in layers},
            histograms={layer.name: self._histogram(network, layer) for layer in layers},
            shapes={layer.name: layer.shape for layer in layers},
            macs={layer.name: layer.macs for layer in layers if layer.uses},
        )

    def _histogram(self, network: Network, layer: Layer) -> Histogram | None:
        """Non-zero weights over the range that the layer had first, so that before and after line up."""
        values = weights.read(network, layer.view)
        reach = self._ranges.setdefault(layer.name, _reach(values))
        if reach == 0.0:
            return None
        counts, edges = np.histogram(values[values != 0], bins=_BINS, range=(-reach, reach))
        return Histogram(edges=edges.tolist(), counts=counts.tolist())


def _holds(network: Network, graph: Graph) -> bool:
    """True when the graph was found on this very network."""
    stored = set(constants_in(network.structure))
    return all(layer.view.value in stored for layer in graph.layers[:1])


def _reach(values: Array) -> float:
    return float(max(abs(float(values.min())), abs(float(values.max())))) if values.size else 0.0


def as_schema(counts: Counts | None) -> Histogram | None:
    """A histogram of scores in the report's form."""
    if counts is None:
        return None
    return Histogram(edges=counts.edges.tolist(), counts=counts.counts.tolist(), log10=counts.log10)
