"""Zeros."""

from pathlib import Path
from typing import ClassVar, final

from worker.engine.apply.base import Apply
from worker.engine.formats.base import Network
from worker.engine.graph import weights
from worker.engine.graph.analysis import Graph
from worker.engine.types import Plan


@final
class Mask(Apply):
    """Pruned weights become zero (the zero point, where weights are quantised); every kept weight stays bit
    for bit what it was, and the file keeps its shapes."""

    name: ClassVar[str] = "mask"

    def apply(self, plan: Plan, graph: Graph, network: Network, scratch: Path) -> Network:
        for item in plan.layers:
            if item.pruned:
                view = graph.layer(item.layer).view
                network.write(view.value, weights.zeroed(network, view, item.keep))
        return network
