"""Layers: a stored weight tensor together with the operators that use it."""

from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from worker.engine.graph.channels import ChannelMap, Channels, Ints, Source
from worker.engine.graph.views import WeightView


@dataclass(frozen=True, eq=False)
class LayerUse:
    """One operator that uses a weight in layout (groups, outputs / group, inputs / group, *taps).

    `inputs[g, i]` is the index into the flat feature axis of `incoming` that input i of group g reads;
    `outputs[g, o]` the unit of `source` that output o of group g makes. `source` is None where what the
    operator makes is not followed further (recurrent state).
    """

    node: ir.Node
    view: WeightView
    incoming: Channels
    inputs: Ints
    outputs: Ints
    source: Source | None
    positions: int | None = None


@dataclass(frozen=True, eq=False)
class Layer:
    """A weight tensor that a method may prune, or not: `reason` says why not. `notes` go into the report."""

    name: str
    weight: str
    op: str
    view: WeightView
    uses: tuple[LayerUse, ...] = ()
    reason: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape as stored in the file."""
        return self.view.shape

    @property
    def size(self) -> int:
        """Number of weights."""
        return int(np.prod(self.view.shape))

    @property
    def macs(self) -> int | None:
        """Multiply-accumulates for one sample over all uses; None where a map size is not known."""
        counts = [use.positions for use in self.uses]
        return None if None in counts or not counts else sum(self.size * (n or 0) for n in counts)


@dataclass(frozen=True, eq=False)
class Consumer:
    """Who reads a value's channels: a layer use, or (None) something that counts as energy 1 per index."""

    channels: Channels
    use: LayerUse | None = None


@dataclass(frozen=True)
class Refused:
    """A tensor that looks like a weight and is left alone, with the reason."""

    name: str
    op: str
    view: WeightView
    reason: str


@dataclass(frozen=True, eq=False)
class Frozen:
    """Channels that must all stay, and why."""

    channels: ChannelMap
    reason: str


@dataclass(frozen=True, eq=False)
class Tie:
    """Flat indices that must stay or go together: `first[i]` of `left` with `second[i]` of `right`."""

    left: ChannelMap
    first: Ints
    right: ChannelMap
    second: Ints


@dataclass(frozen=True, eq=False)
class Summed:
    """An operand whose channels an operator without weights sums up (mean, variance, largest, scores): once
    some are gone, over those that stay."""

    node: ir.Node
    operand: int
    axes: tuple[int, ...]


@dataclass
class Findings:
    """What the rules gather while they walk the graph."""

    uses: list[LayerUse] = field(default_factory=list)
    consumers: list[Consumer] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    boundaries: dict[str, str] = field(default_factory=dict)
    frozen: list[Frozen] = field(default_factory=list)
    ties: list[Tie] = field(default_factory=list)
    summed: list[Summed] = field(default_factory=list)
    heads: list[ChannelMap] = field(default_factory=list)
