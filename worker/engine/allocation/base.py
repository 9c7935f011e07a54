"""How much goes, and from where: the abstract allocation, and what it may ask."""

import abc
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import ClassVar

from worker.engine.granularity.base import Block
from worker.engine.granularity.selection import histogram
from worker.engine.registry import Part
from worker.engine.types import BlockPlan, Goal, Mask, Scores

Plans = dict[str, BlockPlan]
#: Weights that are scored side by side; each takes some twenty bytes meanwhile.
_MOST_AT_ONCE = 1 << 24


@dataclass(frozen=True)
class Ranking:
    """Everything an allocation may ask: blocks of units, their scores, the goal.

    `score` gives one number per unit and may be asked once per block; `choose` keeps so many units of a
    block; `settle` tells what a block keeps; `sequence` is the order that the criterion insists on, or None.
    `degree` is the power of the weight that a score grows with: 1 for |w|, 2 for w².
    """

    blocks: Sequence[Block]
    score: Callable[[Block], Scores]
    choose: Callable[[Block, Scores, int], tuple[Mask, float | None]]
    settle: Callable[[Block, BlockPlan], None]
    sequence: Sequence[Block] | None
    goal: Goal
    degree: int = 1
    threads: int = 1
    done: Callable[[int, int], None] = lambda _done, _total: None
    histograms: bool = True

    def planned(
        self, block: Block, scores: Scores, units: Mask, limit: float | None, requested: float | None
    ) -> BlockPlan:
        """The plan of a block whose kept units are known."""
        counts = histogram(scores) if self.histograms else None
        return BlockPlan(block.name, units, requested, limit, counts)


class Allocation(Part, abc.ABC):
    """Abstract axis `allocation`."""

    axis: ClassVar[str] = "allocation"

    @abc.abstractmethod
    def select(self, ranking: Ranking) -> Plans:
        """Which units every block keeps, by block name. Counts are rounded once, half to even."""


def kept_count(size: int, sparsity: float) -> int:
    """round((1 − p)·n), half to even: the published rounding (LAP §1.6)."""
    return round((1.0 - sparsity) * size)


def by_share(ranking: Ranking, block: Block, sparsity: float) -> BlockPlan:
    """Score one block and keep its best units."""
    scores = ranking.score(block)
    units, limit = ranking.choose(block, scores, kept_count(scores.size, sparsity))
    plan = ranking.planned(block, scores, units, limit, sparsity)
    ranking.settle(block, plan)
    return plan


def layerwise(ranking: Ranking, share: Callable[[Block], float]) -> Plans:
    """Every block for itself: in sequence where the criterion insists, else side by side on threads."""
    if ranking.sequence is not None:
        return _collected(ranking, (by_share(ranking, block, share(block)) for block in ranking.sequence))
    with ThreadPoolExecutor(max_workers=_workers(ranking)) as pool:
        return _collected(
            ranking, pool.map(lambda block: by_share(ranking, block, share(block)), ranking.blocks)
        )


def _workers(ranking: Ranking) -> int:
    """Threads to score on: so few that the scores of the largest blocks find room beside each other."""
    largest = max((sum(layer.size for layer in block.layers) for block in ranking.blocks), default=1)
    return max(1, min(ranking.threads, _MOST_AT_ONCE // max(largest, 1)))


def _collected(ranking: Ranking, plans: Iterable[BlockPlan]) -> Plans:
    found: Plans = {}
    for plan in plans:
        found[plan.block] = plan
        ranking.done(len(found), len(ranking.blocks))
    return found


def shares_with_overrides(ranking: Ranking) -> Callable[[Block], float]:
    """A block's own share where the recipe gives one, else the goal's."""
    overrides, goal = ranking.goal.overrides, ranking.goal.sparsity
    return lambda block: overrides.get(block.name, goal)


def split_overridden(ranking: Ranking) -> tuple[list[Block], list[Block]]:
    """(blocks under the goal, blocks with a share of their own)."""
    free = [block for block in ranking.blocks if block.name not in ranking.goal.overrides]
    return free, [block for block in ranking.blocks if block.name in ranking.goal.overrides]
