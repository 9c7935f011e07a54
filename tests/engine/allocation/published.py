"""Allocation rules of the reference page §2, written naively: loops over layers, nothing of the engine."""

from collections.abc import Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


def lamp(weight: Array) -> Array:
    """W[u]² over the sum of all W[v]² with v not below u in ascending order, by explicit sums."""
    flat = weight.astype(np.float64).reshape(-1)
    order = sorted(range(flat.size), key=lambda u: (abs(flat[u]), -u))
    score = np.zeros(flat.size)
    for rank, u in enumerate(order):
        rest = sum(flat[v] ** 2 for v in order[rank:])
        score[u] = flat[u] ** 2 / rest if rest else 0.0
    return score.reshape(weight.shape)


def erk(shapes: Sequence[tuple[int, ...]], total: float) -> list[float]:
    """Survivors ∝ sum of the shape's extents; the layer that overflows most is made dense, repeatedly."""
    sizes = [float(np.prod(shape)) for shape in shapes]
    dense: set[int] = set()
    while True:
        left = total - sum(sizes[i] for i in dense)
        claim = sum(sum(shapes[i]) for i in range(len(shapes)) if i not in dense)
        counts = [
            sizes[i] if i in dense else left * sum(shapes[i]) / claim if claim else 0.0
            for i in range(len(shapes))
        ]
        over = [(counts[i] / sizes[i], i) for i in range(len(shapes)) if counts[i] > sizes[i] * (1 + 1e-12)]
        if not over:
            return counts
        dense.add(max(over)[1])


def uniform_plus(sizes: Sequence[int], total: float, *, first_is_convolution: bool) -> list[float]:
    """First dense if a convolution; last at 20 % of its size if it would fall below."""
    dense = sizes[0] if first_is_convolution else 0
    rest = list(sizes[1:] if first_is_convolution else sizes)
    share = (total - dense) / sum(rest)
    if share < 0.2:
        middle = rest[:-1]
        counts = [size * (total - dense - 0.2 * rest[-1]) / sum(middle) for size in middle]
        counts.append(0.2 * rest[-1])
    else:
        counts = [size * share for size in rest]
    return [float(dense), *counts] if first_is_convolution else counts
