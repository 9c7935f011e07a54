"""Iterative."""

import math
from collections.abc import Iterator
from functools import partial
from typing import ClassVar, Self, final

from pydantic import Field, model_validator

from worker.engine.schedule.base import NOTHING, Schedule
from worker.engine.schedule.path import along, exponential, rescored
from worker.engine.types import Goal


@final
class Iterative(Schedule):
    """Rounds of cutting and healing. Every round removes the same share of what is left, as published, so
    that the share kept falls by equal factors; the recovery heals after each. Steps of training are those of
    one round."""

    name: ClassVar[str] = "iterative"
    source: ClassVar[str | None] = "Han et al., NeurIPS 2015, arXiv 1506.02626"

    rounds: int | None = Field(default=None, ge=1, le=100)
    """Number of rounds; 8 where neither this nor `ratio` is given."""
    ratio: float | None = Field(default=None, gt=0, lt=1)
    """Instead of `rounds`: the share of what is left that a round removes at most."""
    cuts_: int = Field(default=1, ge=1, le=1000, alias="cuts")
    """Cut so many times within a round, scores computed anew each time."""

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if self.rounds is not None and self.ratio is not None:
            raise ValueError("give `rounds` or `ratio`, not both")
        return self

    def steps(self, goal: Goal) -> Iterator[Goal]:
        rounds = self._rounds(goal)
        for step in range(1, rounds):
            yield along(goal, partial(exponential, way=step / rounds))
        yield goal

    def cuts(self, goal: Goal, before: Goal = NOTHING) -> Iterator[Goal]:
        yield from rescored(before, goal, self.cuts_)

    def _rounds(self, goal: Goal) -> int:
        if self.ratio is None:
            return self.rounds or 8
        most = max((share for share in (goal.sparsity, *goal.overrides.values()) if share < 1.0), default=0.0)
        return max(1, math.ceil(math.log1p(-most) / math.log1p(-self.ratio) - 1e-9))
