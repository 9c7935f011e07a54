"""Global."""

from typing import ClassVar, final

from api_schemas.catalogue import Requirements
from worker.engine.allocation.base import Plans, Ranking
from worker.engine.allocation.pooled import Bounded, select_pooled


@final
class Global(Bounded):
    """One top-k of the raw scores over the whole network, exact in total. Layers whose scores are small
    throughout may lose nearly everything."""

    name: ClassVar[str] = "global"

    @classmethod
    def requires(cls) -> Requirements:
        return Requirements(targets=["sparsity"])

    def select(self, ranking: Ranking) -> Plans:
        return select_pooled(ranking, lambda scores: scores, self.floor, self.cap)
