"""Optimal brain surgeon."""

from collections.abc import Sequence
from typing import ClassVar, final

import numpy as np
from pydantic import Field

from api_schemas.catalogue import Requirements
from worker.engine.criteria.base import Criterion, Scorer, Subject, ranked
from worker.engine.criteria.looking import Floats, Products, Standing, as_weight, look, ones, products, tell
from worker.engine.graph import weights
from worker.engine.graph.layer import Layer
from worker.engine.learning.activations import Observed, grams, norms
from worker.engine.learning.least_squares import inverse_diagonal
from worker.engine.types import Scores

#: Columns (inputs · taps) of the widest weight whose Gram matrix is inverted: half a gigabyte.
_WIDEST = 8192
_SHOWN = 3


@final
class OBS(Criterion):
    """w² / [H⁻¹]ₚₚ with H = XᵀX + λI of what the layer reads, over rows of data without labels: the error of
    the layer's outputs when the weight goes and the others make up for it as well as they can, as SparseGPT
    and OBC score. The recovery `reconstruction` does the making up, for all kept weights at once. Layers
    whose data cannot be seen are scored by w², and very wide ones by w² · ‖x‖², with a warning."""

    name: ClassVar[str] = "obs"
    source: ClassVar[str | None] = (
        "Hassibi, Stork, NeurIPS 1992, eq. 5; Frantar, Alistarh, ICML 2023 (SparseGPT), arXiv 2301.00774"
    )

    rows: int = Field(default=512, ge=1, le=1_000_000)
    """How many rows of the data to look at."""
    damping: float = Field(default=0.01, gt=0.0, le=10.0)
    """λ, relative to the mean of the diagonal of XᵀX."""

    @property
    def degree(self) -> int:
        return 2

    @classmethod
    def requires(cls) -> Requirements:
        return Requirements(data=True)

    def scorer(self, subject: Subject) -> Scorer:
        return _OBS(self, subject)


@final
class _OBS(Standing):
    """The reciprocal of [H⁻¹]ₚₚ for every column of every layer."""

    def __init__(self, criterion: OBS, subject: Subject) -> None:
        self._subject = subject
        self._costs: dict[str, Floats] = {}
        found = products(subject, subject.layers)
        found.say(subject, "their inputs count as equal")
        layers = [layer for layer in subject.layers if layer.name in found.known]
        wide = [layer for layer in layers if found.known[layer.name][0].columns > _WIDEST]
        seen = look(subject, criterion.rows)
        self._alone(seen, wide, found)
        solved = [layer for layer in layers if layer not in wide]
        for number, moments in grams(seen, [found.known[layer.name] for layer in solved]):
            layer = solved[number]
            mean = moments.gram * (_positions(layer) / moments.count)
            cost = inverse_diagonal(mean, criterion.damping).reciprocal()
            self._costs[layer.name] = as_weight(found.known[layer.name][0], cost, layer.view)
            if subject.context is not None:
                subject.context.progress(number + 1, len(solved), "layers looked at")

    def _alone(self, seen: Observed, wide: Sequence[Layer], found: Products) -> None:
        """Layers too wide for an inverse: each input by itself."""
        if not wide:
            return
        names = ", ".join(layer.name for layer in wide[:_SHOWN])
        tell(
            self._subject,
            f"the inputs of {len(wide)} layers ({names}) are too many to weigh against each other",
        )
        for layer, total in zip(wide, norms(seen, [found.known[one.name][0] for one in wide]), strict=True):
            self._costs[layer.name] = as_weight(found.known[layer.name][0], total, layer.view)

    def score(self, layer: Layer) -> Scores:
        values = weights.read_finite(self._subject.network, layer)
        scores = np.square(values, dtype=np.float64) * self._costs.get(layer.name, ones(layer))
        return ranked(scores, values)


def _positions(layer: Layer) -> float:
    """How many rows one sample gives each use, where that is known."""
    known = [use.positions or 1 for use in layer.uses]
    return sum(known) / len(known)
