"""From scores of weights to one score per unit that holds several."""

import numpy as np

from worker.engine.types import Scores


def pooled(scores: Scores, axes: tuple[int, ...]) -> Scores:
    """Sum over `axes` of the finite scores; −∞ for a unit of which nothing is left."""
    finite = np.isfinite(scores)
    total: Scores = np.sum(scores, axis=axes, where=finite)
    total[~finite.any(axis=axes)] = -np.inf
    return total
