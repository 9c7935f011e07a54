"""How a plan becomes weights."""

import abc
from typing import ClassVar

from worker.engine.formats.base import Network
from worker.engine.graph.build import Graph
from worker.engine.registry import Part
from worker.engine.types import Plan


class Apply(Part, abc.ABC):
    """Abstract axis `apply`."""

    axis: ClassVar[str] = "apply"

    @abc.abstractmethod
    def apply(self, plan: Plan, graph: Graph, network: Network) -> None:
        """Write the plan into the network."""
