"""What a unit of pruning is: blocks of units that are ranked together, and the weights that they hold."""

import abc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, final

from worker.engine.formats.base import Network
from worker.engine.granularity.selection import largest
from worker.engine.graph.analysis import Graph
from worker.engine.graph.layer import Layer
from worker.engine.graph.permutation import Order
from worker.engine.registry import Part
from worker.engine.types import BlockPlan, LayerPlan, Mask, Plan, Scores

#: Scores of one layer's weights, layout (groups, outputs, inputs, *taps).
ScoreLayer = Callable[[Layer], Scores]


@final
@dataclass(frozen=True)
class Gain:
    """The share of a layer's score that its pattern keeps, in the old order of channels and in the new."""

    before: float
    after: float


@final
@dataclass(frozen=True)
class Arrangement:
    """Orders to be carried out one after another, and by layer name what they gain."""

    orders: tuple[Order, ...] = ()
    gains: Mapping[str, Gain] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Block:
    """Units that are ranked together: one layer's, or those of a group of coupled channels over several."""

    name: str
    layers: tuple[Layer, ...]


class Granularity(Part, abc.ABC):
    """Abstract axis `granularity`."""

    axis: ClassVar[str] = "granularity"

    #: True when attention heads are not to be cut within: the analysis then keeps each whole.
    whole_heads: ClassVar[bool] = False

    #: True when weights go one by one.
    single_weights: ClassVar[bool] = False

    @property
    def pattern(self) -> tuple[int, int] | None:
        """(n, m) where n of every m weights along the inputs stay."""
        return None

    @property
    def sparsity(self) -> float | None:
        """The share of every layer that goes by the kind of unit alone; None where the recipe says."""
        return None

    def fitted(self, layer: Layer) -> Layer:
        """The layer with a reason where it cannot be cut into these units, or with notes on its use."""
        return layer

    @property
    def reorders(self) -> bool:
        """True when `arranged` is to be asked."""
        return False

    def arranged(self, graph: Graph, network: Network, score: ScoreLayer, seed: int) -> Arrangement:
        """How channels are to be ordered before any weight is chosen; the network stays as it is."""
        return Arrangement()

    @abc.abstractmethod
    def blocks(self, graph: Graph) -> tuple[Block, ...]:
        """Every block that the graph offers. Raises NothingPrunableError when there is none."""

    @abc.abstractmethod
    def pool(self, block: Block, score: ScoreLayer) -> Scores:
        """One score per unit of the block, in any shape that `plan` understands."""

    @abc.abstractmethod
    def plan(self, graph: Graph, blocks: Sequence[Block], plans: Mapping[str, BlockPlan]) -> Plan:
        """What every layer keeps, given the kept units of every block (by block name)."""

    def choose(self, block: Block, scores: Scores, count: int) -> tuple[Mask, float | None]:
        """The `count` units to keep and the smallest kept score: the best, unless the units are bound."""
        return largest(scores, count)


class PerLayer(Granularity, abc.ABC):
    """Granularities whose units lie inside one layer: one block per layer."""

    def blocks(self, graph: Graph) -> tuple[Block, ...]:
        return tuple(Block(layer.name, (layer,)) for layer in graph.layers)

    @abc.abstractmethod
    def spread(self, units: Mask, layer: Layer) -> Mask:
        """The weights that kept units hold, layout (groups, outputs, inputs, *taps)."""

    def plan(self, graph: Graph, blocks: Sequence[Block], plans: Mapping[str, BlockPlan]) -> Plan:
        return Plan(tuple(self._layer_plan(block.layers[0], plans[block.name]) for block in blocks))

    def _layer_plan(self, layer: Layer, plan: BlockPlan) -> LayerPlan:
        keep = self.spread(plan.units, layer)
        return LayerPlan(layer.name, keep, plan.requested, plan.threshold, plan.scores)
