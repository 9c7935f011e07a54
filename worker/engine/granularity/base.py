"""What a unit of pruning is: how scores of weights become scores of units, and units weights again."""

import abc
from typing import ClassVar

from worker.engine.graph.layer import Layer
from worker.engine.registry import Part
from worker.engine.types import Mask, Scores


class Granularity(Part, abc.ABC):
    """Abstract axis `granularity`."""

    axis: ClassVar[str] = "granularity"

    @abc.abstractmethod
    def pool(self, scores: Scores, layer: Layer) -> Scores:
        """Scores of units from scores of weights (layout groups, outputs, inputs, *taps)."""

    @abc.abstractmethod
    def spread(self, keep: Mask, layer: Layer) -> Mask:
        """The weights that the kept units hold, in the operator's layout."""
