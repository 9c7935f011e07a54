"""One top-k over the whole network, raw or after putting blocks on one scale."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from worker.engine.allocation.base import Plans, Ranking, by_share, kept_count, split_overridden
from worker.engine.errors import InvalidRecipeError
from worker.engine.granularity.base import Block
from worker.engine.granularity.selection import largest
from worker.engine.types import Scores

Rescale = Callable[[Scores], Scores]


def select_pooled(ranking: Ranking, rescale: Rescale) -> Plans:
    """Pool the rescaled scores of all blocks under the goal and keep the best; exact in total."""
    if ranking.sequence is not None:
        raise InvalidRecipeError("a criterion that scores layer after layer needs a layerwise allocation")
    free, fixed = split_overridden(ranking)
    plans = {block.name: by_share(ranking, block, ranking.goal.overrides[block.name]) for block in fixed}
    scores = {block.name: rescale(ranking.score(block)) for block in free}
    if scores:
        plans.update(keep_best(ranking, free, scores))
    return plans


def keep_best(ranking: Ranking, blocks: Sequence[Block], scores: Mapping[str, Scores]) -> Plans:
    """The plans after one top-k over the scores of `blocks`, at the goal's sparsity."""
    everything = np.concatenate([scores[block.name].reshape(-1) for block in blocks])
    keep, limit = largest(everything, kept_count(everything.size, ranking.goal.sparsity))
    plans: Plans = {}
    start = 0
    for done, block in enumerate(blocks, 1):
        values = scores[block.name]
        units = keep[start : start + values.size].reshape(values.shape)
        start += values.size
        requested = 1.0 - np.count_nonzero(units) / units.size
        plans[block.name] = ranking.planned(block, values, units, limit, float(requested))
        ranking.done(done, len(blocks))
    return plans
