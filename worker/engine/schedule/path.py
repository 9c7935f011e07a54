"""Paths from one goal to the next, shared by the schedules that take more than one cut."""

from collections.abc import Callable, Iterator

from worker.engine.types import Goal


def along(goal: Goal, at: Callable[[float], float]) -> Goal:
    """The goal with every share replaced by where a path to it stands."""
    return Goal(at(goal.sparsity), {name: at(share) for name, share in goal.overrides.items()})


def exponential(share: float, way: float) -> float:
    """1 − (1 − s)^way: the share kept falls by equal factors."""
    return _between(0.0, share, way)


def rescored(before: Goal, after: Goal, cuts: int) -> Iterator[Goal]:
    """So many cuts on the exponential path from one goal to the next."""
    for cut in range(1, cuts):
        way = cut / cuts
        overrides = {
            name: _between(before.overrides.get(name, 0.0), share, way)
            for name, share in after.overrides.items()
        }
        yield Goal(_between(before.sparsity, after.sparsity, way), overrides)
    yield after


def _between(first: float, last: float, way: float) -> float:
    """What is to go entirely goes at the end: no path of this kind leads to zero."""
    if way == 1.0:
        return last
    if last == 1.0 or first == last:
        return first
    factor: float = ((1.0 - last) / (1.0 - first)) ** way
    return 1.0 - (1.0 - first) * factor
