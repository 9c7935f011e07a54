"""Global."""

from typing import ClassVar, final

from worker.engine.allocation.base import Plans, Ranking
from worker.engine.allocation.pooled import Bounded, select_pooled


@final
class Global(Bounded):
    """One top-k of the raw scores over the whole network, exact in total. Layers whose scores are small
    throughout may lose nearly everything."""

    name: ClassVar[str] = "global"

    def select(self, ranking: Ranking) -> Plans:
        return select_pooled(ranking, lambda scores: scores, self.floor, self.cap)
