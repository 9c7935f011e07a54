"""Lookahead (LAP): what a weight is worth to the layer before it and the layer after it together.

Park, Lee, Mo, Shin: "Lookahead: A Far-Sighted Alternative of Magnitude-based Pruning", ICLR 2020.
"""

from collections.abc import Sequence
from functools import reduce
from typing import ClassVar, Literal, final

import numpy as np
from pydantic import Field

from worker.engine.criteria.base import Criterion, Scorer, Subject, ranked
from worker.engine.graph import weights
from worker.engine.graph.chain import chain_links
from worker.engine.graph.correlations import Correlations
from worker.engine.graph.energies import Energies, links
from worker.engine.graph.layer import Layer, LayerUse
from worker.engine.types import Array, Mask, Scores

#: So many scores at a time stay in the processor's cache.
_CHUNK = 1 << 15


@final
class Lookahead(Criterion):
    """w² · in(j) · out(k): `in` is the energy (sum of squares) of the weights that make a weight's input,
    `out` of those that read its output, with batch norm's slopes multiplied in. It is the change of the
    product of three neighbouring layers when the weight goes. Needs no data and one pass over the weights.

    Neighbours come from the channel maps: energies add over branches that join, and every branch that
    forks off counts. On a plain chain this is exactly the published score."""

    name: ClassVar[str] = "lookahead"
    source: ClassVar[str | None] = "Park et al., ICLR 2020, arXiv 2002.04809, eq. 4 and 5"

    look: Literal["both", "forward", "backward"] = "both"
    """Which neighbours count: both (LAP), only the next layer (LFP) or only the previous one (LBP)."""
    batch_norm: bool = True
    """Multiply batch norm's slopes γ/√(σ²+ε) (and constant factors) into the energies."""
    squared: bool = True
    """Score w²·in·out, as published, or its root |w|·√(in·out). Matters only across layers (global)."""
    order: Literal["at_once", "forward", "backward"] = "at_once"
    """Score all layers on the unpruned network, or in sequence, each pruned before the next is scored."""
    neighbours: Literal["graph", "chain"] = "graph"
    """Follow the graph, or take the layers as one plain chain that ignores skip connections, as the
    published code does for residual networks."""
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

    @property
    def degree(self) -> int:
        return 2 if self.squared else 1

    def scorer(self, subject: Subject) -> Scorer:
        return _Lookahead(self, subject)

    def sequence(self, layers: Sequence[Layer]) -> Sequence[Layer] | None:
        if self.order == "at_once":
            return None
        return list(layers) if self.order == "forward" else list(layers)[::-1]


@final
class _Lookahead(Scorer):
    """Energies of the network as it stands; in sequence, of what earlier layers kept."""

    def __init__(self, criterion: Lookahead, subject: Subject) -> None:
        self._criterion, self._subject = criterion, subject
        self._kept: dict[str, Mask] = {}
        self._names = {use: layer.name for layer in subject.graph.layers for use in layer.uses}
        along = links(subject.graph) if criterion.neighbours == "graph" else chain_links(subject.graph)
        self._energies = Energies(subject.graph, along, self._weigh, slopes=criterion.batch_norm)
        self._correlations = Correlations(subject.graph, along, self._weigh, slopes=criterion.batch_norm)

    def _weigh(self, use: LayerUse) -> Array:
        values = weights.read(self._subject.network, use.view)
        keep = self._kept.get(self._names.get(use, ""))
        return values if keep is None else values * keep

    def score(self, layer: Layer) -> Scores:
        values = weights.read_finite(self._subject.network, layer)
        scores = np.square(values, dtype=np.float64)
        factors = [self._factors(use) for use in layer.uses]
        taps = (1,) * (values.ndim - 3)
        rows = max(1, _CHUNK * values.shape[1] // max(values.size, 1))
        for start in range(0, values.shape[1], rows):  # piece by piece: the product is as large as the weight
            here = slice(start, start + rows)
            factor = reduce(np.add, [_rows(first, here) * _rows(second, here) for first, second in factors])
            scores[:, here] *= factor.reshape(*factor.shape, *taps)
        if not self._criterion.squared:
            np.sqrt(scores, out=scores)
        return ranked(scores, values)

    def _factors(self, use: LayerUse) -> tuple[Array, Array]:
        """Two factors of one use, whose product is in · out; both broadcast to (groups, outputs, inputs)."""
        criterion, one = self._criterion, np.ones((1, 1, 1))
        if criterion.form == "exact" and criterion.look == "both":
            return self._correlations.factor(use), one
        return (
            self._energies.incoming(use) if criterion.look != "forward" else one,
            self._energies.outgoing(use) if criterion.look != "backward" else one,
        )

    def settle(self, layer: Layer, keep: Mask) -> None:
        if self._criterion.order != "at_once":
            self._kept[layer.name] = keep
            self._energies.forget(layer)
            self._correlations.forget(layer)


def _rows(factor: Array, outputs: slice) -> Array:
    """The factor for some outputs."""
    return factor if factor.shape[1] == 1 else factor[:, outputs]
