"""What is left of every tensor's axes when units go: kept indices, read off the channel maps."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import final

import numpy as np
import onnx_ir as ir

from worker.engine.graph.analysis import Graph
from worker.engine.graph.channels import ChannelMap, Channels, Ints, Source
from worker.engine.graph.layer import LayerUse
from worker.engine.types import Mask

Axes = Mapping[int, Ints]


@final
@dataclass(frozen=True, eq=False)
class Kept:
    """`keep[source]` is True for units that stay; sources that are not named stay whole."""

    graph: Graph
    keep: Mapping[Source, Mask]
    _axes: dict[ir.Value, Axes] = field(default_factory=dict)

    def axes(self, value: ir.Value | None) -> Axes:
        """Kept indices by tensor axis, for the axes of a value that lose any."""
        if value is None:
            return {}
        if value not in self._axes:
            self._axes[value] = self._of(self.graph.maps.get(value))
        return self._axes[value]

    def _of(self, channels: Channels | None) -> Axes:
        if not isinstance(channels, ChannelMap):
            return {}
        left = self.grid(channels)
        found: dict[int, Ints] = {}
        for place, axis in enumerate(channels.axes):
            others = tuple(i for i in range(left.ndim) if i != place)
            stays = left.any(axis=others)
            if not stays.all():
                found[axis] = np.flatnonzero(stays)
        return found

    def grid(self, channels: ChannelMap) -> Mask:
        """True where an index of the map stays: where any of its terms' units does."""
        left = np.zeros(channels.sizes, dtype=bool)
        empty = np.ones(channels.sizes, dtype=bool)
        for term in channels.terms:
            keep = self.keep.get(term.source)
            here = term.units >= 0
            empty &= ~here
            left |= here if keep is None else here & keep[term.units]
        return left | empty

    def inputs(self, use: LayerUse) -> Mask:
        """Which inputs of a layer use stay, shape (groups, inputs / group)."""
        if not isinstance(use.incoming, ChannelMap):
            return np.ones(use.inputs.shape, dtype=bool)
        flat: Mask = self.grid(use.incoming).reshape(-1)[use.inputs]
        return flat

    def outputs(self, use: LayerUse) -> Mask:
        """Which outputs of a layer use stay, shape (groups, outputs / group)."""
        keep = None if use.source is None else self.keep.get(use.source)
        if keep is None:
            return np.ones(use.outputs.shape, dtype=bool)
        found: Mask = keep[use.outputs]
        return found

    def weights(self, use: LayerUse) -> Mask:
        """What stays of the weight of a use, in the operator's layout: kept outputs by kept inputs."""
        keep = self.outputs(use)[:, :, None] & self.inputs(use)[:, None, :]
        shape = use.view.seen_shape()
        return np.broadcast_to(keep.reshape(*keep.shape, *(1,) * (len(shape) - 3)), shape)
