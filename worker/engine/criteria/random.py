"""Random."""

import zlib
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np

from worker.engine.criteria.base import Criterion, Scorer, Subject, ranked
from worker.engine.graph import weights
from worker.engine.graph.layer import Layer
from worker.engine.types import Mask, Scores


@final
class Random(Criterion):
    """|standard normal|, one draw per weight, from the recipe's seed and the layer's name. The floor that
    any criterion must beat."""

    name: ClassVar[str] = "random"

    def scorer(self, subject: Subject) -> Scorer:
        return _Random(subject)


@final
@dataclass(frozen=True)
class _Random(Scorer):
    subject: Subject

    def score(self, layer: Layer) -> Scores:
        values = weights.read_finite(self.subject.network, layer)
        draw = np.random.default_rng([self.subject.seed, zlib.crc32(layer.name.encode())])
        return ranked(np.abs(draw.standard_normal(values.shape)), values)

    def settle(self, layer: Layer, keep: Mask) -> None:
        return None
