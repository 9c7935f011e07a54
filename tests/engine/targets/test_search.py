"""The search by itself, against trying every plan there is."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.engine.allocation.base import kept_count
from worker.engine.errors import InvalidRecipeError
from worker.engine.targets.search import Effort, Probe, Trial, allowed_range, crossing
from worker.engine.types import LayerPlan, Plan


def _select(sizes: list[int], step: int = 1) -> Callable[[float], Plan]:
    """Layers that each keep round((1 − s)·n), in multiples of `step`."""

    def plan(sparsity: float) -> Plan:
        keeps = [np.arange(n) < kept_count(n, sparsity) // step * step for n in sizes]
        return Plan(tuple(LayerPlan(str(i), keep, sparsity) for i, keep in enumerate(keeps)))

    return plan


def _pruned(plan: Plan) -> int:
    return sum(layer.pruned for layer in plan.layers)


def _every_plan(select: Callable[[float], Plan], sizes: list[int]) -> list[int]:
    """Pruned counts of all plans, from the sparsities just beside every rounding edge."""
    edges = {(k + 0.5) / n + side for n in sizes for k in range(n) for side in (-1e-9, 1e-9)}
    return sorted({_pruned(select(s)) for s in (0.0, 1.0, *edges) if 0.0 <= s <= 1.0})


@given(
    sizes=st.lists(st.integers(1, 60), min_size=1, max_size=4),
    step=st.integers(1, 5),
    power=st.floats(0.2, 5.0),
    goal=st.floats(0.0, 1.0),
)
def test_the_answer_is_the_least_plan_that_meets_the_goal(
    sizes: list[int], step: int, power: float, goal: float
) -> None:
    select, total = _select(sizes, step), sum(sizes)
    trial = Trial(select, lambda plan: (1 - _pruned(plan) / total) ** power)
    good, bad = trial.at(1.0), trial.at(0.0)
    if bad.figure <= goal:
        return
    found = crossing(trial, good, bad, goal, Effort())
    meets = [gone for gone in _every_plan(select, sizes) if (1 - gone / total) ** power <= goal]
    assert found.pruned == min(meets)
    assert found.figure <= goal
    assert _pruned(select(found.sparsity)) == found.pruned


@given(
    sizes=st.lists(st.integers(1, 60), min_size=1, max_size=4),
    power=st.floats(0.2, 5.0),
    goal=st.floats(0.0, 99.0),
)
def test_a_figure_that_grows_is_bounded_from_above(sizes: list[int], power: float, goal: float) -> None:
    select, total = _select(sizes), sum(sizes)
    trial = Trial(select, lambda plan: 100 * (_pruned(plan) / total) ** power)
    found = crossing(trial, trial.at(0.0), trial.at(1.0), goal, Effort())
    allowed = [gone for gone in _every_plan(select, sizes) if 100 * (gone / total) ** power <= goal]
    assert found.pruned == max(allowed)


@given(noise=st.lists(st.floats(-0.3, 0.3), min_size=200, max_size=200), goal=st.floats(0.1, 0.9))
def test_a_noisy_figure_still_ends_on_a_plan_that_was_seen_to_meet_the_goal(
    noise: list[float], goal: float
) -> None:
    select = _select([150])
    trial = Trial(select, lambda plan: 1 - _pruned(plan) / 150 + noise[_pruned(plan)] * 0.3)
    good, bad = Probe(1.0, 150, 0.0), Probe(0.0, 0, 1.0)
    found = crossing(trial, good, bad, goal, Effort(most=12))
    assert found.figure <= goal
    assert len(trial.probes) <= 12


def test_a_smooth_figure_takes_few_tries() -> None:
    trial = Trial(_select([1_000_000]), lambda plan: 1 - _pruned(plan) / 1_000_000)
    found = crossing(trial, trial.at(1.0), trial.at(0.0), 0.3712345, Effort())
    assert found.pruned == 628_766
    assert len(trial.probes) <= 12


def test_time_ends_the_search() -> None:
    times = iter(range(100))
    trial = Trial(_select([1000]), lambda plan: (1 - _pruned(plan) / 1000) ** 9)
    crossing(trial, trial.at(1.0), trial.at(0.0), 0.5, Effort(seconds=3, clock=lambda: next(times)))
    assert len(trial.probes) == 4


@given(least=st.floats(0.0, 0.99), width=st.floats(0.04, 1.0))
def test_the_range_of_an_allocation_is_found(least: float, width: float) -> None:
    most = min(1.0, least + width)

    def select(sparsity: float) -> Plan:
        if not least <= sparsity <= most:
            raise InvalidRecipeError("out of bounds")
        return Plan(())

    try:
        low, high = allowed_range(select)
    except InvalidRecipeError:
        assert most - least < 1 / 32
        return
    assert least <= low <= least + 1e-9
    assert most - 1e-9 <= high <= most


def test_an_allocation_that_allows_nothing_says_so() -> None:
    def select(_sparsity: float) -> Plan:
        raise InvalidRecipeError("the allocation's floor lies above its cap")

    with pytest.raises(InvalidRecipeError, match="floor lies above"):
        allowed_range(select)


def test_equal_plans_are_measured_once() -> None:
    seen: list[int] = []

    def measure(plan: Plan) -> float:
        seen.append(_pruned(plan))
        return 1 - _pruned(plan) / 10

    trial = Trial(_select([10]), measure)
    for sparsity in (0.5, 0.501, 0.499, 0.2):
        trial.at(sparsity)
    assert seen == [5, 2]
