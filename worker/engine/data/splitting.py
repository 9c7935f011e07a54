"""Rows for training and rows for validation: as the file says, or drawn by a seed, alike in their labels."""

from typing import Final

import numpy as np

from worker.engine.data.sources import Rows
from worker.engine.errors import InvalidRecipeError, TooFewRowsError
from worker.engine.types import Array

#: More different values than this are no classes.
_MOST_CLASSES: Final = 10_000


def draw_split(rows: int, labels: Array | None, fraction: float, seed: int, least: int) -> tuple[Rows, Rows]:
    """(training, validation) as sorted positions; `fraction` of the rows go to validation.

    With labels, each class is divided as the whole is, as closely as whole rows allow. Both sides get at
    least `least` rows. Raises `TooFewRowsError` when there are not as many, `InvalidRecipeError` for a
    fraction that is none.
    """
    if not 0 < fraction < 1:
        raise InvalidRecipeError(f"a share of {fraction:g} cannot be set apart; it lies between 0 and 1")
    if rows < 2 * least:
        raise TooFewRowsError(
            f"training with validation needs {2 * least} rows; "
            f"the dataset has {rows if rows != 1 else 'a single one'}",
            hint="training rows and validation rows are never the same; give more data",
        )
    wanted = min(max(round(rows * fraction), least), rows - least)
    generator = np.random.default_rng([seed, rows])
    order = generator.permutation(rows)
    groups = None if labels is None else _groups(labels[order])
    taken = order[:wanted] if groups is None else order[_by_class(groups, wanted)]
    held = np.zeros(rows, np.bool_)
    held[taken] = True
    return np.flatnonzero(~held), np.flatnonzero(held)


def class_labels(targets: Array) -> Array | None:
    """Targets as one class number per row; None when they are something else."""
    if targets.ndim == 2 and targets.shape[1] > 1 and _one_hot(targets):
        return np.asarray(targets.argmax(axis=1))
    if targets.size != len(targets):
        return None
    flat = targets.reshape(-1)
    whole = flat.dtype.kind in "biu" or bool((flat == np.floor(flat)).all())
    return flat.astype(np.int64) if whole else None


def _one_hot(targets: Array) -> bool:
    return bool(((targets == 0) | (targets == 1)).all() and (targets.sum(axis=1) == 1).all())


def _groups(labels: Array) -> list[Rows] | None:
    """Positions by class; None when classes are too many, or most have no second row, to be divided."""
    _, numbers, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if len(counts) > min(_MOST_CLASSES, len(labels) // 2):
        return None
    by_class = np.argsort(numbers, kind="stable")
    return list(np.split(by_class, np.cumsum(counts)[:-1]))


def _by_class(groups: list[Rows], wanted: int) -> Rows:
    """So many positions, each class giving its share; a class gives its last row only when all others have.

    Shares are rounded by largest remainder, where remainders are equal in favour of the smaller class.
    """
    sizes = np.array([len(group) for group in groups])
    exact = sizes * (wanted / sizes.sum())
    quota = np.minimum(np.floor(exact).astype(np.int64), sizes - 1)
    for spare in (1, 0):
        for place in np.lexsort((sizes, quota - exact)):
            if quota.sum() == wanted:
                break
            quota[place] += int(quota[place] < sizes[place] - spare)
    while quota.sum() < wanted:
        quota[int(np.argmax(sizes - quota))] += 1
    return np.concatenate([group[:count] for group, count in zip(groups, quota, strict=True)])
