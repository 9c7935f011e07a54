"""Uniform."""

from typing import ClassVar, final

from worker.engine.allocation.base import Allocation, Plans, Ranking, layerwise, shares_with_overrides


@final
class Uniform(Allocation):
    """The same sparsity in every layer, exact to one weight per layer. Layers named in `layers` get their
    own."""

    name: ClassVar[str] = "uniform"

    def select(self, ranking: Ranking) -> Plans:
        return layerwise(ranking, shares_with_overrides(ranking))
