"""The search for an order of channels in which N of every M keep more: swaps between stripes of M channels.

Channel permutation for N:M sparsity (Pool and Yu, NeurIPS 2021). What a swap gains is told for all pairs at
once: of a stripe without one channel the best N − 1 of each row stay anyhow, and the newcomer replaces the
N-th where it is larger. Swaps that touch different stripes do not mind each other, so that one sweep makes
many.
"""

from typing import Any, final

import numpy as np

from worker.engine.graph.channels import Ints

#: Comparisons in one sweep over a group; of longer columns rows are drawn.
_MOST = 1 << 29
#: Smaller gains, relative to what is kept, are rounding.
_LEAST = 1e-6

Columns = np.ndarray[Any, np.dtype[np.float32]]
Floats = np.ndarray[Any, np.dtype[np.float64]]


def kept_score(scores: Floats, n: int, m: int) -> float:
    """Sum of the n largest of every m along the last axis, whose size is a multiple of m."""
    grouped = scores.reshape(-1, m)
    return float(np.partition(grouped, m - n, axis=1)[:, m - n :].sum(dtype=np.float64))


def better_order(columns: Floats, n: int, m: int, sweeps: int, seed: int) -> Ints:
    """An order of columns (rows, channels) in which n of every m keep more: place i takes column order[i].

    Deterministic for a seed, which draws rows where there are too many.
    """
    rows, channels = columns.shape
    most = max(64, _MOST // channels**2)
    if rows > most:
        columns = columns[np.sort(np.random.default_rng(seed).choice(rows, most, replace=False))]
    search = _Search(np.ascontiguousarray(columns.T, dtype=np.float32), n, m)
    for _ in range(sweeps):
        if not search.sweep():
            break
    return search.order


@final
class _Search:
    """`order` as found so far; tables go by column, not by place."""

    def __init__(self, columns: Columns, n: int, m: int) -> None:
        self._columns, self._n, self._m = columns, n, m
        channels = columns.shape[0]
        self.order = np.arange(channels)
        self._certain = np.zeros(channels)
        self._joint = np.zeros((channels, channels), dtype=np.float32)
        self._kept = np.zeros(channels // m)
        self._look(np.arange(channels // m))

    def sweep(self) -> bool:
        """Make the best swaps between stripes, each stripe in one at most; False when none gains."""
        gain, first, second = self._gains()
        limit = _LEAST * self._kept.sum()
        pairs = np.flatnonzero(np.triu(gain, 1) > limit)
        free = np.ones(len(self._kept), dtype=bool)
        for pair in pairs[np.argsort(-gain.reshape(-1)[pairs], kind="stable")]:
            one, other = divmod(int(pair), len(free))
            if free[one] and free[other]:
                free[[one, other]] = False
                places = [first[one, other], second[one, other]]
                self.order[places] = self.order[places[::-1]]
        self._look(np.flatnonzero(~free))
        return not bool(free.all())

    def _gains(self) -> tuple[Floats, Ints, Ints]:
        """The best swap of each pair of stripes: its gain and its two places."""
        stripes, m = len(self._kept), self._m
        joint = self._joint[np.ix_(self.order, self.order)]
        certain = self._certain[self.order]
        both = joint + joint.T + certain[:, None] + certain[None, :]
        cells = both.reshape(stripes, m, stripes, m).transpose(0, 2, 1, 3).reshape(stripes, stripes, m * m)
        best = cells.argmax(axis=2)
        gain = np.take_along_axis(cells, best[:, :, None], axis=2)[:, :, 0].astype(np.float64)
        gain -= self._kept[:, None] + self._kept[None, :]
        start = np.arange(stripes) * m
        return gain, start[:, None] + best // m, start[None, :] + best % m

    def _look(self, stripes: Ints) -> None:
        """Renew what is known of the columns in those stripes."""
        n, m = self._n, self._m
        for stripe in stripes:
            inside = self.order[stripe * m : (stripe + 1) * m]
            self._kept[stripe] = np.sort(self._columns[inside], axis=0)[m - n :].sum(dtype=np.float64)
            for column in inside:
                others = np.sort(self._columns[inside[inside != column]], axis=0)
                self._certain[column] = others[m - n :].sum(dtype=np.float64)
                rival = others[m - n - 1]
                self._joint[column] = np.maximum(self._columns, rival).sum(axis=1)
