"""Least distortion for the number of weights, from curves of each layer."""

from collections.abc import Sequence
from typing import ClassVar, final

from worker.engine.allocation.base import Allocation, Plans, Ranking, kept_count
from worker.engine.allocation.curves import Curve, cheapest, distortion
from worker.engine.allocation.pooled import select_together
from worker.engine.types import Scores


@final
class RateDistortion(Allocation):
    """How much each layer keeps follows from curves of its distortion over the number of weights removed,
    so that the sum over layers is least. The distortion of a layer is √(removed / kept), in squares of
    weights as the criterion scores them: to first order relative errors add up along a chain of layers, and
    a layer that loses all would cost without end. Solved where all curves are equally steep, on their lower
    convex hulls. Exact in total; needs no data."""

    name: ClassVar[str] = "rate_distortion"
    source: ClassVar[str | None] = (
        "our own curves; allocation by rate and distortion as in Xu et al., ICCV 2023, arXiv 2308.10438"
    )

    def select(self, ranking: Ranking) -> Plans:
        def count(parts: Sequence[Scores]) -> list[int]:
            sizes = [part.size for part in parts]
            curves: list[Curve] = [distortion(part, 2.0 / ranking.degree) for part in parts]
            gone = cheapest(curves, sum(sizes) - kept_count(sum(sizes), ranking.goal.sparsity))
            return [size - removed for size, removed in zip(sizes, gone, strict=True)]

        return select_together(ranking, lambda scores: scores, count)
