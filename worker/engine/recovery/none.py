"""No recovery."""

from typing import ClassVar, final

from worker.engine.context import Context
from worker.engine.formats.base import Network
from worker.engine.graph.analysis import Graph
from worker.engine.recovery.base import Recovery
from worker.engine.types import Plan


@final
class NoRecovery(Recovery):
    """Nothing: the kept weights stay bit for bit what they were."""

    name: ClassVar[str] = "none"

    def heal(self, network: Network, plan: Plan, graph: Graph, context: Context) -> None:
        return None
