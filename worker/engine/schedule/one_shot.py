"""One shot."""

from collections.abc import Iterator
from typing import ClassVar, final

from worker.engine.schedule.base import Schedule
from worker.engine.types import Goal


@final
class OneShot(Schedule):
    """All at once: score, cut, done."""

    name: ClassVar[str] = "one_shot"

    def steps(self, goal: Goal) -> Iterator[Goal]:
        yield goal
