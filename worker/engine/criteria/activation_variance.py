"""Activation variance."""

from collections.abc import Iterator
from functools import reduce
from typing import ClassVar, final

import numpy as np
from pydantic import Field

from api_schemas.catalogue import Requirements
from worker.engine.criteria.base import Criterion, Scorer, Subject, ranked
from worker.engine.criteria.looking import Standing, as_weight, look, products
from worker.engine.graph import weights
from worker.engine.graph.energies import Energies, links
from worker.engine.graph.layer import Layer, LayerUse
from worker.engine.learning.activations import column_spreads
from worker.engine.learning.unfolding import Unfolding
from worker.engine.types import Array, Scores


@final
class ActivationVariance(Criterion):
    """How much an output varies over the data, as its readers see it: the sum, over the weights that read it,
    of w² times the variance of what they read (after norm, activation and pooling). An output that never
    varies is a constant, which biases make up for. All weights of an output share its score equally, so that
    rows and channels, which sum, get it back."""

    name: ClassVar[str] = "activation_variance"
    source: ClassVar[str | None] = "cf. REFLOW, arXiv 2502.15790: one-shot pruning fails by lost variance"

    rows: int = Field(default=512, ge=2, le=1_000_000)
    """How many rows of the data to look at; no labels are needed."""

    @property
    def degree(self) -> int:
        return 2

    @classmethod
    def requires(cls) -> Requirements:
        return Requirements(data=True, granularities=["channel", "row"])

    def scorer(self, subject: Subject) -> Scorer:
        return _ActivationVariance(self, subject)


@final
class _ActivationVariance(Standing):
    """Variance of every output of every layer, at its readers: energies of weights times deviations."""

    def __init__(self, criterion: ActivationVariance, subject: Subject) -> None:
        self._subject = subject
        layers = (*subject.graph.layers, *subject.graph.refused)
        found = products(subject, layers)
        uses = [(use, item) for layer in layers for use, item in _pairs(layer, found.known.get(layer.name))]
        spreads = column_spreads(look(subject, criterion.rows), [item for _, item in uses])
        self._deviations = {
            use: as_weight(item, spread.variance.sqrt().reshape(item.groups, -1), use.view)
            for (use, item), spread in zip(uses, spreads, strict=True)
        }
        # Norms' slopes are in the variance already.
        self._energies = Energies(subject.graph, links(subject.graph), self._weigh, slopes=False)

    def _weigh(self, use: LayerUse) -> Array:
        values = weights.read(self._subject.network, use.view)
        return values * self._deviations.get(use, np.ones(()))

    def score(self, layer: Layer) -> Scores:
        values = weights.read_finite(self._subject.network, layer)
        energy = reduce(np.add, map(self._energies.outgoing, layer.uses))
        axes = tuple(range(2, values.ndim))
        shares = np.maximum(1, np.count_nonzero(values, axis=axes, keepdims=True))
        scores = np.broadcast_to(
            energy.reshape(*energy.shape, *(1,) * (values.ndim - 3)) / shares, values.shape
        )
        return ranked(scores.copy(), values)


def _pairs(layer: Layer, items: tuple[Unfolding, ...] | None) -> Iterator[tuple[LayerUse, Unfolding]]:
    yield from zip(layer.uses, items or (), strict=items is not None)
