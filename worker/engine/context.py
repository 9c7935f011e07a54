"""What runs beside the work: progress out, cancellation and limits in, time per stage, warnings, seed."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import final

from api_schemas.events import ChildEvent, EventType
from api_schemas.jobs import Stage
from api_schemas.report import StageTime

Emit = Callable[[ChildEvent], None]


def silent(_event: ChildEvent) -> None:
    """An `emit` that drops every event."""


@final
@dataclass
class Context:
    """One job's surroundings. `scratch` is a private folder for files that may be thrown away."""

    scratch: Path
    emit: Emit = silent
    seed: int = 0
    device: str = "cpu"
    threads: int = 1
    sandbox: str = "off"
    job_id: str = "local"
    warnings: list[str] = field(default_factory=list)
    times: list[StageTime] = field(default_factory=list)

    @contextmanager
    def stage(self, stage: Stage) -> Iterator[None]:
        """Tell that a stage has begun, and keep how long it took."""
        self.emit(ChildEvent(type=EventType.STAGE, data={"stage": stage.value}))
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.times.append(StageTime(stage=stage.value, seconds=time.perf_counter() - begun))

    def progress(self, done: int, total: int, unit: str) -> None:
        """Steps of the present stage."""
        self.emit(ChildEvent(type=EventType.PROGRESS, data={"done": done, "total": total, "unit": unit}))

    def warn(self, message: str) -> None:
        """Something the user should read, in the events and on top of the report; said once."""
        if message not in self.warnings:
            self.warnings.append(message)
            self.emit(ChildEvent(type=EventType.WARNING, data={"message": message}))
