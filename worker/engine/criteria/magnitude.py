"""Magnitude."""

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np

from worker.engine.criteria.base import Criterion, Scorer, Subject, ranked
from worker.engine.graph import weights
from worker.engine.graph.layer import Layer
from worker.engine.types import Mask, Scores


@final
class Magnitude(Criterion):
    """|w|: small weights go. Looks at one weight at a time, needs no data, and is the baseline that every
    other criterion is measured against."""

    name: ClassVar[str] = "magnitude"
    source: ClassVar[str | None] = "Han et al., NeurIPS 2015"

    def scorer(self, subject: Subject) -> Scorer:
        return _Magnitude(subject)


@final
@dataclass(frozen=True)
class _Magnitude(Scorer):
    subject: Subject

    def score(self, layer: Layer) -> Scores:
        values = weights.read_finite(self.subject.network, layer)
        return ranked(np.abs(values, dtype=np.float64), values)

    def settle(self, layer: Layer, keep: Mask) -> None:
        return None
