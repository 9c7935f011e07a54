"""Optimal brain damage."""

from typing import ClassVar, final

import numpy as np
from pydantic import Field

from api_schemas.catalogue import Requirements
from worker.engine.criteria.base import Criterion, Scorer, Subject, ranked
from worker.engine.criteria.curvature import CurvatureName, Diagonal, LossName, diagonal
from worker.engine.criteria.looking import Standing, tell
from worker.engine.graph import weights
from worker.engine.graph.layer import Layer
from worker.engine.types import Scores


@final
class OBD(Criterion):
    """w² · H / 2 with the diagonal H of the loss' Hessian: what the loss rises by, to second order, when the
    weight goes. Exact for networks that are linear between kinks (ReLU, convolutions, pooling, batch norm)
    with cross-entropy or squared error, and then without labels; otherwise the empirical Fisher information
    where there are labels, and the Gauss-Newton diagonal where there are none. The report says which."""

    name: ClassVar[str] = "obd"
    source: ClassVar[str | None] = "LeCun, Denker, Solla, NeurIPS 1989, eq. 5; as compared in the LAP paper"

    rows: int = Field(default=512, ge=1, le=1_000_000)
    """How many rows of the data to look at."""
    curvature: CurvatureName = "auto"
    """`auto` as above; `exact` refuses where it is not; `gauss_newton` and `fisher` (with labels) always."""
    loss: LossName = "auto"
    """What the outputs are for. `auto` follows the labels; without any it takes an output of (rows, several)
    for scores of classes, any other for values."""
    directions: int = Field(default=32, ge=1, le=1024)
    """With more outputs than this, the curvature is estimated from so many random sums of them."""

    @property
    def degree(self) -> int:
        return 2

    @classmethod
    def requires(cls) -> Requirements:
        return Requirements(data=True)

    def scorer(self, subject: Subject) -> Scorer:
        found = diagonal(
            subject,
            subject.layers,
            curvature=self.curvature,
            loss=self.loss,
            rows=self.rows,
            most=self.directions,
        )
        tell(subject, f"the curvature that weights were scored by: {found.kind}")
        return _OBD(subject, found)


@final
class _OBD(Standing):
    """Weights squared times what was found."""

    def __init__(self, subject: Subject, found: Diagonal) -> None:
        self._subject, self._found = subject, found

    def score(self, layer: Layer) -> Scores:
        values = weights.read_finite(self._subject.network, layer)
        curvature = self._found.values.get(layer.name, np.zeros(values.shape))
        return ranked(np.square(values, dtype=np.float64) * curvature / 2, values)
