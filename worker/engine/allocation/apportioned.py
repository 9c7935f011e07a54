"""Whole numbers of survivors in proportion to wishes, within bounds, exact in total.

Webster's method: every count is `wish · λ` rounded, for the smallest λ that reaches the total. Counts never
fall while the total grows, so that what a later, harder cut keeps, an earlier one kept too.
"""

from collections.abc import Sequence

import numpy as np

from worker.engine.types import Array

_HALVINGS = 200


def apportion(wishes: Sequence[float], lows: Sequence[int], highs: Sequence[int], total: int) -> list[int]:
    """Counts c with lows ≤ c ≤ highs, as near to proportional to `wishes` (> 0) as whole numbers allow.

    The sum is `total` exactly; ValueError when the bounds do not allow it.
    """
    wish, low, high = np.array(wishes, np.float64), np.array(lows), np.array(highs)
    if not low.sum() <= total <= high.sum():
        raise ValueError(f"no counts between {low.sum()} and {high.sum()} add up to {total}")

    def counts(scale: float) -> Array:
        found: Array = np.clip(np.floor(np.minimum(wish * scale + 0.5, high)), low, high).astype(np.int64)
        return found

    under, over = 0.0, float(np.max((high + 1.0) / wish))
    for _ in range(_HALVINGS):
        middle = 0.5 * (under + over)
        under, over = (under, middle) if counts(middle).sum() >= total else (middle, over)
    found, least = counts(over), counts(under)
    for place in np.flatnonzero(found > least)[::-1]:  # equal claims on the last units: the earlier wins
        found[place] -= min(found[place] - least[place], max(0, found.sum() - total))
    return [int(count) for count in found]
