"""What validation answers: what every layer and every group of channels would lose."""

from collections.abc import Iterator

import numpy as np

from api_schemas.jobs import PlannedGroup, PlannedLayer
from worker.engine.graph.analysis import Graph
from worker.engine.graph.groups import couple
from worker.engine.types import Plan


def planned_layer(graph: Graph, plan: Plan, name: str) -> PlannedLayer:
    """One layer. Its `sparsity` is the share that the allocation gave it, which gives the same plan again."""
    layer, item = graph.layer(name), plan.of(name)
    return PlannedLayer(
        name=name,
        op=layer.op,
        shape=list(layer.shape),
        parameters=layer.size,
        sparsity=item.requested,
        pruned=item.pruned,
    )


def planned_groups(graph: Graph, plan: Plan) -> Iterator[PlannedGroup]:
    """Every group of coupled channels; none where channels are not what goes."""
    if not plan.channels:
        return
    members = {group.name: group.layers for group in couple(graph).groups}
    for item in plan.channels:
        removed = int(item.units.size - np.count_nonzero(item.units))
        yield PlannedGroup(
            name=item.block,
            channels=item.units.size,
            removed=removed,
            sparsity=removed / item.units.size,
            layers=[layer.name for layer in members[item.block]],
        )
