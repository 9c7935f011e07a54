"""One top-k over the whole network, raw or after putting blocks on one scale."""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from pydantic import Field

from worker.engine.allocation.base import Allocation, Plans, Ranking, by_share, kept_count, split_overridden
from worker.engine.errors import InvalidRecipeError
from worker.engine.granularity.base import Block
from worker.engine.granularity.selection import largest
from worker.engine.types import Mask, Scores

Rescale = Callable[[Scores], Scores]
#: From the flat scores of every block to how many units each keeps.
Count = Callable[[Sequence[Scores]], Sequence[int]]
#: A share of 0.07 times 100 weights is 7 of them, whatever floating point says.
_SLACK = 1e-6


class Bounded(Allocation):
    """Allocations by one ranking with a floor and a cap per layer."""

    floor: float = Field(default=0.0, ge=0.0, le=1.0)
    """Least share of its weights that every layer keeps."""
    cap: float = Field(default=1.0, ge=0.0, le=1.0)
    """Largest share of its weights that any layer keeps."""


def select_pooled(ranking: Ranking, rescale: Rescale, floor: float = 0.0, cap: float = 1.0) -> Plans:
    """Pool the rescaled scores of all blocks under the goal and keep the best; exact in total.

    Every block keeps its best `floor` whatever the others have, and none more than its best `cap`.
    """

    def count(parts: Sequence[Scores]) -> list[int]:
        kept = keep_best(parts, ranking.goal.sparsity, floor, cap)
        return [int(np.count_nonzero(part)) for part in kept]

    return select_together(ranking, rescale, count)


def select_together(ranking: Ranking, rescale: Rescale, count: Count) -> Plans:
    """Keep the best of each block, as many as `count` gives it on seeing all (rescaled) scores together."""
    if ranking.sequence is not None:
        raise InvalidRecipeError("a criterion that scores layer after layer needs a layerwise allocation")
    free, fixed = split_overridden(ranking)
    plans = {block.name: by_share(ranking, block, ranking.goal.overrides[block.name]) for block in fixed}
    scores = {block.name: rescale(ranking.score(block)) for block in free}
    if scores:
        counts = count([scores[block.name].reshape(-1) for block in free])
        plans.update(_planned(ranking, free, scores, counts))
    return plans


def keep_best(parts: Sequence[Scores], sparsity: float, floor: float, cap: float) -> list[Mask]:
    """Masks of the best round((1 − p)·n) of all parts together, within the bounds of each part."""
    sizes = [part.size for part in parts]
    everything, count = np.concatenate(parts), kept_count(sum(sizes), sparsity)
    if (floor, cap) == (0.0, 1.0):
        return np.split(largest(everything, count)[0], np.cumsum(sizes)[:-1])
    lows = [math.ceil(floor * size - _SLACK) for size in sizes]
    highs = [math.floor(cap * size + _SLACK) for size in sizes]
    _require_room(lows, highs, count, sum(sizes))
    keep = np.concatenate([largest(part, low)[0] for part, low in zip(parts, lows, strict=True)])
    free = np.concatenate([largest(part, high)[0] for part, high in zip(parts, highs, strict=True)])
    free &= ~keep
    keep[free] = largest(everything[free], count - sum(lows))[0]
    return np.split(keep, np.cumsum(sizes)[:-1])


def _require_room(lows: Sequence[int], highs: Sequence[int], count: int, total: int) -> None:
    """InvalidRecipeError where floors and caps leave no way to keep so many."""
    if any(low > high for low, high in zip(lows, highs, strict=True)):
        raise InvalidRecipeError("the allocation's floor lies above its cap")
    if not sum(lows) <= count <= sum(highs):
        least, most = 1.0 - sum(highs) / total, 1.0 - sum(lows) / total
        raise InvalidRecipeError(
            f"floor and cap allow a sparsity from {least:.4f} to {most:.4f} over the whole network"
        )


def _planned(
    ranking: Ranking, blocks: Sequence[Block], scores: Mapping[str, Scores], counts: Sequence[int]
) -> Plans:
    plans: Plans = {}
    for done, (block, count) in enumerate(zip(blocks, counts, strict=True), 1):
        values = scores[block.name]
        units, limit = ranking.choose(block, values, count)
        plans[block.name] = ranking.planned(block, values, units, limit, 1.0 - count / values.size)
        ranking.done(done, len(blocks))
    return plans
