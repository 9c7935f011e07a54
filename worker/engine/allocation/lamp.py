"""LAMP: the layer-adaptive magnitude score."""

from typing import ClassVar, final

import numpy as np

from worker.engine.allocation.base import Allocation, Plans, Ranking
from worker.engine.allocation.pooled import select_pooled
from worker.engine.types import Scores


@final
class Lamp(Allocation):
    """One top-k over the whole network of e(u) / Σ e(v) over all v that score no less in the layer, where e
    is the score in units of a squared weight. Inside a layer the criterion's order stays; how much each
    layer keeps follows by itself. A layer's best weight scores exactly 1, so no layer is emptied while
    survivors outnumber layers. Exact in total, without parameters, blind to the scale of a layer."""

    name: ClassVar[str] = "lamp"
    source: ClassVar[str | None] = "Lee et al., ICLR 2021, arXiv 2010.07611, eq. 4"

    def select(self, ranking: Ranking) -> Plans:
        return select_pooled(ranking, lambda scores: lamp_scores(scores, ranking.degree))


def lamp_scores(scores: Scores, degree: int = 1) -> Scores:
    """Scores of degree `degree` in the weight as LAMP scores, in float64; −∞ (zero already) stays −∞.

    Summing from the largest down is the reverse cumulative sum: "total minus the sum so far" would cancel
    away just where it matters, at the top. Of equal scores the earlier one ranks higher.
    """
    flat = scores.reshape(-1)
    order = np.argsort(-flat, kind="stable")
    order = order[: int(np.count_nonzero(np.isfinite(flat)))]
    found = np.full(flat.shape, -np.inf)
    if order.size:
        found[order] = _over_larger(flat[order], 2.0 / degree)
    return found.reshape(scores.shape)


def _over_larger(descending: Scores, power: float) -> Scores:
    """e(u) over the sum of all e that are no smaller. Scaled by the largest first: squares may overflow."""
    if descending[0] <= 0.0:
        return np.zeros(descending.shape)
    energy: Scores = (descending / descending[0]) ** power
    found: Scores = energy / np.cumsum(energy)
    return found
