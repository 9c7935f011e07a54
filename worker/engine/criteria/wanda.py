"""Wanda."""

from typing import ClassVar, Literal, final

import numpy as np
from pydantic import Field

from api_schemas.catalogue import Requirements
from worker.engine.criteria.base import Criterion, Scorer, Subject, ranked
from worker.engine.criteria.looking import Floats, Standing, as_weight, look, ones, products
from worker.engine.graph import weights
from worker.engine.graph.layer import Layer
from worker.engine.learning.activations import norms
from worker.engine.types import Scores


@final
class Wanda(Criterion):
    """|w| · ‖x‖₂: a weight counts for as much as what comes in through it, over rows of data without labels.
    For a convolution x is what each tap reads, over all positions, padding included. Layers whose data cannot
    be seen (recurrent, quantised) are scored by |w| alone, with a warning."""

    name: ClassVar[str] = "wanda"
    source: ClassVar[str | None] = "Sun et al., ICLR 2024, arXiv 2306.11695, eq. 1"

    rows: int = Field(default=512, ge=1, le=1_000_000)
    """How many rows of the data to look at."""
    compare: Literal["layer", "output"] = "layer"
    """Against which weights a weight is ranked: all of its layer, or, as published for language models, those
    of its output only, so that every output loses the same share. The latter makes scores ranks, which mean
    nothing across layers and nothing for whole channels."""

    @classmethod
    def requires(cls) -> Requirements:
        return Requirements(data=True)

    def scorer(self, subject: Subject) -> Scorer:
        return _Wanda(self, subject)


@final
class _Wanda(Standing):
    """Norms of everything that the subject's layers read."""

    def __init__(self, criterion: Wanda, subject: Subject) -> None:
        self._subject, self._by_output = subject, criterion.compare == "output"
        found = products(subject, subject.layers)
        found.say(subject, "their inputs count as equal")
        layers = {layer.name: layer for layer in subject.layers}
        self._squares: dict[str, Floats] = {}
        flat = [(name, item) for name, items in found.known.items() for item in items]
        measured = norms(look(subject, criterion.rows), [item for _, item in flat])
        for (name, item), total in zip(flat, measured, strict=True):
            part = as_weight(item, total, layers[name].view)
            self._squares[name] = self._squares[name] + part if name in self._squares else part

    def score(self, layer: Layer) -> Scores:
        values = weights.read_finite(self._subject.network, layer)
        scores = np.abs(values, dtype=np.float64) * np.sqrt(self._squares.get(layer.name, ones(layer)))
        scores = ranked(scores, values)
        return _ranks(scores) if self._by_output else scores


def _ranks(scores: Scores) -> Scores:
    """Of every weight the share of its output's weights that score less; −∞ stays."""
    flat = scores.reshape(*scores.shape[:2], -1)
    order = np.argsort(flat, axis=2, kind="stable")
    places = np.empty(flat.shape)
    np.put_along_axis(places, order, np.broadcast_to(np.arange(flat.shape[2]) + 1.0, flat.shape), axis=2)
    places /= flat.shape[2]
    return np.where(np.isfinite(flat), places, -np.inf).reshape(scores.shape)
