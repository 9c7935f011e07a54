"""Cubic."""

from collections.abc import Iterator
from functools import partial
from operator import mul
from typing import ClassVar, final

from pydantic import Field

from worker.engine.schedule.base import NOTHING, Schedule
from worker.engine.schedule.path import along, rescored
from worker.engine.types import Goal


@final
class Cubic(Schedule):
    """Rounds of cutting and healing that remove much at first and little at the end: after the share t of the
    rounds the sparsity is s · (1 − (1 − t)³). Steps of training are those of one round."""

    name: ClassVar[str] = "cubic"
    source: ClassVar[str | None] = "Zhu, Gupta, 2017, arXiv 1710.01878, eq. 1"

    rounds: int = Field(default=8, ge=1, le=100)
    """Number of rounds."""
    cuts_: int = Field(default=1, ge=1, le=1000, alias="cuts")
    """Cut so many times within a round, scores computed anew each time."""

    def steps(self, goal: Goal) -> Iterator[Goal]:
        for step in range(1, self.rounds):
            done = 1.0 - (1.0 - step / self.rounds) ** 3
            yield along(goal, partial(mul, done))
        yield goal

    def cuts(self, goal: Goal, before: Goal = NOTHING) -> Iterator[Goal]:
        yield from rescored(before, goal, self.cuts_)
