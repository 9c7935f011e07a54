"""Single weights."""

from typing import ClassVar, final

from worker.engine.granularity.base import Granularity
from worker.engine.graph.layer import Layer
from worker.engine.types import Mask, Scores


@final
class Element(Granularity):
    """Every weight is a unit of its own (unstructured pruning). The file keeps its shape; zeros compress
    well but dense kernels do not run faster for them."""

    name: ClassVar[str] = "element"

    def pool(self, scores: Scores, layer: Layer) -> Scores:
        return scores

    def spread(self, keep: Mask, layer: Layer) -> Mask:
        return keep
