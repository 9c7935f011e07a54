"""Exact selection by score: how many are kept is exact, and ties go to the earlier weight."""

import numpy as np

from worker.engine.types import Histogram, Mask, Scores

_BINS = 64


def largest(scores: Scores, count: int) -> tuple[Mask, float | None]:
    """True for the `count` largest scores, and the smallest of them (None when it is no finite number).

    Among equals the earlier in C order of the array is kept (stable).
    """
    if count <= 0:
        return np.zeros(scores.shape, dtype=bool), None
    flat = scores.reshape(-1)
    count = min(count, flat.size)
    limit = np.partition(flat, flat.size - count)[flat.size - count]
    keep = flat > limit
    missing = count - int(np.count_nonzero(keep))
    if missing:
        keep[np.flatnonzero(flat == limit)[:missing]] = True
    return keep.reshape(scores.shape), float(limit) if np.isfinite(limit) else None


def histogram(scores: Scores) -> Histogram | None:
    """log10 of the positive scores in 64 equal bins; None where there is none."""
    positive = scores[np.isfinite(scores) & (scores > 0)]
    if not positive.size:
        return None
    logs = np.log10(positive)
    low, high = float(logs.min()), float(logs.max())
    counts, edges = np.histogram(logs, bins=_BINS, range=(low, high if high > low else low + 1.0))
    return Histogram(edges, counts, log10=True)
