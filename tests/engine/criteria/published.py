"""The published formulas, written naively in float64: explicit loops, nothing shared with the engine.

After the procedure of the reference page §1.2–1.6: weights are (out, in, *taps), slopes a_i[k] belong to the
batch norm after layer i; a linear layer after a convolution has r = in_features / channels columns each.
"""

from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


def _energy_in(weights: list[Array], slopes: list[Array | None], i: int) -> Array:
    """Per input unit of layer i: energy of the rows of layer i−1 times a_{i−1}²; ones for the first."""
    inputs = weights[i].shape[1]
    if i == 0:
        return np.ones(inputs)
    previous = weights[i - 1].astype(np.float64)
    rows = np.array([(previous[k] ** 2).sum() for k in range(previous.shape[0])])
    if slopes[i - 1] is not None:
        rows = rows * slopes[i - 1] ** 2
    r = inputs // previous.shape[0]
    return np.array([rows[c // r] for c in range(inputs)])


def _energy_out(weights: list[Array], slopes: list[Array | None], i: int) -> Array:
    """Per output unit of layer i: energy of the columns of layer i+1 times a_i²; the last layer has none."""
    outputs = weights[i].shape[0]
    if i == len(weights) - 1:
        return np.ones(outputs)
    following = weights[i + 1].astype(np.float64)
    r = following.shape[1] // outputs
    columns = np.array([(following[:, k * r : (k + 1) * r] ** 2).sum() for k in range(outputs)])
    return columns if slopes[i] is None else columns * slopes[i] ** 2


def lookahead(
    weights: list[Array], slopes: list[Array | None], i: int, *, look: str = "both", squared: bool = True
) -> Array:
    """LAP, LFP (look forward) or LBP (look backward) of layer i, shape of its weight."""
    weight = weights[i].astype(np.float64)
    before = _energy_in(weights, slopes, i) if look != "forward" else np.ones(weight.shape[1])
    after = _energy_out(weights, slopes, i) if look != "backward" else np.ones(weight.shape[0])
    score = np.empty_like(weight)
    for k in range(weight.shape[0]):
        for j in range(weight.shape[1]):
            score[k, j] = weight[k, j] ** 2 * before[j] * after[k]
    return score if squared else np.sqrt(score)


def keep_largest(score: Array, ratio: float) -> Array:
    """The round((1 − ratio)·n) largest, ties in order of position."""
    flat = score.reshape(-1)
    keep = round((1 - ratio) * flat.size)
    order = np.argsort(-flat, kind="stable")
    mask = np.zeros(flat.size, dtype=bool)
    mask[order[:keep]] = True
    return mask.reshape(score.shape)


def layerwise(scores: list[Array], ratio: float) -> list[Array]:
    """The same ratio in every layer."""
    return [keep_largest(score, ratio) for score in scores]


def in_sequence(
    weights: list[Array], slopes: list[Array | None], ratio: float, *, backward: bool
) -> list[Array]:
    """LAP-forward and LAP-backward: each layer is pruned before the next is scored."""
    now = [weight.astype(np.float64).copy() for weight in weights]
    masks: list[Array] = [np.ones(0)] * len(weights)
    for i in range(len(weights))[:: -1 if backward else 1]:
        masks[i] = keep_largest(lookahead(now, slopes, i), ratio)
        now[i] = now[i] * masks[i]
    return masks


def pooled(scores: list[Array], ratio: float, *, normalised: bool) -> list[Array]:
    """One top-k over all layers, after dividing by each layer's norm when asked."""
    scaled = [s / np.sqrt((s**2).sum()) if normalised else s for s in scores]
    mask = keep_largest(np.concatenate([s.reshape(-1) for s in scaled]), ratio)
    cuts = np.cumsum([s.size for s in scores])[:-1]
    return [part.reshape(s.shape) for part, s in zip(np.split(mask, cuts), scores, strict=True)]
