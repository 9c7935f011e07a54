"""Lookahead's one scorer, whatever weights are scaled by, and the parameters that its criteria share."""

import abc
from collections.abc import Sequence
from functools import reduce
from typing import Literal, final

import numpy as np

from worker.engine.criteria.base import Criterion, Scorer, Subject, ranked
from worker.engine.graph import weights
from worker.engine.graph.chain import chain_links
from worker.engine.graph.correlations import Correlations
from worker.engine.graph.energies import Energies, Weigh, links
from worker.engine.graph.layer import Layer, LayerUse
from worker.engine.types import Array, Mask, Scores

#: So many scores at a time stay in the processor's cache.
_CHUNK = 1 << 15
Look = Literal["both", "forward", "backward"]


class FarSighted(Criterion, abc.ABC):
    """Criteria that take all of lookahead's choices."""

    look: Look = "both"
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

    @property
    def degree(self) -> int:
        return 2 if self.squared else 1

    def sequence(self, layers: Sequence[Layer]) -> Sequence[Layer] | None:
        if self.order == "at_once":
            return None
        return list(layers) if self.order == "forward" else list(layers)[::-1]

    def among_neighbours(
        self, subject: Subject, scaled: Weigh | None = None, *, exact: bool = False
    ) -> "Neighbours":
        """The scorer with these choices."""
        return Neighbours(
            subject,
            scaled,
            look=self.look,
            batch_norm=self.batch_norm,
            squared=self.squared,
            in_sequence=self.order != "at_once",
            chain=self.neighbours == "chain",
            exact=exact,
        )


@final
class Neighbours(Scorer):
    """v² · in · out of weights v as they are, or as `scaled` gives them, neighbours likewise; `in_sequence`,
    of what earlier layers kept; `exact`, by autocorrelations of kernels where both sides are looked at."""

    def __init__(
        self,
        subject: Subject,
        scaled: Weigh | None = None,
        *,
        look: Look = "both",
        batch_norm: bool = True,
        squared: bool = True,
        in_sequence: bool = False,
        chain: bool = False,
        exact: bool = False,
    ) -> None:
        self._subject, self._scaled = subject, scaled
        self._look, self._squared = look, squared
        self._in_sequence, self._exact = in_sequence, exact and look == "both"
        self._kept: dict[str, Mask] = {}
        self._names = {use: layer.name for layer in subject.graph.layers for use in layer.uses}
        along = chain_links(subject.graph) if chain else links(subject.graph)
        self._energies = Energies(subject.graph, along, self._weigh, slopes=batch_norm)
        self._correlations = Correlations(subject.graph, along, self._weigh, slopes=batch_norm)

    def _weigh(self, use: LayerUse) -> Array:
        values = weights.read(self._subject.network, use.view) if self._scaled is None else self._scaled(use)
        keep = self._kept.get(self._names.get(use, ""))
        return values if keep is None else values * keep

    def score(self, layer: Layer) -> Scores:
        values = weights.read_finite(self._subject.network, layer)
        if self._scaled is None:
            scores = self._multiplied(values, layer.uses)
        else:
            scores = reduce(np.add, [self._multiplied(self._scaled(use), (use,)) for use in layer.uses])
        if not self._squared:
            np.sqrt(scores, out=scores)
        return ranked(scores, values)

    def _multiplied(self, values: Array, uses: Sequence[LayerUse]) -> Scores:
        """v² times in · out, added over uses that see the same weight."""
        scores: Scores = np.square(values, dtype=np.float64)
        factors = [self._factors(use) for use in uses]
        taps = (1,) * (values.ndim - 3)
        rows = max(1, _CHUNK * values.shape[1] // max(values.size, 1))
        for start in range(0, values.shape[1], rows):  # piece by piece: the product is as large as the weight
            here = slice(start, start + rows)
            factor = reduce(np.add, [_rows(first, here) * _rows(second, here) for first, second in factors])
            scores[:, here] *= factor.reshape(*factor.shape, *taps)
        return scores

    def _factors(self, use: LayerUse) -> tuple[Array, Array]:
        """Two factors of one use, whose product is in · out; both broadcast to (groups, outputs, inputs)."""
        one = np.ones((1, 1, 1))
        if self._exact:
            return self._correlations.factor(use), one
        return (
            self._energies.incoming(use) if self._look != "forward" else one,
            self._energies.outgoing(use) if self._look != "backward" else one,
        )

    def settle(self, layer: Layer, keep: Mask) -> None:
        if self._in_sequence:
            self._kept[layer.name] = keep
            self._energies.forget(layer)
            self._correlations.forget(layer)


def _rows(factor: Array, outputs: slice) -> Array:
    """The factor for some outputs."""
    return factor if factor.shape[1] == 1 else factor[:, outputs]
