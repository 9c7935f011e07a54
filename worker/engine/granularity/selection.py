"""Exact selection by score: how many are kept is exact, and ties go to the earlier weight."""

import math

import numpy as np

from worker.engine.types import Histogram, Mask, Scores

_BINS = 64
#: So many numbers at a time stay in the processor's cache.
_CHUNK = 1 << 15


def largest(scores: Scores, count: int) -> tuple[Mask, float | None]:
    """True for the `count` largest scores, and the smallest of them (None when it is no finite number).

    Among equals the earlier in C order of the array is kept (stable).
    """
    if count <= 0:
        return np.zeros(scores.shape, dtype=bool), None
    flat = scores.reshape(-1)
    count = min(count, flat.size)
    with np.errstate(over="ignore", under="ignore"):
        narrow = flat.astype(np.float32)
    # Rounding keeps the order, and halves the work: only what rounds to the limit must be told apart.
    limit = np.partition(narrow, flat.size - count)[flat.size - count]
    keep = narrow > limit
    level = np.flatnonzero(narrow == limit)
    chosen, threshold = _earliest_largest(flat[level], count - int(np.count_nonzero(keep)))
    keep[level[chosen]] = True
    return keep.reshape(scores.shape), threshold if math.isfinite(threshold) else None


def _earliest_largest(values: Scores, count: int) -> tuple[Mask, float]:
    """The same for a short list, `count` at least one: what is kept, and the smallest of it."""
    limit = np.partition(values, values.size - count)[values.size - count]
    keep = values > limit
    keep[np.flatnonzero(values == limit)[: count - int(np.count_nonzero(keep))]] = True
    return keep, float(limit)


def histogram(scores: Scores) -> Histogram | None:
    """log10 of the positive scores in 64 equal bins; None where there is none."""
    flat = scores.reshape(-1)
    positive = flat
    if not flat.size or flat.min() <= 0 or not np.isfinite(flat.max()):
        positive = flat[np.isfinite(flat) & (flat > 0)]
    if not positive.size:
        return None
    low, high = math.log10(positive.min()), math.log10(positive.max())
    width = high - low if high > low else 1.0
    counts = np.zeros(_BINS, dtype=np.int64)
    for start in range(0, positive.size, _CHUNK):
        places = (np.log10(positive[start : start + _CHUNK]) - low) * (_BINS / width)
        found = np.clip(places, 0, _BINS - 1, out=places).astype(np.intp)
        counts += np.bincount(found, minlength=_BINS)
    return Histogram(np.linspace(low, low + width, _BINS + 1), counts, log10=True)
