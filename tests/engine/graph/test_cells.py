"""Ties between units, against a union-find of the plainest kind."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.engine.graph.cells import Cells, count_classes, merged
from worker.engine.graph.channels import Source

PAIRS = st.lists(st.lists(st.tuples(st.integers(-1, 29), st.integers(-1, 29)), max_size=20), max_size=4)


def plainly(count: int, pairs: list[tuple[int, int]]) -> list[int]:
    """The smallest member of everyone's class."""
    label = list(range(count))
    for a, b in pairs:
        low, high = sorted((label[a], label[b]))
        label = [low if own == high else own for own in label]
    return label


@given(PAIRS)
def test_a_class_goes_by_its_smallest_cell_however_ties_come_in(batches: list[list[tuple[int, int]]]) -> None:
    cells = Cells()
    for name in "ab":
        cells.of(Source(name, 15))
    for batch in batches:
        first, second = (np.array([pair[side] for pair in batch], dtype=np.int64) for side in (0, 1))
        cells.join(first, second)
        cells.roots()
    pairs = [(a, b) for batch in batches for a, b in batch if a >= 0 and b >= 0]
    assert cells.roots().tolist() == plainly(30, pairs)


def test_a_long_chain_in_any_order_is_one_class() -> None:
    order = np.random.default_rng(0).permutation(5000)
    first, second = np.array(list(pairwise(order))).T
    assert not merged(np.arange(5000), first, second).any()


@given(st.lists(st.lists(st.integers(-1, 8), min_size=6, max_size=6), min_size=1, max_size=4))
def test_columns_that_share_a_label_belong_together(rows: list[list[int]]) -> None:
    grid = np.array(rows)
    pairs = [
        (a, b)
        for a in range(6)
        for b in range(6)
        if set(grid[:, a].tolist()) & set(grid[:, b].tolist()) - {-1}
    ]
    assert count_classes(grid) == len(set(plainly(6, pairs)))


def test_units_that_are_given_are_frozen_with_the_first_reason() -> None:
    cells = Cells()
    start = cells.of(Source("x", 2, given=True))
    cells.freeze(np.array([start, -1]), "another")
    assert cells.reasons == {
        0: "joined with channels that are given",
        1: "joined with channels that are given",
    }


def test_a_star_takes_few_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Columns of a detection head all share one channel: thousands of places tied to one label."""
    compared = list[int]()
    equal = np.array_equal
    monkeypatch.setattr(np, "array_equal", lambda one, other: compared.append(1) or equal(one, other))
    count = 2000
    hub = np.full(count, count)
    found = merged(np.arange(count + 1), np.random.default_rng(0).permutation(count), hub)
    assert not found.any() and len(compared) < 20
