"""Which weights of a network are zero already, so that pruning them anew counts for nothing."""

from typing import final

from worker.engine.context import Context
from worker.engine.formats.base import Array, Network
from worker.engine.formats.memory import kept
from worker.engine.graph import weights
from worker.engine.graph.analysis import Graph
from worker.engine.types import LayerPlan, Plan


@final
class Survivors:
    """Counts, for any plan, the weights of each layer that stay and are not zero."""

    def __init__(self, network: Network, graph: Graph, context: Context) -> None:
        self._network, self._graph, self._context = network, graph, context
        self._present: dict[str, Array] = {}
        layers = (*graph.layers, *graph.refused)
        self.before = {layer.name: layer.size - weights.count_zeros(network, layer.view) for layer in layers}

    def of(self, plan: Plan) -> dict[str, int]:
        """Non-zero weights by layer; layers that the plan does not name keep theirs."""
        return {**self.before, **{item.layer: self._left(item) for item in plan.layers}}

    def _left(self, item: LayerPlan) -> int:
        present = self._present.get(item.layer)
        if present is None:
            values = weights.read(self._network, self._graph.layer(item.layer).view)
            present = self._present[item.layer] = kept(values != 0, self._context.scratch)
        return int((present & item.keep).sum())
