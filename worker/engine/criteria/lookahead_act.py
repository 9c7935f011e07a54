"""Lookahead with activation probabilities."""

from collections.abc import Mapping, Sequence
from typing import ClassVar, final

import numpy as np
import onnx_ir as ir
from pydantic import Field

from api_schemas.catalogue import Requirements
from worker.engine.criteria.base import Scorer, Subject
from worker.engine.criteria.looking import Floats, look, tell
from worker.engine.criteria.neighbours import FarSighted
from worker.engine.graph import weights
from worker.engine.graph.analysis import Graph
from worker.engine.graph.channels import ChannelMap, Source
from worker.engine.graph.layer import LayerUse
from worker.engine.learning.activations import Observed, shares_above_zero
from worker.engine.types import Array


@final
class LookaheadAct(FarSighted):
    """Lookahead on weights that are scaled by how often the ReLU unit that they feed is on: by √P for a
    linear layer, by the sum of √P over the map, before pooling, for a convolution. P is measured on rows of
    data without labels, at inference, at the first ReLU that a unit reaches; units that reach none, such as
    those of the last layer, are not scaled."""

    name: ClassVar[str] = "lookahead_act"
    source: ClassVar[str | None] = "Park et al., ICLR 2020, arXiv 2002.04809, §4 (LAP-act)"

    rows: int = Field(default=60_000, ge=1, le=10_000_000)
    """How many rows of the data to look at; the paper draws 60,000."""

    @classmethod
    def requires(cls) -> Requirements:
        return Requirements(data=True)

    def scorer(self, subject: Subject) -> Scorer:
        return self.among_neighbours(subject, _Scaled(subject, _activity(subject, self.rows)).weigh)


@final
class _Scaled:
    """Weights whose rows are scaled."""

    def __init__(self, subject: Subject, factors: Mapping[Source, Floats]) -> None:
        self._subject, self._factors = subject, factors

    def weigh(self, use: LayerUse) -> Array:
        """In the operator's layout."""
        values = weights.read(self._subject.network, use.view)
        factor = self._factors.get(use.source) if use.source is not None else None
        if factor is None:
            return values
        return values * factor[use.outputs].reshape(*use.outputs.shape, *(1,) * (values.ndim - 2))


def _activity(subject: Subject, rows: int) -> dict[Source, Floats]:
    """The factor of every unit of every source that is scaled."""
    followed = _first_relus(subject.graph, subject.network.structure)
    if not followed:
        tell(subject, "the model has no ReLU behind a layer: activation probabilities change nothing")
        return {}
    seen = look(subject, rows)
    values = list(dict.fromkeys(followed.values()))
    roots = _roots(seen, values)
    sources = {use.source for layer in subject.graph.layers for use in layer.uses if use.source is not None}
    return {
        source: _collected(source, subject.graph.maps[value], roots[value])
        for source, value in followed.items()
        if source in sources
    }


def _first_relus(graph: Graph, structure: ir.Model) -> dict[Source, ir.Value]:
    """What goes into the first ReLU that each source reaches."""
    found: dict[Source, ir.Value] = {}
    for node in structure.graph:
        value = node.inputs[0] if node.inputs else None
        channels = None if value is None else graph.maps.get(value)
        if node.op_type == "Relu" and value is not None and isinstance(channels, ChannelMap):
            for term in channels.terms:
                found.setdefault(term.source, value)
    return found


def _roots(seen: Observed, values: Sequence[ir.Value]) -> dict[ir.Value, Floats]:
    """√P of every element of a sample."""
    shares = shares_above_zero(seen, values)
    return {value: share.sqrt().cpu().numpy() for value, share in zip(values, shares, strict=True)}


def _collected(source: Source, channels: object, roots: Floats) -> Floats:
    """Sum over positions of what each unit of the source has there."""
    if not isinstance(channels, ChannelMap):
        raise TypeError("a ReLU without a channel map was picked")
    # The first axis, that of the samples, is gone from `roots`.
    axes = [axis - 1 for axis in channels.axes]
    others = tuple(axis for axis in range(roots.ndim) if axis not in axes)
    summed = roots.sum(axis=others).reshape(-1)
    total = np.zeros(source.units)
    for term in channels.terms:
        if term.source is source:
            units = term.units.reshape(-1)
            np.add.at(total, units[units >= 0], summed[units >= 0])
    return total
