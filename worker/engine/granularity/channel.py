"""Whole channels, coupled over the layers that share them."""

from typing import ClassVar, final

from worker.engine.errors import NothingPrunableError
from worker.engine.granularity.base import Block
from worker.engine.granularity.coupled import ChannelBlock, Coupled
from worker.engine.graph.analysis import Graph
from worker.engine.graph.groups import couple


@final
class Channel(Coupled):
    """Output channels (filters, hidden features) go as a whole, with every weight that makes or reads them
    and every per-channel parameter on the way. Channels that meet (a residual add) go together; norms then
    take their statistics over the channels that stay. The file really gets smaller: this is what makes dense
    kernels faster. A target in `sparsity` is the share of channels removed from every group."""

    name: ClassVar[str] = "channel"

    def blocks(self, graph: Graph) -> tuple[Block, ...]:
        coupling = couple(graph)
        if not coupling.groups:
            reasons = "; ".join(f"{name}: {why}" for name, why in list(coupling.frozen.items())[:3])
            raise NothingPrunableError(f"no channel can be removed from the model ({reasons})")
        return tuple(ChannelBlock(group.name, group.layers, group) for group in coupling.groups)
