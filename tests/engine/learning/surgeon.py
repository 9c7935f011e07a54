"""SparseGPT's way over a weight in plain numpy: every inverse anew, every row by itself."""

from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


def damped(gram: Array, relative: float) -> Array:
    """The matrix that is inverted; columns that nothing comes in at stand by themselves."""
    dead = np.diag(gram) <= 0
    found: Array = gram + relative * np.diag(gram).mean() * np.eye(len(gram)) + np.diag(dead.astype(float))
    return found


def way(
    weight: Array, hessian: Array, width: int, cost: Array, keep: Callable[[Array], Array]
) -> tuple[Array, Array]:
    """Scores of (outputs, columns) at the time of choice, and what was kept then."""
    left, scores, kept = weight.copy(), np.zeros_like(weight), np.zeros(weight.shape, bool)
    for column in range(weight.shape[1]):
        if column % width == 0:
            here = slice(column, column + width)
            scores[:, here] = np.where(weight[:, here] == 0, 0.0, left[:, here] ** 2 / cost[here])
            kept[:, here] = keep(scores[:, here])
        ahead = np.linalg.inv(hessian[column:, column:])
        for row in np.flatnonzero(~kept[:, column]):
            left[row, column:] -= left[row, column] / ahead[0, 0] * ahead[0]
    return scores, kept


def inverse_diagonal(hessian: Array) -> Array:
    """[H⁻¹]ⱼⱼ."""
    return np.diag(np.linalg.inv(hessian))


def ahead_diagonal(hessian: Array) -> Array:
    """The same where only the columns from j on are left."""
    return np.array([np.linalg.inv(hessian[j:, j:])[0, 0] for j in range(len(hessian))])


def column_scores(weight: Array, gram: Array, relative: float, share: float) -> Array:
    """Column by column under one threshold, which is set anew once."""
    hessian, weight = damped(gram, relative), np.where(np.diag(gram) > 0, weight, 0.0)
    cost = inverse_diagonal(hessian)
    scores: Array = weight**2 / cost
    count = round(share * weight.size)
    for _ in range(2 if count else 0):
        scores, _ = way(weight, hessian, 1, cost, above(np.sort(scores, axis=None)[count - 1]))
    return scores


def above(threshold: float) -> Callable[[Array], Array]:
    """What scores more stays."""
    return lambda found: found > threshold


def best(scores: Array, count: int) -> Array:
    """The largest, of equals the earlier."""
    keep = np.zeros(scores.size, bool)
    keep[np.argsort(-scores, axis=None, kind="stable")[:count]] = True
    return keep.reshape(scores.shape)


def best_of_each(scores: Array, n: int) -> Array:
    """The n largest of every row."""
    return np.stack([best(row, n) for row in scores])


def error_left(weight: Array, rows: Array, keep: Array) -> float:
    """Squared error of the outputs once the kept weights make up for the others as well as they can."""
    found = 0.0
    for row, kept in zip(weight, keep, strict=True):
        wanted = rows @ row
        solved = np.linalg.lstsq(rows[:, kept], wanted, rcond=None)[0]
        found += float(np.square(wanted - rows[:, kept] @ solved).sum())
    return found
