"""Smaller tensors."""

import tempfile
from pathlib import Path
from typing import ClassVar, final

from api_schemas.catalogue import Requirements
from worker.engine.apply.base import Apply
from worker.engine.formats.base import Network
from worker.engine.granularity.coupled import kept_channels
from worker.engine.graph.analysis import Graph
from worker.engine.graph.surgery import operate
from worker.engine.types import Plan


@final
class Shrink(Apply):
    """Pruned channels and attention heads leave the file: weights, biases, norms, group counts and shape
    constants get smaller, inputs and outputs stay. The result is compared, in the runtime, with the full
    model whose same channels are zero."""

    name: ClassVar[str] = "shrink"
    shrinks: ClassVar[bool] = True

    @classmethod
    def requires(cls) -> Requirements:
        return Requirements(granularities=["channel", "head"])

    def apply(self, plan: Plan, graph: Graph, network: Network, scratch: Path) -> Network:
        edits = operate(graph, network, kept_channels(graph, plan))
        return network.rewritten(edits, Path(tempfile.mkdtemp(prefix="shrunk-", dir=scratch)))
