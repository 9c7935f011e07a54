"""N of every M weights."""

from dataclasses import replace
from typing import ClassVar, Self, final

import numpy as np
from pydantic import Field, model_validator

from api_schemas.catalogue import Requirements
from worker.engine.errors import InvalidRecipeError
from worker.engine.formats.base import Network
from worker.engine.granularity.arrangement import Search, arrange
from worker.engine.granularity.base import Arrangement, Block, PerLayer, ScoreLayer
from worker.engine.graph.analysis import Graph
from worker.engine.graph.layer import Layer
from worker.engine.types import Mask, Scores

#: Fewer input channels than this, and TensorRT finds its dense kernels faster.
_WORTHWHILE = 256


@final
class NOfM(PerLayer):
    """Of every m weights that follow each other along the inputs, the best n stay: along input channels at
    each kernel tap for a convolution, along the inputs for a matrix product, as TensorRT and cuSPARSELt read
    2:4. The sparsity is 1 − n/m in every layer, so the recipe needs no target. A layer whose inputs per group
    are no multiple of m is left alone, with the reason; the report notes layers that TensorRT will likely run
    dense all the same."""

    name: ClassVar[str] = "n:m"
    single_weights: ClassVar[bool] = True

    n: int = Field(default=2, ge=1, le=255)
    """Weights that stay of each m."""
    m: int = Field(default=4, ge=2, le=256)
    """Neighbouring inputs that are looked at together."""
    permute: int = Field(default=0, ge=0, le=1000)
    """Sweeps of the search for a better order of channels, 0 for none. Channels that a layer makes and others
    read change places, so that what is large does not compete with what is large for the same n places (Pool
    and Yu, NeurIPS 2021); weights, biases and norms follow, and the function stays what it was: that is
    checked in the runtime before any weight goes. Sweeps end when no swap helps; 20 mostly do."""

    @model_validator(mode="after")
    def _fewer(self) -> Self:
        if self.n >= self.m:
            raise ValueError(f"{self.n} of {self.m} removes nothing: n must be smaller than m")
        return self

    @classmethod
    def requires(cls) -> Requirements:
        return Requirements(targets=["sparsity"], target_optional=True)

    @property
    def pattern(self) -> tuple[int, int] | None:
        return self.n, self.m

    @property
    def sparsity(self) -> float | None:
        return 1.0 - self.n / self.m

    def fitted(self, layer: Layer) -> Layer:
        inputs = layer.view.seen_shape()[2]
        if inputs % self.m:
            return replace(layer, reason=f"{inputs} inputs per group are no multiple of {self.m}")
        return replace(layer, notes=(*layer.notes, *self._notes(layer)))

    def _notes(self, layer: Layer) -> tuple[str, ...]:
        """Why TensorRT may run the layer dense."""
        if (self.n, self.m) != (2, 4):
            return (f"TensorRT and cuSPARSELt have kernels for 2:4, not for {self.n}:{self.m}",)
        inputs, notes = layer.view.seen_shape()[2], []
        if inputs < _WORTHWHILE:
            notes.append(f"TensorRT will likely run this dense: {inputs} input channels, under {_WORTHWHILE}")
        if layer.op == "MatMul":
            notes.append("TensorRT takes 2:4 weights of Conv and Gemm; this is a MatMul")
        return tuple(notes)

    @property
    def reorders(self) -> bool:
        return self.permute > 0

    def arranged(self, graph: Graph, network: Network, score: ScoreLayer, seed: int) -> Arrangement:
        return arrange(graph, network, score, Search(self.n, self.m, self.permute, seed))

    def pool(self, block: Block, score: ScoreLayer) -> Scores:
        return score(block.layers[0])

    def choose(self, block: Block, scores: Scores, count: int) -> tuple[Mask, float | None]:
        """All, or the n best of each m (of equals the earlier); InvalidRecipeError for any other count."""
        if count == scores.size:
            return np.ones(scores.shape, dtype=bool), None
        if count * self.m != scores.size * self.n:
            raise InvalidRecipeError(
                f"{self.n}:{self.m} keeps {self.n / self.m:.2%} of a layer, not {count / scores.size:.2%} "
                f"(layer {block.name!r})",
                hint='use "allocation": {"name": "uniform"} and "schedule": {"name": "one_shot"}',
            )
        keep = self._best(np.moveaxis(scores, 2, -1))
        chosen = scores[np.moveaxis(keep, -1, 2)]
        limit = chosen.min(where=np.isfinite(chosen), initial=np.inf)
        return np.moveaxis(keep, -1, 2), float(limit) if np.isfinite(limit) else None

    def _best(self, scores: Scores) -> Mask:
        """The n best of each m along the last axis."""
        grouped = scores.reshape(-1, self.m)
        best = np.argsort(-grouped, axis=1, kind="stable")[:, : self.n]
        keep = np.zeros(grouped.shape, dtype=bool)
        np.put_along_axis(keep, best, values=True, axis=1)
        return keep.reshape(scores.shape)

    def spread(self, units: Mask, layer: Layer) -> Mask:
        return units
