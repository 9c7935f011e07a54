"""Optimal brain damage with lookahead."""

from typing import ClassVar, final

import numpy as np
from pydantic import Field

from api_schemas.catalogue import Requirements
from worker.engine.criteria.base import Criterion, Scorer, Subject
from worker.engine.criteria.curvature import CurvatureName, Diagonal, LossName, diagonal
from worker.engine.criteria.looking import tell
from worker.engine.criteria.neighbours import Neighbours
from worker.engine.graph import weights
from worker.engine.graph.layer import Layer, LayerUse
from worker.engine.types import Array


@final
class LookaheadOBD(Criterion):
    """Lookahead on √(w² · H) in place of w, H the diagonal of the loss' Hessian: w²H · Σ w²H of the weights
    that make its input · Σ w²H of those that read its output. The curvature is that of `obd`; it is a sum of
    squares, so its root is safe, and the report says which it was. Norms are in the curvature, so their
    slopes are not multiplied in again unless asked for. Layers without curvature count with H = 1."""

    name: ClassVar[str] = "lookahead_obd"
    source: ClassVar[str | None] = "Park et al., ICLR 2020, arXiv 2002.04809, §4 (OBD+LAP)"

    rows: int = Field(default=512, ge=1, le=1_000_000)
    """How many rows of the data to look at."""
    curvature: CurvatureName = "auto"
    """Which curvature, as for `obd`."""
    loss: LossName = "auto"
    """What the outputs are for, as for `obd`."""
    directions: int = Field(default=32, ge=1, le=1024)
    """With more outputs than this, the curvature is estimated from so many random sums of them."""
    batch_norm: bool = False
    """Multiply batch norm's slopes into the neighbours' energies."""
    squared: bool = True
    """Score w²·in·out, or its root. Matters only across layers (global)."""

    @property
    def degree(self) -> int:
        return 2 if self.squared else 1

    @classmethod
    def requires(cls) -> Requirements:
        return Requirements(data=True)

    def scorer(self, subject: Subject) -> Scorer:
        layers = (*subject.graph.layers, *(one for one in subject.graph.refused if one.uses))
        found = diagonal(
            subject, layers, curvature=self.curvature, loss=self.loss, rows=self.rows, most=self.directions
        )
        tell(subject, f"the curvature that weights were scored by: {found.kind}")
        weigh = _Curved(subject, layers, found).weigh
        return Neighbours(subject, weigh, batch_norm=self.batch_norm, squared=self.squared)


@final
class _Curved:
    """Weights times the root of their curvature."""

    def __init__(self, subject: Subject, layers: tuple[Layer, ...], found: Diagonal) -> None:
        self._subject, self._found = subject, found
        self._names = {use: layer.name for layer in layers for use in layer.uses}

    def weigh(self, use: LayerUse) -> Array:
        """In the operator's layout."""
        values = weights.read(self._subject.network, use.view)
        curvature = self._found.values.get(self._names.get(use, ""), np.ones(()))
        return values * np.sqrt(curvature)
