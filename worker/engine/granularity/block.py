"""Rectangles of a weight matrix."""

from dataclasses import replace
from typing import ClassVar, final

import numpy as np
from pydantic import Field

from worker.engine.granularity.base import Block, PerLayer, ScoreLayer
from worker.engine.granularity.pooling import pooled
from worker.engine.graph.layer import Layer
from worker.engine.types import Mask, Scores


@final
class BlockUnits(PerLayer):
    """Blocks of neighbouring outputs × neighbouring inputs go together, at each kernel tap for itself: the
    pattern that block-sparse kernels read. A block is worth the sum of its weights' scores. A layer whose
    outputs and inputs per group cannot be cut into whole blocks is left alone, with the reason."""

    name: ClassVar[str] = "block"

    rows: int = Field(default=4, ge=1, le=1024)
    """Outputs per block."""
    columns: int = Field(default=4, ge=1, le=1024)
    """Inputs per block."""

    def fitted(self, layer: Layer) -> Layer:
        outputs, inputs = layer.view.seen_shape()[1:3]
        if outputs % self.rows == 0 and inputs % self.columns == 0:
            return layer
        reason = f"{outputs} × {inputs} weights per group are no whole blocks of {self.rows} × {self.columns}"
        return replace(layer, reason=reason)

    def pool(self, block: Block, score: ScoreLayer) -> Scores:
        scores = score(block.layers[0])
        groups, outputs, inputs, *taps = scores.shape
        shape = (groups, outputs // self.rows, self.rows, inputs // self.columns, self.columns, *taps)
        return pooled(scores.reshape(shape), (2, 4))

    def spread(self, units: Mask, layer: Layer) -> Mask:
        return np.repeat(np.repeat(units, self.rows, axis=1), self.columns, axis=2)
