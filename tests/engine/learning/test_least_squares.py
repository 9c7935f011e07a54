"""Least squares on supports agrees with numpy's, row by row, in float64."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.engine.learning.least_squares import Problem, inverse_diagonal, solve
from worker.engine.learning.moments import Moments, Sample, Spread

GROUPS, ROWS, COLUMNS, OUTPUTS = 3, 50, 9, 6


def _drawn(seed: int, support: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((GROUPS, ROWS, COLUMNS))
    y = rng.standard_normal((GROUPS, ROWS, OUTPUTS))
    toward = rng.standard_normal((GROUPS, OUTPUTS, COLUMNS))
    keep = rng.random((GROUPS, OUTPUTS, COLUMNS)) < (0.8 if support == "most" else 0.5)
    if support == "shared":
        keep[:] = keep[:, :1]
    elif support == "mixed":
        keep[:, 2:4] = keep[:, :1]
        keep[:, 5] = False
    elif support == "most":
        keep[:, 0] = True
    return x, y, toward, keep


def _moments(x: np.ndarray, y: np.ndarray) -> Moments:
    found = Moments(GROUPS, COLUMNS, OUTPUTS)
    for part in np.array_split(np.arange(ROWS), 4):
        found.add(torch.tensor(x[:, part]), torch.tensor(y[:, part]))
    return found


def _by_numpy(x: np.ndarray, y: np.ndarray, w0: np.ndarray, keep: np.ndarray, relative: float) -> np.ndarray:
    """Ridge as an ordinary least-squares problem with more rows."""
    found = np.zeros_like(w0)
    for group, row in np.ndindex(GROUPS, OUTPUTS):
        columns = np.flatnonzero(keep[group, row])
        damping = relative * np.square(x[group]).sum() / COLUMNS
        left = np.vstack([x[group][:, columns], np.sqrt(damping) * np.eye(len(columns))])
        right = np.concatenate([y[group][:, row], np.sqrt(damping) * w0[group, row, columns]])
        if len(columns):
            found[group, row, columns] = np.linalg.lstsq(left, right, rcond=None)[0]
    return found


@pytest.mark.parametrize("support", ["own", "most", "shared", "mixed"])
@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 2**32 - 1), relative=st.sampled_from([1e-6, 1e-2, 1.0]))
def test_as_numpy(support: str, seed: int, relative: float) -> None:
    x, y, toward, keep = _drawn(seed, support)
    moments = _moments(x, y)
    problem = Problem(moments.gram, moments.cross, torch.tensor(keep), torch.tensor(toward))
    found = solve(problem, relative).numpy()
    np.testing.assert_allclose(found, _by_numpy(x, y, toward, keep, relative), rtol=1e-7, atol=1e-9)
    assert not found[~keep].any()


def test_a_free_bias() -> None:
    """Centred moments and the shift are least squares with a column of ones."""
    x, y, _, _ = _drawn(1, "own")
    moments = _moments(x, y + 3.0)
    everywhere = torch.ones(GROUPS, OUTPUTS, COLUMNS, dtype=torch.bool)
    found = solve(Problem(*moments.centred(), everywhere, torch.zeros(everywhere.shape)), 0.0)
    shift = moments.shift(found)
    for group in range(GROUPS):
        ones = np.hstack([x[group], np.ones((ROWS, 1))])
        expected = np.linalg.lstsq(ones, y[group] + 3.0, rcond=None)[0].T
        np.testing.assert_allclose(found[group], expected[:, :-1], atol=1e-6)
        np.testing.assert_allclose(shift[group], expected[:, -1], atol=1e-6)


@pytest.mark.parametrize("free", [True, False])
@pytest.mark.parametrize("support", ["own", "most", "shared", "mixed"])
def test_rows_and_their_moments_give_the_same(support: str, free: bool) -> None:
    x, y, toward, keep = (torch.tensor(item) for item in _drawn(6, support))
    moments, sample = Moments(GROUPS, COLUMNS, OUTPUTS), Sample()
    for part in [torch.arange(start, min(start + 17, ROWS)) for start in range(0, ROWS, 17)]:
        moments.add(x[:, part], y[:, part])
        sample.add(x[:, part], y[:, part])
    assert moments.count == sample.count == ROWS
    one, other = (item.solve(keep, toward, 0.1, free=free) for item in (moments, sample))
    torch.testing.assert_close(one, other)
    assert not other[~keep].any()
    torch.testing.assert_close(moments.shift(one), sample.shift(one))
    shift = torch.full((GROUPS, OUTPUTS), 0.3, dtype=torch.float64)
    torch.testing.assert_close(moments.error(one, shift), sample.error(one, shift))


def test_errors_are_those_of_the_rows() -> None:
    x, y, matrix, _ = _drawn(2, "own")
    shift = np.random.default_rng(3).standard_normal((GROUPS, OUTPUTS))
    expected = np.square(x @ matrix.transpose(0, 2, 1) + shift[:, None] - y).sum(axis=1)
    np.testing.assert_allclose(_moments(x, y).error(torch.tensor(matrix), torch.tensor(shift)), expected)


def test_inputs_that_are_all_zero_leave_weights_alone() -> None:
    _, y, toward, keep = _drawn(4, "own")
    moments = _moments(np.zeros((GROUPS, ROWS, COLUMNS)), y)
    found = solve(Problem(moments.gram, moments.cross, torch.tensor(keep), torch.tensor(toward)), 0.01)
    np.testing.assert_array_equal(found, np.where(keep, toward, 0.0))


def test_inverse_diagonal() -> None:
    x, y, _, _ = _drawn(5, "own")
    x[1, :, 4] = 0.0
    gram = _moments(x, y).gram
    found = inverse_diagonal(gram, 0.01).numpy()
    for group in range(GROUPS):
        matrix = gram[group].numpy()
        expected = np.diag(np.linalg.inv(matrix + 0.01 * np.diag(matrix).mean() * np.eye(COLUMNS)))
        alive = np.diag(matrix) > 0
        np.testing.assert_allclose(found[group][alive], expected[alive])
        assert np.isinf(found[group][~alive]).all()
    assert np.isinf(found).sum() == 1


@settings(deadline=None, max_examples=30)
@given(
    sizes=st.lists(st.integers(1, 20), min_size=1, max_size=5),
    offset=st.sampled_from([0.0, 1e6]),
    seed=st.integers(0, 1000),
)
def test_spread_is_that_of_all_values(sizes: list[int], offset: float, seed: int) -> None:
    values = np.random.default_rng(seed).standard_normal((3, sum(sizes))) + offset
    spread = Spread()
    for part in np.split(values, np.cumsum(sizes)[:-1], axis=1):
        spread.add(torch.tensor(part))
    np.testing.assert_allclose(spread.means, values.mean(axis=1), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(spread.variance, values.var(axis=1), rtol=1e-6, atol=1e-9)
