"""How much goes, and from where: the abstract allocation and exact selection by score."""

import abc
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import ClassVar

from worker.engine.allocation.selection import histogram, largest
from worker.engine.granularity.base import Granularity
from worker.engine.graph.layer import Layer
from worker.engine.registry import Part
from worker.engine.types import Goal, LayerPlan, Mask, Plan, Scores


@dataclass(frozen=True)
class Ranking:
    """Everything an allocation may ask: layers, their scores, their units, the goal.

    `score` may be asked once per layer; `settle` tells what a layer keeps; `sequence` is the order that
    the criterion insists on, or None.
    """

    layers: Sequence[Layer]
    score: Callable[[Layer], Scores]
    settle: Callable[[Layer, Mask], None]
    sequence: Sequence[Layer] | None
    granularity: Granularity
    goal: Goal
    threads: int = 1
    done: Callable[[int, int], None] = lambda _done, _total: None
    histograms: bool = True


class Allocation(Part, abc.ABC):
    """Abstract axis `allocation`."""

    axis: ClassVar[str] = "allocation"

    @abc.abstractmethod
    def select(self, ranking: Ranking) -> Plan:
        """What every layer keeps. Counts are exact: shares are rounded once, half to even."""


def kept_count(size: int, sparsity: float) -> int:
    """round((1 − p)·n), half to even: the published rounding (LAP §1.6)."""
    return round((1.0 - sparsity) * size)


def plan_layer(
    ranking: Ranking, layer: Layer, scores: Scores, units: Mask, limit: float | None, requested: float
) -> LayerPlan:
    """The plan of a layer whose kept units are known."""
    keep = ranking.granularity.spread(units, layer)
    return LayerPlan(layer.name, keep, requested, limit, histogram(scores) if ranking.histograms else None)


def by_share(ranking: Ranking, layer: Layer, sparsity: float) -> LayerPlan:
    """Score one layer and keep its best units."""
    scores = ranking.granularity.pool(ranking.score(layer), layer)
    keep, limit = largest(scores, kept_count(scores.size, sparsity))
    plan = plan_layer(ranking, layer, scores, keep, limit, sparsity)
    ranking.settle(layer, plan.keep)
    return plan


def layerwise(ranking: Ranking, share: Callable[[Layer], float]) -> Plan:
    """Every layer for itself: in sequence where the criterion insists, else side by side on threads."""
    if ranking.sequence is not None:
        return _in_order(ranking, (by_share(ranking, layer, share(layer)) for layer in ranking.sequence))
    with ThreadPoolExecutor(max_workers=max(1, ranking.threads)) as pool:
        return _in_order(
            ranking, pool.map(lambda layer: by_share(ranking, layer, share(layer)), ranking.layers)
        )


def _in_order(ranking: Ranking, plans: Iterable[LayerPlan]) -> Plan:
    found: dict[str, LayerPlan] = {}
    for plan in plans:
        found[plan.layer] = plan
        ranking.done(len(found), len(ranking.layers))
    return Plan(tuple(found[layer.name] for layer in ranking.layers))


def shares_with_overrides(ranking: Ranking) -> Callable[[Layer], float]:
    """A layer's own share where the recipe gives one, else the goal's."""
    overrides, goal = ranking.goal.overrides, ranking.goal.sparsity
    return lambda layer: overrides.get(layer.name, goal)


def split_overridden(ranking: Ranking) -> tuple[list[Layer], list[Layer]]:
    """(layers under the goal, layers with a share of their own)."""
    free = [layer for layer in ranking.layers if layer.name not in ranking.goal.overrides]
    return free, [layer for layer in ranking.layers if layer.name in ranking.goal.overrides]
