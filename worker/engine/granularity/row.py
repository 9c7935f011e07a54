"""Whole rows of a weight."""

from typing import ClassVar, final

import numpy as np

from worker.engine.granularity.base import Block, PerLayer, ScoreLayer
from worker.engine.granularity.pooling import pooled
from worker.engine.graph.layer import Layer
from worker.engine.types import Mask, Scores


@final
class Row(PerLayer):
    """All weights that make one output (a row of a matrix, a filter of a convolution) become zero together,
    layer by layer; bias and norm stay, so what the output still carries is a constant. The file keeps its
    shape. A row is worth the sum of its weights' scores. A target is the share of rows: in each layer that of
    its weights too, but not over the whole network under a ranking of all rows, whose lengths differ."""

    name: ClassVar[str] = "row"

    def pool(self, block: Block, score: ScoreLayer) -> Scores:
        scores = score(block.layers[0])
        return pooled(scores, tuple(range(2, scores.ndim)))

    def spread(self, units: Mask, layer: Layer) -> Mask:
        shape = layer.view.seen_shape()
        return np.broadcast_to(units.reshape(*units.shape, *(1,) * (len(shape) - 2)), shape)
