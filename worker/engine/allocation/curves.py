"""Distortion over the number of units removed, and the cheapest way to remove a total from several curves."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from worker.engine.types import Array, Scores

#: Points of a curve, spread evenly over what is removed and, for high sparsity, evenly over log(kept).
_POINTS = 512


@dataclass(frozen=True)
class Curve:
    """`cost[i]` is the distortion once `removed[i]` units are gone: from none to all, all at cost ∞."""

    removed: Array
    cost: Array


def distortion(scores: Scores, power: float) -> Curve:
    """√(removed / kept energy), energy being score^power, of the worst units of a block; −∞ has none."""
    ascending = np.sort(scores.reshape(-1))
    dead = int(np.searchsorted(ascending, 0.0, side="right"))
    energy = np.zeros(ascending.size)
    if dead < ascending.size:
        energy[dead:] = (ascending[dead:] / ascending[-1]) ** power
    removed = _grid(ascending.size, dead)
    kept = np.append(np.cumsum(energy[::-1])[::-1], 0.0)[removed]
    gone = np.append(0.0, np.cumsum(energy))[removed]
    with np.errstate(divide="ignore", invalid="ignore"):
        cost = np.sqrt(np.where(gone == 0.0, 0.0, gone / kept))
    return Curve(removed, cost)


def cheapest(curves: Sequence[Curve], total: int) -> list[int]:
    """How many to remove of each so that `total` go and the costs' sum is least.

    Least among all totals that equal steepness reaches; between two of those, the block in question gives
    the missing part of a segment of its hull.
    """
    lengths, steeps, owners = [], [], []
    for owner, curve in enumerate(curves):
        corners = _hull(curve)
        lengths.append(np.diff(curve.removed[corners]))
        steeps.append(np.diff(curve.cost[corners]) / lengths[-1])
        owners.append(np.full(lengths[-1].size, owner))
    order = np.argsort(np.concatenate(steeps), kind="stable")
    length, owner_of = np.concatenate(lengths)[order], np.concatenate(owners)[order]
    taken = np.clip(total - (np.cumsum(length) - length), 0, length)
    found = np.bincount(owner_of, weights=taken, minlength=len(curves))
    return [round(count) for count in found]


def _grid(size: int, dead: int) -> Array:
    """Numbers of removed units at which the curve is known; all of them for a small block."""
    if size <= _POINTS:
        return np.arange(size + 1)
    even = np.linspace(0, size, _POINTS)
    fine = size - np.geomspace(1, size, _POINTS)
    found: Array = np.unique(np.concatenate([even, fine, [dead, size - 1, size]]).round().astype(np.int64))
    return found


def _hull(curve: Curve) -> list[int]:
    """Corners of the lower convex hull, the first and the last point among them."""
    corners: list[int] = []
    for point in range(len(curve.removed)):
        while len(corners) > 1 and not _convex(curve, corners[-2], corners[-1], point):
            corners.pop()
        corners.append(point)
    return corners


def _convex(curve: Curve, first: int, middle: int, last: int) -> bool:
    """True when the middle point lies below the line between the others."""
    x, y = curve.removed, curve.cost
    return bool(
        (y[middle] - y[first]) * (x[last] - x[middle]) < (y[last] - y[middle]) * (x[middle] - x[first])
    )
