"""Allocations that fix how many weights each layer keeps before looking at any score."""

from collections.abc import Callable, Sequence

from api_schemas.catalogue import Requirements
from worker.engine.allocation.base import Plans, Ranking, kept_count, layerwise, split_overridden
from worker.engine.granularity.base import Block

#: Granularities whose blocks are one layer each, so that a count of weights is a count per block.
LAYERWISE = Requirements(granularities=["element", "row", "block"])

#: From the blocks under the goal and the number of weights that they may keep, to a number for each.
Count = Callable[[Sequence[Block], int], Sequence[int]]


def weight_count(block: Block) -> int:
    """Number of weights of a block."""
    return sum(layer.size for layer in block.layers)


def select_counted(ranking: Ranking, count: Count) -> Plans:
    """Keep in each block the share of its units that `count` gives it in weights; exact in total for single
    weights. Layers with a share of their own stay out of the total."""
    free, _ = split_overridden(ranking)
    shares = dict(ranking.goal.overrides)
    if free:
        total = kept_count(sum(map(weight_count, free)), ranking.goal.sparsity)
        for block, kept in zip(free, count(free, total), strict=True):
            shares[block.name] = 1.0 - kept / weight_count(block)
    return layerwise(ranking, lambda block: shares[block.name])
