"""SparseGPT's way over a weight: column by column, the columns still ahead making up for what went.

Frantar, Alistarh: "SparseGPT: Massive Language Models Can Be Accurately Pruned in One-Shot", ICML 2023,
arXiv 2301.00774, algorithm 1. Weights are (groups, outputs, columns), Gram matrices (groups, columns,
columns), λ relative to the mean of their diagonal. Weights that are zero beforehand score 0 and go.
"""

import math
from collections.abc import Callable
from typing import final

import torch

from worker.engine.learning.least_squares import inverse_factor

#: Columns whose errors reach those behind them together, at least.
_SPAN = 128
#: Which of the weights with these scores stay.
Keep = Callable[[torch.Tensor], torch.Tensor]


def column_scores(matrix: torch.Tensor, gram: torch.Tensor, relative: float, share: float) -> torch.Tensor:
    """w² / [H⁻¹]ⱼⱼ of every weight at the time its column is reached, w with what columns passed before left
    to it. Weights go there that score under a threshold, which is such that the share goes if nothing were
    made up for; it is set anew once, from the scores of a first pass."""
    way = _Way(matrix, gram, relative)
    scores = way.weights.square() / way.inverse_diagonal
    count = round(share * scores.numel())
    if count == 0:
        return scores
    for _ in range(2):
        threshold = scores.reshape(-1).kthvalue(count).values
        scores, _ = way.go(1, way.inverse_diagonal, threshold.lt)
    return scores


def block_scores(
    matrix: torch.Tensor, gram: torch.Tensor, relative: float, share: float, block: int
) -> torch.Tensor:
    """As published: the scores of so many columns at once, of which the share goes. [H⁻¹]ⱼⱼ is that of the
    columns from j on. Blocks are brought to one threshold, so that the best of the weight are the best of
    each block."""
    way = _Way(matrix, gram, relative)
    scores, keep = way.go(block, way.ahead_diagonal, lambda found: _best(found, share))
    whole = _between(scores, _best(scores, share))
    for part, kept in zip(torch.split(scores, block, 2), torch.split(keep, block, 2), strict=True):
        own = _between(part, kept)
        if whole > 0 and own > 0:
            part *= whole / own
    return scores


def pattern_scores(
    matrix: torch.Tensor, gram: torch.Tensor, relative: float, pattern: tuple[int, int]
) -> torch.Tensor:
    """As published: the scores of every m columns at once, of which n stay in every row."""
    n, m = pattern

    def keep(found: torch.Tensor) -> torch.Tensor:
        best = found.argsort(dim=2, descending=True, stable=True)[:, :, :n]
        return torch.zeros_like(found, dtype=torch.bool).scatter_(2, best, True)

    way = _Way(matrix, gram, relative)
    return way.go(m, way.ahead_diagonal, keep)[0]


@final
class _Way:
    """A weight and the inverse of its damped Gram matrix H in Cholesky form, UᵀU with U upper triangular."""

    def __init__(self, matrix: torch.Tensor, gram: torch.Tensor, relative: float) -> None:
        self._factor, dead = inverse_factor(gram, relative)
        self.weights = matrix.to(gram).masked_fill(dead[:, None, :], 0.0)

    @property
    def inverse_diagonal(self) -> torch.Tensor:
        """[H⁻¹]ⱼⱼ, (groups, 1, columns)."""
        return self._factor.square().sum(dim=1)[:, None, :]

    @property
    def ahead_diagonal(self) -> torch.Tensor:
        """The same for the columns from j on, the first of those."""
        return self._factor.diagonal(dim1=1, dim2=2).square()[:, None, :]

    def go(self, width: int, cost: torch.Tensor, keep: Keep) -> tuple[torch.Tensor, torch.Tensor]:
        """w² / cost of all weights when they are chosen from, so many columns at once, and what stayed."""
        left, scores = self.weights.clone(), torch.zeros_like(self.weights)
        kept = torch.zeros_like(scores, dtype=torch.bool)
        span, columns = -(-_SPAN // width) * width, left.shape[2]
        for start in range(0, columns, span):
            stop = min(start + span, columns)
            errors = torch.zeros_like(left[:, :, start:stop])
            for column in range(start, stop):
                if (column - start) % width == 0:
                    here = slice(column, min(column + width, stop))
                    found = left[:, :, here].square() / cost[:, :, here]
                    scores[:, :, here] = found.masked_fill_(self.weights[:, :, here] == 0, 0.0)
                    kept[:, :, here] = keep(found)
                errors[:, :, column - start] = self._pass(left, kept, column, stop)
            left[:, :, stop:] -= errors @ self._factor[:, start:stop, stop:]
        return scores, kept

    def _pass(self, left: torch.Tensor, kept: torch.Tensor, column: int, stop: int) -> torch.Tensor:
        """One column: what goes there, over U's diagonal, is spread over the columns up to `stop`."""
        row = self._factor[:, None, column, column:stop]
        error = (left[:, :, column] / row[:, :, 0]).masked_fill_(kept[:, :, column], 0.0)
        left[:, :, column + 1 : stop] -= error[:, :, None] * row[:, :, 1:]
        return error


def _best(scores: torch.Tensor, share: float) -> torch.Tensor:
    """All but this share of the scores; of equals the earlier."""
    flat = scores.reshape(-1)
    count = len(flat) - round(share * len(flat))
    best = flat.argsort(descending=True, stable=True)[:count]
    return torch.zeros_like(flat, dtype=torch.bool).scatter_(0, best, True).reshape(scores.shape)


def _between(scores: torch.Tensor, keep: torch.Tensor) -> float:
    """Between the largest score that goes and the smallest that stays; 0 where one of them is missing."""
    if keep.all() or not keep.any():
        return 0.0
    return math.sqrt(float(scores[~keep].max()) * float(scores[keep].min()))
