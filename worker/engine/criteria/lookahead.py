"""Lookahead (LAP): what a weight is worth to the layer before it and the layer after it together.

Park, Lee, Mo, Shin: "Lookahead: A Far-Sighted Alternative of Magnitude-based Pruning", ICLR 2020.
"""

from typing import ClassVar, Literal, final

from pydantic import Field

from worker.engine.criteria.base import Scorer, Subject
from worker.engine.criteria.neighbours import FarSighted


@final
class Lookahead(FarSighted):
    """w² · in(j) · out(k): `in` is the energy (sum of squares) of the weights that make a weight's input,
    `out` of those that read its output, with batch norm's slopes multiplied in. It is the change of the
    product of three neighbouring layers when the weight goes. Needs no data and one pass over the weights.

    Neighbours come from the channel maps: energies add over branches that join, and every branch that
    forks off counts. On a plain chain this is exactly the published score."""

    name: ClassVar[str] = "lookahead"
    source: ClassVar[str | None] = "Park et al., ICLR 2020, arXiv 2002.04809, eq. 4 and 5"

    form: Literal["published", "exact"] = "published"
    """Take kernels by their energy alone, or by their autocorrelation, which makes the score of a convolution
    between two convolutions exact: stride 1, circular padding, maps at least as wide as two kernels less one.
    Where strides, dilation, pooling or layers that are no convolutions intervene, both forms are the same."""
    steps: int = Field(default=1, ge=1, le=1000)
    """Cut in so many equal parts of the original count, each scored on what is left (the published `split`).
    With an order, every part goes through all layers in it."""

    @property
    def parts(self) -> int:
        return self.steps

    def scorer(self, subject: Subject) -> Scorer:
        return self.among_neighbours(subject, exact=self.form == "exact")
