"""Optimal brain surgeon."""

from collections.abc import Sequence
from typing import ClassVar, Literal, final

import numpy as np
import torch
from pydantic import Field

from api_schemas.catalogue import Requirements
from worker.engine.criteria.base import Criterion, Scorer, Subject, ranked
from worker.engine.criteria.looking import Floats, Products, Standing, as_weight, look, ones, products, tell
from worker.engine.formats.memory import Shelf
from worker.engine.graph import weights
from worker.engine.graph.layer import Layer
from worker.engine.learning.activations import Observed, grams, norms
from worker.engine.learning.least_squares import inverse_diagonal
from worker.engine.learning.passing import block_scores, column_scores, pattern_scores
from worker.engine.learning.unfolding import Unfolding
from worker.engine.types import Scores

#: Columns (inputs · taps) of the widest weight whose Gram matrix is inverted: half a gigabyte.
_WIDEST = 8192
_SHOWN = 3


@final
class OBS(Criterion):
    """w² / [H⁻¹]ₚₚ with H = XᵀX + λI of what the layer reads, over rows of data without labels: the error of
    the layer's outputs when the weight goes and the others make up for it as well as they can. Where single
    weights go, those of a layer are passed column by column as in SparseGPT, the columns still ahead making
    up for what went, as many as the layer is to lose; w is then what a column holds when it is reached. The
    recovery `reconstruction` does the making up in the file, for all kept weights at once. Layers whose data
    cannot be seen are scored by w², and very wide ones by w² · ‖x‖², with a warning."""

    name: ClassVar[str] = "obs"
    source: ClassVar[str | None] = (
        "Hassibi, Stork, NeurIPS 1992, eq. 5; Frantar, Alistarh, ICML 2023 (SparseGPT), arXiv 2301.00774"
    )

    rows: int = Field(default=512, ge=1, le=1_000_000)
    """How many rows of the data to look at."""
    damping: float = Field(default=0.01, gt=0.0, le=10.0)
    """λ, relative to the mean of the diagonal of XᵀX."""
    selection: Literal["columns", "blocks", "at_once"] = "columns"
    """`columns`: each weight is weighed when its column is reached, against one threshold for the layer, and
    can count on all other weights. `blocks`, as published: the same share of every block of columns goes, and
    only columns ahead can make up for it. `at_once`: all weights as they are, as it is anyway where whole
    rows, channels or blocks go. n:m patterns are always chosen m columns after m columns, unless at once.
    On random layers with correlated inputs, `columns` leaves the least error after reconstruction."""
    block: int = Field(default=128, ge=1, le=_WIDEST)
    """Columns (inputs · taps) of a block."""

    @property
    def degree(self) -> int:
        return 2

    @property
    def by_share(self) -> bool:
        return self.selection != "at_once"

    @classmethod
    def requires(cls) -> Requirements:
        return Requirements(data=True)

    def scorer(self, subject: Subject) -> Scorer:
        return _OBS(self, subject)


@final
class _OBS(Standing):
    """The reciprocal of [H⁻¹]ₚₚ for every column of every layer, or the scores themselves."""

    def __init__(self, criterion: OBS, subject: Subject) -> None:
        self._criterion, self._subject = criterion, subject
        self._costs: dict[str, Floats] = {}
        self._passed = Shelf[str](None if subject.context is None else subject.context.scratch)
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
            self._weigh(layer, found.known[layer.name][0], mean)
            if subject.context is not None:
                subject.context.progress(number + 1, len(solved), "layers looked at")

    def _weigh(self, layer: Layer, item: Unfolding, mean: torch.Tensor) -> None:
        """All weights of a layer at once, or on a way over its columns where it is known how many go."""
        if self._criterion.by_share and self._subject.shares is not None:
            share = self._subject.shares.get(layer.name, 0.0)
            self._passed[layer.name] = as_weight(item, self._on_the_way(layer, item, mean, share), layer.view)
        else:
            cost = inverse_diagonal(mean, self._criterion.damping).reciprocal()
            self._costs[layer.name] = as_weight(item, cost, layer.view)

    def _on_the_way(self, layer: Layer, item: Unfolding, mean: torch.Tensor, share: float) -> torch.Tensor:
        values = weights.read_finite(self._subject.network, layer)
        matrix, damping = torch.from_numpy(np.array(item.matrix(values))), self._criterion.damping
        pattern = self._subject.pattern
        if pattern is not None and share > 0:
            order = _pattern_order(layer, item)
            ordered = mean[:, order][:, :, order]
            found = pattern_scores(matrix[:, :, order], ordered, damping, pattern)
            return found[:, :, order.argsort()]
        if self._criterion.selection == "blocks":
            return block_scores(matrix, mean, damping, share, self._criterion.block)
        return column_scores(matrix, mean, damping, share)

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
        if layer.name in self._passed:
            return ranked(np.array(self._passed[layer.name]), values)
        scores = np.square(values, dtype=np.float64) * self._costs.get(layer.name, ones(layer))
        return ranked(scores, values)


def _pattern_order(layer: Layer, item: Unfolding) -> torch.Tensor:
    """Columns in the order in which n:m patterns run: all inputs at one tap, then at the next."""
    inputs = layer.view.seen_shape()[2]
    return torch.arange(item.columns).reshape(inputs, -1).T.reshape(-1)


def _positions(layer: Layer) -> float:
    """How many rows one sample gives each use, where that is known."""
    known = [use.positions or 1 for use in layer.uses]
    return sum(known) / len(known)
