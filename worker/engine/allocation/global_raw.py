"""Global."""

from typing import ClassVar, final

from api_schemas.catalogue import Requirements
from worker.engine.allocation.base import Allocation, Ranking
from worker.engine.allocation.pooled import select_pooled
from worker.engine.types import Plan


@final
class Global(Allocation):
    """One top-k of the raw scores over the whole network, exact in total. Layers whose scores are small
    throughout may lose nearly everything."""

    name: ClassVar[str] = "global"

    @classmethod
    def requires(cls) -> Requirements:
        return Requirements(targets=["sparsity"])

    def select(self, ranking: Ranking) -> Plan:
        return select_pooled(ranking, lambda scores: scores)
