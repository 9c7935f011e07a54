"""Channel maps through a change of shape.

Both shapes are cut into segments of equal products (as in (N, C, H·W) → (N, C·H·W): N | C, H·W). Within
a segment the map is laid over all its axes, reshaped, and then dropped from axes along which it does
not vary.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from worker.engine.graph.channels import Boundary, ChannelMap, Channels, Term
from worker.engine.graph.shapes import Shape

_MOST = 1 << 24

Array = np.ndarray[Any, np.dtype[Any]]


def reshaped(channels: ChannelMap, before: Shape | None, after: Shape | None) -> Channels:
    """The map of the reshaped tensor, or a boundary where a shape is not known."""
    if before is None or after is None or None in before or None in after:
        return Boundary("a reshape to or from a shape that the file does not fix")
    old, new = [size or 0 for size in before], [size or 0 for size in after]
    if np.prod(old) != np.prod(new) or 0 in old:
        return Boundary("a reshape whose shapes do not agree")
    for ins, outs in _segments(old, new):
        if set(channels.axes) <= set(ins):
            return _through(channels, ins, outs, old, new)
    return _several(channels, old, new)


def _several(channels: ChannelMap, old: list[int], new: list[int]) -> Channels:
    """Axes in several segments: possible where every such segment is one axis to one axis."""
    moves = {ins[0]: outs[0] for ins, outs in _segments(old, new) if len(ins) == len(outs) == 1}
    if all(axis in moves for axis in channels.axes):
        return ChannelMap(tuple(moves[axis] for axis in channels.axes), channels.sizes, channels.terms)
    joint = (min(channels.axes), max(channels.axes))
    for ins, outs in _merged_segments(old, new, joint):
        return _through(channels, ins, outs, old, new)
    return Boundary("a reshape that mixes channels with other axes")


def _merged_segments(
    old: list[int], new: list[int], span: tuple[int, int]
) -> list[tuple[list[int], list[int]]]:
    """The segments that `span` touches, as one."""
    touched = [(i, o) for i, o in _segments(old, new) if i and i[-1] >= span[0] and i[0] <= span[1]]
    return [([a for i, _ in touched for a in i], [a for _, o in touched for a in o])]


def _segments(old: Sequence[int], new: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """Shortest runs of axes with equal products, in order."""
    found: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(old) and j < len(new):
        ins, outs, left, right = [i], [j], old[i], new[j]
        i, j = i + 1, j + 1
        while left != right:
            if left < right:
                left, i = left * old[i], i + 1
                ins.append(i - 1)
            else:
                right, j = right * new[j], j + 1
                outs.append(j - 1)
        found.append((ins, outs))
    if found:
        found[-1][0].extend(range(i, len(old)))
        found[-1][1].extend(range(j, len(new)))
    return found


def _through(
    channels: ChannelMap, ins: list[int], outs: list[int], old: list[int], new: list[int]
) -> Channels:
    """Lay every term over the segment's axes, reshape, drop the axes along which none varies."""
    full, target = [old[a] for a in ins], [new[a] for a in outs]
    if np.prod(full) > _MOST:
        return Boundary("a reshape of more positions than are followed")
    laid = [size if axis in channels.axes else 1 for axis, size in zip(ins, full, strict=True)]

    def move(array: Array) -> Array:
        return np.broadcast_to(array.reshape(laid), full).reshape(target)

    moved = [(t, move(t.units), None if t.slope is None else move(t.slope)) for t in channels.terms]
    arrays = [a for _, units, slope in moved for a in (units, slope) if a is not None]
    kept = [k for k in range(len(outs)) if target[k] > 1 and any(_varies(a, k) for a in arrays)]
    kept = kept or [int(np.argmax(target))]
    pick = tuple(slice(None) if k in kept else 0 for k in range(len(outs)))
    terms = tuple(Term(t.source, u[pick], None if s is None else s[pick]) for t, u, s in moved)
    return ChannelMap(tuple(outs[k] for k in kept), tuple(target[k] for k in kept), terms)


def _varies(array: Array, axis: int) -> bool:
    first = np.take(array, [0], axis=axis)
    return not bool(np.array_equal(np.broadcast_to(first, array.shape), array))
