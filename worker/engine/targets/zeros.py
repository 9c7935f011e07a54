"""Which weights of a network are zero already, so that pruning them anew counts for nothing."""

from typing import final

from worker.engine.context import Context
from worker.engine.formats.base import Network
from worker.engine.formats.memory import Shelf
from worker.engine.graph import weights
from worker.engine.graph.analysis import Graph
from worker.engine.types import LayerPlan, Plan


@final
class Survivors:
    """Counts, for any plan, the weights of each layer that stay and are not zero."""

    def __init__(self, network: Network, graph: Graph, context: Context) -> None:
        self._network, self._graph = network, graph
        self._present = Shelf[str](context.scratch)
        layers = (*graph.layers, *graph.refused)
        self.before = {layer.name: layer.size - weights.count_zeros(network, layer.view) for layer in layers}

    def of(self, plan: Plan) -> dict[str, int]:
        """Non-zero weights by layer; layers that the plan does not name keep theirs."""
        return {**self.before, **{item.layer: self._left(item) for item in plan.layers}}

    def _left(self, item: LayerPlan) -> int:
        if item.layer not in self._present:
            values = weights.read(self._network, self._graph.layer(item.layer).view)
            self._present[item.layer] = values != 0
        return int((self._present[item.layer] & item.keep).sum())
