"""The search for an order of columns: never worse, exact in what it counts, able to undo a planted order."""

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.engine.graph import swaps
from worker.engine.graph.swaps import better_order, kept_score

Array = np.ndarray[Any, np.dtype[Any]]


def _naive(scores: Array, n: int, m: int) -> float:
    total = 0.0
    for row in scores:
        for start in range(0, len(row), m):
            total += sum(sorted(row[start : start + m], reverse=True)[:n])
    return total


@st.composite
def _searches(draw: st.DrawFn) -> tuple[Array, int, int]:
    m = draw(st.integers(2, 6))
    n = draw(st.integers(1, m - 1))
    rng = np.random.default_rng(draw(st.integers(0, 1 << 20)))
    shape = (draw(st.integers(1, 12)), m * draw(st.integers(1, 5)))
    scores = rng.gamma(0.5, size=shape) * rng.gamma(1.0, size=shape[1])
    return np.where(rng.random(shape) < draw(st.sampled_from([0.0, 0.5])), 0.0, scores), n, m


@settings(max_examples=150, deadline=None, derandomize=True)
@given(_searches(), st.integers(1, 20))
def test_an_order_keeps_no_less(search: tuple[Array, int, int], sweeps: int) -> None:
    scores, n, m = search
    order = better_order(scores, n, m, sweeps, seed=0)
    assert sorted(order) == list(range(scores.shape[1]))
    before, after = _naive(scores, n, m), _naive(scores[:, order], n, m)
    assert kept_score(scores, n, m) == pytest.approx(before)
    assert after >= before - 1e-5 * abs(before)
    np.testing.assert_array_equal(order, better_order(scores, n, m, sweeps, seed=0))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(_searches())
def test_at_the_end_no_swap_of_two_columns_helps(search: tuple[Array, int, int]) -> None:
    scores, n, m = search
    order = better_order(scores, n, m, 1000, seed=0)
    best = _naive(scores[:, order], n, m)
    for one, other in itertools.combinations(range(len(order)), 2):
        swapped = order.copy()
        swapped[[one, other]] = order[[other, one]]
        assert _naive(scores[:, swapped], n, m) <= best * (1 + 1e-5) + 1e-9


def test_a_planted_order_is_found_again() -> None:
    """Two large columns and two of nothing to every stripe keep everything; they come side by side."""
    scores = np.ones((3, 16)) * (np.arange(16) < 8)
    assert kept_score(scores, 2, 4) == pytest.approx(scores.sum() / 2)
    order = better_order(scores, 2, 4, 20, seed=0)
    assert kept_score(scores[:, order], 2, 4) == pytest.approx(scores.sum())


def test_of_too_many_rows_some_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(swaps, "_MOST", 1)  # 64 rows are looked at all the same
    rng = np.random.default_rng(0)
    scores = np.repeat(rng.gamma(0.5, size=(1, 16)), 1000, axis=0)
    order = better_order(scores, 2, 4, 20, seed=3)
    np.testing.assert_array_equal(order, better_order(scores[:64], 2, 4, 20, seed=4))
    assert kept_score(scores[:, order], 2, 4) > kept_score(scores, 2, 4)
