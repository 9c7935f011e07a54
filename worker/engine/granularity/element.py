"""Single weights."""

from typing import ClassVar, final

from worker.engine.granularity.base import Block, PerLayer, ScoreLayer
from worker.engine.graph.layer import Layer
from worker.engine.types import Mask, Scores


@final
class Element(PerLayer):
    """Every weight is a unit of its own (unstructured pruning). The file keeps its shape; zeros compress
    well but dense kernels do not run faster for them."""

    name: ClassVar[str] = "element"
    single_weights: ClassVar[bool] = True

    def pool(self, block: Block, score: ScoreLayer) -> Scores:
        return score(block.layers[0])

    def spread(self, units: Mask, layer: Layer) -> Mask:
        return units
