"""What heals a pruned network."""

import abc
from typing import ClassVar

from worker.engine.context import Context
from worker.engine.formats.base import Network
from worker.engine.graph.analysis import Graph
from worker.engine.registry import Part
from worker.engine.types import Plan


class Recovery(Part, abc.ABC):
    """Abstract axis `recovery`."""

    axis: ClassVar[str] = "recovery"

    @abc.abstractmethod
    def heal(self, network: Network, plan: Plan, graph: Graph, context: Context) -> None:
        """Change what the plan keeps so that the network does better."""
