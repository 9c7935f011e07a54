"""Global, normalised."""

from typing import ClassVar, final

import numpy as np

from worker.engine.allocation.base import Plans, Ranking
from worker.engine.allocation.pooled import Bounded, select_pooled
from worker.engine.types import Scores


@final
class GlobalNormalised(Bounded):
    """One top-k over the whole network after dividing each layer's scores by their Euclidean norm, exact in
    total."""

    name: ClassVar[str] = "global_normalised"
    source: ClassVar[str | None] = "Park et al., ICLR 2020 (global comparison)"

    def select(self, ranking: Ranking) -> Plans:
        return select_pooled(ranking, _over_norm, self.floor, self.cap)


def _over_norm(scores: Scores) -> Scores:
    """S / ‖S‖₂; weights that are zero already (−∞) stay where they are and count as nothing."""
    finite = np.where(np.isfinite(scores), scores, 0.0)
    largest = float(finite.max(initial=0.0))
    if largest == 0.0:
        return scores
    norm = largest * float(np.linalg.norm(finite / largest))
    return scores / norm
