"""One top-k over the whole network, raw or after putting layers on one scale."""

from collections.abc import Callable

import numpy as np

from worker.engine.allocation.base import Ranking, by_share, kept_count, plan_layer, split_overridden
from worker.engine.allocation.selection import largest
from worker.engine.errors import InvalidRecipeError
from worker.engine.graph.layer import Layer
from worker.engine.types import LayerPlan, Plan, Scores

Rescale = Callable[[Scores], Scores]


def select_pooled(ranking: Ranking, rescale: Rescale) -> Plan:
    """Pool the rescaled scores of all layers under the goal and keep the best; exact in total."""
    if ranking.sequence is not None:
        raise InvalidRecipeError("a criterion that scores layer after layer needs a layerwise allocation")
    free, fixed = split_overridden(ranking)
    plans = {layer.name: by_share(ranking, layer, ranking.goal.overrides[layer.name]) for layer in fixed}
    plans.update(_pooled(ranking, free, rescale))
    return Plan(tuple(plans[layer.name] for layer in ranking.layers))


def _pooled(ranking: Ranking, layers: list[Layer], rescale: Rescale) -> dict[str, LayerPlan]:
    scores = {layer.name: _scored(ranking, layer, rescale) for layer in layers}
    if not scores:
        return {}
    everything = np.concatenate([values.reshape(-1) for values in scores.values()])
    keep, limit = largest(everything, kept_count(everything.size, ranking.goal.sparsity))
    plans: dict[str, LayerPlan] = {}
    start = 0
    for done, layer in enumerate(layers, 1):
        values = scores[layer.name]
        own = keep[start : start + values.size].reshape(values.shape)
        start += values.size
        requested = 1.0 - np.count_nonzero(own) / own.size
        plans[layer.name] = plan_layer(ranking, layer, values, own, limit, float(requested))
        ranking.done(done, len(layers))
    return plans


def _scored(ranking: Ranking, layer: Layer, rescale: Rescale) -> Scores:
    return rescale(ranking.granularity.pool(ranking.score(layer), layer))
