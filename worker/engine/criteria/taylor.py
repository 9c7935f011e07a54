"""Taylor."""

from typing import ClassVar, Literal, final

import numpy as np
import torch
from pydantic import Field

from api_schemas.catalogue import Requirements
from worker.engine.criteria.base import Criterion, Scorer, Subject, ranked
from worker.engine.criteria.curvature import LossName, directions
from worker.engine.criteria.looking import Standing, look, tell
from worker.engine.graph import weights
from worker.engine.graph.layer import Layer
from worker.engine.learning.gradients import batch_gradients
from worker.engine.types import Array, Scores


@final
class Taylor(Criterion):
    """How much the loss changes, to first order, when a weight goes: |w · g| with the gradient g of the loss.
    With labels it is the loss that they ask for. Without, the gradient of a loss against the network's own
    answers is zero, so what counts is how far its outputs move: g is drawn at random along them, weighed as
    the loss would."""

    name: ClassVar[str] = "taylor"
    source: ClassVar[str | None] = "Molchanov et al., CVPR 2019, arXiv 1906.10771, eq. 8; ICLR 2017"

    form: Literal["weight", "squared", "output"] = "squared"
    """`weight`: |w · mean g|. `squared`: the mean of (w · g)² over batches, which does not cancel. `output`:
    the same for all weights of an output together, (Σ w · g)², as published for channels; each weight then
    bears its part, which may be negative: only sums over rows and channels mean something."""
    rows: int = Field(default=512, ge=1, le=1_000_000)
    """How many rows of the data to look at."""
    batch: int = Field(default=16, ge=1, le=1024)
    """Rows whose gradient is taken together, as far as the model takes so many at once."""
    loss: LossName = "auto"
    """What the outputs are for where no label says so; `auto` takes (rows, several) outputs for classes."""

    @property
    def degree(self) -> int:
        return 1 if self.form == "weight" else 2

    @classmethod
    def requires(cls) -> Requirements:
        return Requirements(data=True)

    def scorer(self, subject: Subject) -> Scorer:
        return _Taylor(self, subject)


@final
class _Taylor(Standing):
    """Products of weights and gradients of every layer, in the operator's layout."""

    def __init__(self, criterion: Taylor, subject: Subject) -> None:
        self._subject, self._form = subject, criterion.form
        seen = look(subject, criterion.rows, batch=criterion.batch)
        layers = [layer for layer in subject.layers if layer.view.value in seen.module.weights]
        missing = len(subject.layers) - len(layers)
        if missing:
            tell(subject, f"{missing} layers have no gradient: they go first")
        self._sums = {layer.name: np.zeros(layer.view.seen_shape()) for layer in layers}
        self._weights = {layer.name: weights.read(subject.network, layer.view) for layer in layers}
        labels = subject.data is not None and subject.data.has_targets
        along = directions(seen, criterion.loss, labels=labels, most=1, seed=subject.seed)
        parameters = [seen.module.weights[layer.view.value] for layer in layers]
        total = 0
        for rows, gradients in batch_gradients(seen, parameters, along):
            total += rows
            for layer, gradient in zip(layers, gradients, strict=True):
                self._add(layer, gradient, rows)
        for sums in self._sums.values():
            sums /= max(1, total)

    def _add(self, layer: Layer, gradient: torch.Tensor, rows: int) -> None:
        change = layer.view.forward(gradient.cpu().numpy()).astype(np.float64) * self._weights[layer.name]
        self._sums[layer.name] += rows * self._form_of(change)

    def _form_of(self, change: Array) -> Array:
        if self._form == "weight":
            return change
        if self._form == "squared":
            return np.square(change)
        whole = change.sum(axis=tuple(range(2, change.ndim)), keepdims=True)
        return np.asarray(whole * change)

    def score(self, layer: Layer) -> Scores:
        values = weights.read_finite(self._subject.network, layer)
        found = self._sums.get(layer.name, np.zeros(values.shape))
        return ranked(np.abs(found) if self._form == "weight" else found.copy(), values)
