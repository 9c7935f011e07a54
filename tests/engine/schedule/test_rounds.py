"""Schedules of several rounds: where each round ends, as published, and that the last ends at the goal."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from worker.engine.schedule.cubic import Cubic
from worker.engine.schedule.iterative import Iterative
from worker.engine.types import Goal

SHARES = st.floats(0.01, 0.999)


@given(sparsity=SHARES, own=SHARES, rounds=st.integers(1, 40))
def test_every_round_removes_the_same_share_of_what_is_left(sparsity: float, own: float, rounds: int) -> None:
    steps = list(Iterative(rounds=rounds).steps(Goal(sparsity, {"a": own})))
    assert len(steps) == rounds and steps[-1] == Goal(sparsity, {"a": own})
    left = [1.0, *(1 - step.sparsity for step in steps)]
    factors = [after / before for before, after in pairwise(left)]
    assert factors == pytest.approx([(1 - sparsity) ** (1 / rounds)] * rounds)


def test_twenty_rounds_of_a_fifth_are_those_of_the_paper() -> None:
    """Survivors after rounds 1, 2, … in percent, from LAMP's protocol."""
    published = [80, 64, 51.2, 40.96, 32.77, 26.21, 20.97, 16.78, 13.42, 10.74, 8.59, 6.87, 5.50, 4.40, 3.52]
    published += [2.81, 2.25, 1.80, 1.44, 1.15]
    steps = list(Iterative(ratio=0.2).steps(Goal(1 - 0.8**20)))
    assert [round(100 * (1 - step.sparsity), 2) for step in steps] == pytest.approx(published, abs=0.006)


@given(sparsity=SHARES, ratio=st.floats(0.05, 0.9))
def test_no_round_removes_more_than_the_ratio(sparsity: float, ratio: float) -> None:
    left = [1.0, *(1 - step.sparsity for step in Iterative(ratio=ratio).steps(Goal(sparsity)))]
    assert all(after >= before * (1 - ratio) - 1e-9 for before, after in pairwise(left))
    assert len(left) - 1 == max(1, math.ceil(math.log(1 - sparsity) / math.log(1 - ratio) - 1e-9))


def test_rounds_and_ratio_exclude_each_other() -> None:
    with pytest.raises(ValidationError, match="not both"):
        Iterative(rounds=3, ratio=0.1)


@given(sparsity=SHARES, rounds=st.integers(1, 40))
def test_the_cubic_path_is_that_of_the_paper(sparsity: float, rounds: int) -> None:
    """s_t = s_f + (s_i − s_f)(1 − t/n)³ with s_i = 0."""
    steps = [step.sparsity for step in Cubic(rounds=rounds).steps(Goal(sparsity))]
    expected = [sparsity + (0 - sparsity) * (1 - t / rounds) ** 3 for t in range(1, rounds + 1)]
    assert steps == pytest.approx(expected)


@given(before=st.floats(0, 0.9), more=st.floats(0.01, 1), cuts=st.integers(1, 20))
@pytest.mark.parametrize("kind", [Iterative, Cubic])
def test_cuts_lead_from_the_last_round_to_this_one(kind: type, before: float, more: float, cuts: int) -> None:
    after = before + (0.999 - before) * more
    found = list(kind(cuts=cuts).cuts(Goal(after), Goal(before)))
    assert len(found) == cuts and found[-1] == Goal(after)
    for number, cut in enumerate(found, 1):
        assert math.log1p(-cut.sparsity) == pytest.approx(
            math.log1p(-before) + (math.log1p(-after) - math.log1p(-before)) * number / cuts, abs=1e-9
        )
