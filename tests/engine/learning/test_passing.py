"""The way over a weight against plain numpy, and what is left of the error after reconstruction."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.engine.learning import surgeon
from worker.engine.learning.least_squares import inverse_diagonal, inverse_factor
from worker.engine.learning.passing import block_scores, column_scores, pattern_scores

Array = np.ndarray[Any, np.dtype[Any]]
OUTPUTS, DAMPING = 5, 0.01
SEEDS = st.integers(0, 2**32 - 1)


def _drawn(seed: int, columns: int, groups: int = 1, outputs: int = OUTPUTS) -> tuple[Array, Array]:
    """Weights (groups, outputs, columns) and what they read, (groups, rows, columns), correlated. Narrow ones
    may read nothing but zeros somewhere."""
    rng = np.random.default_rng(seed)
    factors = rng.standard_normal((groups, max(2, columns // 4), columns))
    rows = rng.standard_normal((groups, 6 * columns, factors.shape[1])) @ factors
    rows = np.maximum(rows + rng.standard_normal(rows.shape), 0.0)
    return rng.standard_normal((groups, outputs, columns)), rows


def _gram(rows: Array) -> torch.Tensor:
    return torch.tensor(rows.swapaxes(1, 2) @ rows)


@settings(deadline=None, max_examples=20)
@given(seed=SEEDS, columns=st.integers(1, 12), groups=st.integers(1, 3))
def test_factor(seed: int, columns: int, groups: int) -> None:
    _, rows = _drawn(seed, columns, groups)
    rows[0, :, 0] = 0.0
    gram = _gram(rows)
    factor, dead = inverse_factor(gram, DAMPING)
    for group in range(groups):
        inverse = np.linalg.inv(surgeon.damped(gram[group].numpy(), DAMPING))
        np.testing.assert_allclose((factor[group].T @ factor[group]).numpy(), inverse, rtol=1e-8, atol=1e-12)
    assert dead[0, 0]
    np.testing.assert_array_equal(dead, (rows == 0).all(axis=1))
    assert not factor.tril(-1).any()
    alive = ~dead
    expected = inverse_diagonal(gram, DAMPING)[alive]
    torch.testing.assert_close(factor.square().sum(dim=1)[alive], expected, rtol=1e-8, atol=1e-12)


@settings(deadline=None, max_examples=30)
@given(seed=SEEDS, columns=st.integers(1, 12), share=st.floats(0.0, 1.0))
def test_columns(seed: int, columns: int, share: float) -> None:
    weight, rows = _drawn(seed, columns)
    found = column_scores(torch.tensor(weight), _gram(rows), DAMPING, share)[0]
    expected = surgeon.column_scores(weight[0], rows[0].T @ rows[0], DAMPING, share)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-12)


def test_more_columns_than_a_span() -> None:
    """Errors reach columns that are passed much later."""
    weight, rows = _drawn(3, 140, outputs=3)
    found = column_scores(torch.tensor(weight), _gram(rows), DAMPING, 0.6)[0]
    expected = surgeon.column_scores(weight[0], rows[0].T @ rows[0], DAMPING, 0.6)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-12)


def test_groups_share_one_threshold() -> None:
    """Groups are passed by themselves; the threshold is the weight's."""
    weight, rows = _drawn(4, 8, groups=2)
    found = column_scores(torch.tensor(weight), _gram(rows), DAMPING, 0.5).numpy()
    hessians = [surgeon.damped(part.T @ part, DAMPING) for part in rows]
    costs = [surgeon.inverse_diagonal(hessian) for hessian in hessians]
    scores = weight**2 / np.stack(costs)[:, None]
    for _ in range(2):
        least = np.sort(scores, axis=None)[weight.size // 2 - 1]
        ways = [surgeon.way(weight[i], hessians[i], 1, costs[i], surgeon.above(least)) for i in range(2)]
        scores = np.stack([one for one, _ in ways])
    np.testing.assert_allclose(found, scores, rtol=1e-6, atol=1e-12)


@settings(deadline=None, max_examples=20)
@given(seed=SEEDS, block=st.sampled_from([1, 3, 4, 12]), share=st.sampled_from([0.2, 0.4, 0.8]))
def test_blocks(seed: int, block: int, share: float) -> None:
    """The best of the whole weight are the published mask: the same share of each block."""
    weight, rows = _drawn(seed, 12)
    hessian = surgeon.damped(rows[0].T @ rows[0], DAMPING)
    count = round((1 - share) * OUTPUTS * block)
    cost = surgeon.ahead_diagonal(hessian)
    scores, kept = surgeon.way(weight[0], hessian, block, cost, lambda one: surgeon.best(one, count))
    found = block_scores(torch.tensor(weight), _gram(rows), DAMPING, share, block)[0].numpy()
    np.testing.assert_array_equal(surgeon.best(found, int(kept.sum())), kept)
    for start in range(0, 12, block):
        ratio = found[:, start : start + block] / scores[:, start : start + block]
        np.testing.assert_allclose(ratio, ratio[0, 0], rtol=1e-6)


@settings(deadline=None, max_examples=20)
@given(seed=SEEDS, pattern=st.sampled_from([(2, 4), (1, 3), (3, 6)]))
def test_patterns(seed: int, pattern: tuple[int, int]) -> None:
    n, m = pattern
    weight, rows = _drawn(seed, 12)
    hessian = surgeon.damped(rows[0].T @ rows[0], DAMPING)
    cost = surgeon.ahead_diagonal(hessian)
    expected, _ = surgeon.way(weight[0], hessian, m, cost, lambda one: surgeon.best_of_each(one, n))
    found = pattern_scores(torch.tensor(weight), _gram(rows), DAMPING, pattern)[0]
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-12)


