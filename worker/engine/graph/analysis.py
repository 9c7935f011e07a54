"""The result of analysing a network: layers, channel maps, and what binds channels to each other."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import onnx_ir as ir

from worker.engine.graph.channels import ChannelMap, Channels
from worker.engine.graph.layer import Consumer, Frozen, Layer, Summed, Tie
from worker.engine.graph.shapes import Shapes


@dataclass(frozen=True, eq=False)
class Graph:
    """The one analysis. `layers` may be pruned; `refused` are layers that may not, each with its reason.

    `heads` are maps of attention scores over heads, found when the analysis was asked to keep heads whole.
    """

    layers: tuple[Layer, ...]
    refused: tuple[Layer, ...]
    consumers: tuple[Consumer, ...]
    boundaries: dict[str, str]
    maps: Mapping[ir.Value, Channels] = field(default_factory=dict)
    frozen: tuple[Frozen, ...] = ()
    ties: tuple[Tie, ...] = ()
    summed: tuple[Summed, ...] = ()
    heads: tuple[ChannelMap, ...] = ()
    shapes: Shapes = field(default_factory=lambda: Shapes({}))

    def layer(self, name: str) -> Layer:
        """The layer of that name; raises KeyError."""
        return next(layer for layer in self.layers if layer.name == name)
