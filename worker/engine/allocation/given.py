"""Given."""

from typing import ClassVar, final

from api_schemas.catalogue import Requirements
from worker.engine.allocation.base import Allocation, Plans, Ranking, layerwise


@final
class Given(Allocation):
    """Exactly the sparsities that the recipe's `layers` names; a layer that is not named stays dense.
    Takes no target."""

    name: ClassVar[str] = "given"

    @classmethod
    def requires(cls) -> Requirements:
        return Requirements(targets=[])

    def select(self, ranking: Ranking) -> Plans:
        return layerwise(ranking, lambda block: ranking.goal.overrides.get(block.name, 0.0))