def test_what_is_zero_or_reads_nothing_goes() -> None:
    """And stays gone: it scores nothing, whatever the others would like it to make up for."""
    weight, rows = _drawn(5, 12)
    rows[:, :, 7] = 0.0
    weight[:, :, 9], weight[0, 2, 4] = 0.0, 0.0
    gone = np.zeros(weight.shape, bool)
    gone[:, :, [7, 9]], gone[0, 2, 4] = True, True
    tensor, gram = torch.tensor(weight), _gram(rows)
    for found in (
        column_scores(tensor, gram, DAMPING, 0.5),
        block_scores(tensor, gram, DAMPING, 0.5, 4),
        pattern_scores(tensor, gram, DAMPING, (2, 4)),
    ):
        np.testing.assert_array_equal(found.numpy() == 0, gone)


@pytest.mark.parametrize("share", [0.3, 0.5, 0.7, 0.9])
@pytest.mark.parametrize("columns", [28, 96])
def test_error_after_reconstruction(columns: int, share: float) -> None:
    """Over random layers with correlated inputs: column by column is best."""
    left = {"columns": 0.0, "blocks": 0.0, "at once": 0.0, "magnitude": 0.0}
    for seed in range(3):
        weight, rows = _drawn(seed, columns, outputs=16)
        gram = _gram(rows)
        scores = {
            "columns": column_scores(torch.tensor(weight), gram, DAMPING, share)[0].numpy(),
            "blocks": block_scores(torch.tensor(weight), gram, DAMPING, share, 128)[0].numpy(),
            "at once": weight[0] ** 2 / inverse_diagonal(gram, DAMPING)[0].numpy(),
            "magnitude": np.abs(weight[0]),
        }
        for name, one in scores.items():
            keep = surgeon.best(one, round((1 - share) * one.size))
            left[name] += surgeon.error_left(weight[0], rows[0], keep)
    assert left["columns"] < left["at once"] < left["magnitude"]
    assert left["columns"] < left["blocks"]


def test_patterns_after_reconstruction() -> None:
    left = {"columns": 0.0, "at once": 0.0}
    for seed in range(3):
        weight, rows = _drawn(seed, 96, outputs=16)
        gram = _gram(rows)
        scores = {
            "columns": pattern_scores(torch.tensor(weight), gram, DAMPING, (2, 4))[0].numpy(),
            "at once": weight[0] ** 2 / inverse_diagonal(gram, DAMPING)[0].numpy(),
        }
        for name, one in scores.items():
            keep = surgeon.best_of_each(one.reshape(-1, 4), 2).reshape(one.shape)
            left[name] += surgeon.error_left(weight[0], rows[0], keep)
    assert left["columns"] < left["at once"]
