"""How a plan becomes weights."""

import abc
from pathlib import Path
from typing import ClassVar

from worker.engine.formats.base import Network
from worker.engine.graph.analysis import Graph
from worker.engine.registry import Part
from worker.engine.types import Plan


class Apply(Part, abc.ABC):
    """Abstract axis `apply`."""

    axis: ClassVar[str] = "apply"

    #: True when the file gets smaller: its weights then have other shapes than the plan's masks.
    shrinks: ClassVar[bool] = False

    @abc.abstractmethod
    def apply(self, plan: Plan, graph: Graph, network: Network, scratch: Path) -> Network:
        """The network as the plan wants it: the same one, written to, or another one (files in `scratch`)."""
