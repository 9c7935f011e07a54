"""When it goes: at once, or in steps."""

import abc
from collections.abc import Iterator
from typing import ClassVar

from worker.engine.registry import Part
from worker.engine.types import Goal


class Schedule(Part, abc.ABC):
    """Abstract axis `schedule`."""

    axis: ClassVar[str] = "schedule"

    @abc.abstractmethod
    def steps(self, goal: Goal) -> Iterator[Goal]:
        """The goals of the steps, cumulative; the last is `goal` itself."""
