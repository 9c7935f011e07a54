"""When it goes: at once, or in steps."""

import abc
from collections.abc import Iterator
from typing import ClassVar

from worker.engine.registry import Part
from worker.engine.types import Goal

#: Where every path starts.
NOTHING = Goal(0.0)


class Schedule(Part, abc.ABC):
    """Abstract axis `schedule`."""

    axis: ClassVar[str] = "schedule"

    @abc.abstractmethod
    def steps(self, goal: Goal) -> Iterator[Goal]:
        """The goals of the steps, cumulative; the last is `goal` itself."""

    def cuts(self, goal: Goal, before: Goal = NOTHING) -> Iterator[Goal]:
        """The goals of the cuts that make the step from `before` to `goal`, cumulative; the last is `goal`.

        Between cuts scores are computed anew on what is left, and nothing else happens.
        """
        yield goal
