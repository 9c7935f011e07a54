"""Rescored."""

from collections.abc import Iterator
from typing import ClassVar, final

from pydantic import Field

from worker.engine.schedule.base import NOTHING, Schedule
from worker.engine.schedule.path import rescored
from worker.engine.types import Goal


@final
class Rescored(Schedule):
    """Many small cuts with new scores after each, computed on what is left: no data, no training between.
    The share kept falls by the same factor every time. Matters at high sparsity, where scores of the whole
    network say little about the few weights that stay."""

    name: ClassVar[str] = "rescored"

    # Called `steps` in recipes; as an attribute that name is the schedule's method.
    steps_: int = Field(default=50, ge=1, le=1000, alias="steps")
    """Number of cuts."""

    def steps(self, goal: Goal) -> Iterator[Goal]:
        yield goal

    def cuts(self, goal: Goal, before: Goal = NOTHING) -> Iterator[Goal]:
        yield from rescored(before, goal, self.steps_)
