"""Lookahead on weights that data have scaled: row by row, or one by one."""

from functools import reduce
from typing import Literal, final

import numpy as np

from worker.engine.criteria.base import Scorer, Subject, ranked
from worker.engine.graph import weights
from worker.engine.graph.chain import chain_links
from worker.engine.graph.energies import Energies, Weigh, links
from worker.engine.graph.layer import Layer, LayerUse
from worker.engine.types import Array, Mask, Scores

Look = Literal["both", "forward", "backward"]


@final
class Neighbours(Scorer):
    """v² · in · out of scaled weights v, which `weigh` gives, neighbours scaled likewise; `in_sequence`, of
    what earlier layers kept."""

    def __init__(
        self,
        subject: Subject,
        weigh: Weigh,
        *,
        look: Look = "both",
        batch_norm: bool = True,
        squared: bool = True,
        in_sequence: bool = False,
        chain: bool = False,
    ) -> None:
        self._subject, self._scaled = subject, weigh
        self._look, self._squared, self._in_sequence = look, squared, in_sequence
        self._kept: dict[str, Mask] = {}
        self._names = {use: layer.name for layer in subject.graph.layers for use in layer.uses}
        along = chain_links(subject.graph) if chain else links(subject.graph)
        self._energies = Energies(subject.graph, along, self._weigh, slopes=batch_norm)

    def _weigh(self, use: LayerUse) -> Array:
        values = self._scaled(use)
        keep = self._kept.get(self._names.get(use, ""))
        return values if keep is None else values * keep

    def score(self, layer: Layer) -> Scores:
        values = weights.read_finite(self._subject.network, layer)
        scores: Scores = reduce(np.add, [self._of(use) for use in layer.uses])
        if not self._squared:
            np.sqrt(scores, out=scores)
        return ranked(scores, values)

    def _of(self, use: LayerUse) -> Scores:
        scores = np.square(self._scaled(use), dtype=np.float64)
        taps = (1,) * (scores.ndim - 3)
        if self._look != "forward":
            incoming = self._energies.incoming(use)
            scores = scores * incoming.reshape(*incoming.shape, *taps)
        if self._look != "backward":
            outgoing = self._energies.outgoing(use)
            scores = scores * outgoing.reshape(*outgoing.shape, *taps)
        return scores

    def settle(self, layer: Layer, keep: Mask) -> None:
        if self._in_sequence:
            self._kept[layer.name] = keep
            self._energies.forget(layer)
