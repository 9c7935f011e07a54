"""What criteria that look at data have in common: a watched network, and layers as matrix products."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch

from worker.engine.criteria.base import Scorer, Subject
from worker.engine.errors import NeedsDatasetError, NeedsLabelsError
from worker.engine.graph.layer import Layer
from worker.engine.graph.unfolded import all_unfolded
from worker.engine.graph.views import WeightView
from worker.engine.learning.activations import BATCH, Observed, observed
from worker.engine.learning.unfolding import Unfolding
from worker.engine.types import Array, Mask, Scores

_SHOWN = 3
Floats = np.ndarray[Any, np.dtype[np.float64]]


def look(subject: Subject, rows: int, batch: int | None = None) -> Observed:
    """The subject's network, ready to run over so many rows of its data, `batch` at a time where it takes so
    many. Raises NeedsDatasetError."""
    if subject.data is None:
        raise NeedsDatasetError("the criterion looks at data, and none was given")
    device = "cpu" if subject.context is None else subject.context.device
    return observed(subject.network, subject.data, rows, subject.seed, device, batch or BATCH)


def require_labels(subject: Subject, what: str) -> None:
    """Raises NeedsLabelsError when the subject's rows have none."""
    if subject.data is None or not subject.data.has_targets:
        raise NeedsLabelsError(f"{what} needs a dataset with `targets`")


def tell(subject: Subject, message: str) -> None:
    """Put a sentence on top of the report, where there is one."""
    if subject.context is not None:
        subject.context.warn(message)


@final
@dataclass(frozen=True)
class Products:
    """Layers whose uses are plain matrix products, by name, and why others are none."""

    known: Mapping[str, tuple[Unfolding, ...]]
    reasons: Mapping[str, str]

    def say(self, subject: Subject, instead: str) -> None:
        """Tell that some layers could not be looked at, and what counts instead."""
        if self.reasons:
            shown = "; ".join(f"{name}: {why}" for name, why in list(self.reasons.items())[:_SHOWN])
            more = f"; and {len(self.reasons) - _SHOWN} more" if len(self.reasons) > _SHOWN else ""
            tell(subject, f"{len(self.reasons)} layers cannot be looked at ({shown}{more}): {instead}")


def products(subject: Subject, layers: Sequence[Layer]) -> Products:
    """The layers as matrix products."""
    known: dict[str, tuple[Unfolding, ...]] = {}
    reasons: dict[str, str] = {}
    for layer in layers:
        found = all_unfolded(subject.network, layer)
        if isinstance(found, str):
            reasons[layer.name] = found
        else:
            known[layer.name] = tuple(found)
    return Products(known, reasons)


def as_weight(item: Unfolding, found: torch.Tensor, view: WeightView) -> Floats:
    """Numbers per column, (groups, columns) or (groups, outputs, columns), so that they broadcast over the
    weight's layout (groups, outputs, inputs, *taps)."""
    groups, _, inputs, *taps = view.seen_shape()
    numbers: Array = found.detach().cpu().numpy().astype(np.float64)
    outputs = 1 if numbers.ndim == 2 else item.outputs
    return numbers.reshape(groups, outputs, inputs, *taps)


class Standing(Scorer):
    """A scorer whose layers stand alone."""

    def settle(self, layer: Layer, keep: Mask) -> None:
        return None


def ones(layer: Layer) -> Scores:
    """Factor 1 for every weight of a layer."""
    return np.ones((1,) * len(layer.view.seen_shape()))
