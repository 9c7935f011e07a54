"""Rescored."""

from collections.abc import Iterator
from typing import ClassVar, final

from pydantic import Field

from worker.engine.schedule.base import Schedule
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

    def cuts(self, goal: Goal) -> Iterator[Goal]:
        for step in range(1, self.steps_):
            done = step / self.steps_
            overrides = {name: _partly(share, done) for name, share in goal.overrides.items()}
            yield Goal(_partly(goal.sparsity, done), overrides)
        yield goal


def _partly(share: float, done: float) -> float:
    """1 − (1 − s)^done. What is to go entirely goes in the last cut: no path of this kind leads to zero."""
    return 0.0 if share == 1.0 else 1.0 - (1.0 - share) ** done
