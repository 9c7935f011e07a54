"""Where a figure that follows the sparsity crosses its goal: bisection, quickened by interpolation."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import final

from worker.engine.errors import InvalidRecipeError
from worker.engine.types import Plan

#: Sparsities nearer to each other than this count as one.
CLOSEST = 1e-10
#: Every so often the middle is tried, so that the interval shrinks whatever the figure's shape.
_MIDDLE_EVERY = 3
_TURNS = 200
_HALVINGS = 6


@final
@dataclass(frozen=True)
class Probe:
    """A sparsity that was tried, how many weights go then, and the figure."""

    sparsity: float
    pruned: int
    figure: float


@final
@dataclass
class Trial:
    """Tries sparsities. Plans are nested, so that equal numbers of pruned weights mean the same plan, whose
    figure is taken once."""

    select: Callable[[float], Plan]
    measure: Callable[[Plan], float]
    done: Callable[[int], None] = lambda _count: None
    probes: dict[int, Probe] = field(default_factory=dict)

    def at(self, sparsity: float) -> Probe:
        """The figure at a sparsity. Raises InvalidRecipeError where the allocation cannot give it."""
        plan = self.select(sparsity)
        pruned = sum(layer.pruned for layer in plan.layers)
        if pruned not in self.probes:
            self.probes[pruned] = Probe(sparsity, pruned, self.measure(plan))
            self.done(len(self.probes))
        return Probe(sparsity, pruned, self.probes[pruned].figure)


@final
@dataclass(frozen=True)
class Effort:
    """When a search has done enough: sparsities this near to each other, so many figures, so much time."""

    closest: float = CLOSEST
    most: int = 80
    seconds: float = math.inf
    clock: Callable[[], float] = time.monotonic


def crossing(trial: Trial, good: Probe, bad: Probe, goal: float, effort: Effort) -> Probe:
    """The last probe with `figure ≤ goal` on the way from `good`, where that holds, to `bad`, where not.

    Ends when no plan lies between the two, or when the effort is spent.
    """
    end = effort.clock() + effort.seconds
    pull_good = pull_bad = 1.0
    for turn in range(1, _TURNS):
        near = abs(good.pruned - bad.pruned) <= 1 or abs(good.sparsity - bad.sparsity) <= effort.closest
        if near or len(trial.probes) >= effort.most or effort.clock() >= end:
            break
        over, under = pull_bad * (bad.figure - goal), pull_good * (goal - good.figure)
        share = 0.5 if turn % _MIDDLE_EVERY == 0 else min(max(under / (over + under), 0.01), 0.99)
        probe = trial.at(good.sparsity + share * (bad.sparsity - good.sparsity))
        if probe.figure <= goal:  # Illinois: the end that stays loses half of its pull
            good, pull_good, pull_bad = probe, 1.0, 0.5 * pull_bad
        else:
            bad, pull_bad, pull_good = probe, 1.0, 0.5 * pull_good
    return good


def allowed_range(select: Callable[[float], Plan]) -> tuple[float, float]:
    """The least and the largest sparsity that the allocation can give (floors and caps bound it).

    Raises its InvalidRecipeError when none is found.
    """
    refusals: list[InvalidRecipeError] = []

    def fits(sparsity: float) -> bool:
        try:
            select(sparsity)
        except InvalidRecipeError as error:
            refusals.append(error)
            return False
        return True

    grid = [0.0, 1.0, *(i / 2**k for k in range(1, _HALVINGS + 1) for i in range(1, 2**k, 2))]
    inside = next((sparsity for sparsity in grid if fits(sparsity)), None)
    if inside is None:
        raise refusals[-1]
    return _edge(fits, inside, 0.0), _edge(fits, inside, 1.0)


def _edge(fits: Callable[[float], bool], inside: float, outside: float) -> float:
    """The sparsity nearest to `outside` that still fits."""
    if inside == outside or fits(outside):
        return outside
    while abs(outside - inside) > CLOSEST:
        middle = 0.5 * (inside + outside)
        inside, outside = (middle, outside) if fits(middle) else (inside, middle)
    return inside
