"""What runs beside the work: progress out, cancellation and limits in, time per stage, warnings, seed."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import final

from api_schemas.events import ChildEvent, EventType
from api_schemas.jobs import Stage
from api_schemas.report import RecoveryReport, StageTime
from worker.engine.checkpoint import Checkpoints
from worker.engine.pacing import Pace

Emit = Callable[[ChildEvent], None]


def silent(_event: ChildEvent) -> None:
    """An `emit` that drops every event."""


def quietly(context: "Context") -> "Context":
    """The same surroundings for something that is tried out: no event, time, warning, checkpoint."""
    return replace(context, emit=silent, warnings=[], times=[], healed=[], checkpoints=Checkpoints())


@final
@dataclass
class Context:
    """One job's surroundings. `scratch` is a private folder for files that may be thrown away.

    `checkpoints` keeps long work from one attempt to the next; by default nothing is kept.
    """

    scratch: Path
    emit: Emit = silent
    seed: int = 0
    device: str = "cpu"
    threads: int = 1
    sandbox: str = "off"
    job_id: str = "local"
    warnings: list[str] = field(default_factory=list)
    times: list[StageTime] = field(default_factory=list)
    healed: list[RecoveryReport] = field(default_factory=list)
    checkpoints: Checkpoints = field(default_factory=Checkpoints)
    _pace: Pace = field(default_factory=Pace, init=False, repr=False)
    _held: dict[str, ChildEvent] = field(default_factory=dict, init=False, repr=False)

    @contextmanager
    def stage(self, stage: Stage) -> Iterator[None]:
        """Tell that a stage has begun, and keep how long it took. Its checkpoints are its own."""
        self.emit(ChildEvent(type=EventType.STAGE, data={"stage": stage.value}))
        begun = time.perf_counter()
        try:
            with self.checkpoints.scope(stage.value):
                yield
        finally:
            self._release()
            self.times.append(StageTime(stage=stage.value, seconds=time.perf_counter() - begun))

    def progress(self, done: int, total: int, unit: str) -> None:
        """Steps of the present stage. May be called at every step: telling is paced, and the last is told."""
        data = {"done": done, "total": total, "unit": unit}
        self._paced("", ChildEvent(type=EventType.PROGRESS, data=data))

    def metric(self, name: str, value: float, step: int) -> None:
        """A reading of a curve such as the loss, after `step` steps. Paced like progress."""
        data = {"name": name, "value": float(value), "step": step}
        self._paced(name, ChildEvent(type=EventType.METRIC, data=data))

    def metric_due(self, name: str) -> bool:
        """True when `metric` would tell the next reading at once: asks before a device is waited for."""
        return self._pace.due(name)

    def warn(self, message: str) -> None:
        """Something the user should read, in the events and on top of the report; said once."""
        if message not in self.warnings:
            self.warnings.append(message)
            self.emit(ChildEvent(type=EventType.WARNING, data={"message": message}))

    def _paced(self, name: str, event: ChildEvent) -> None:
        """Tell the event if it is time, else hold it until a later one takes its place or the stage ends."""
        if not self._pace.due(name):
            self._held[name] = event
            return
        self._held.pop(name, None)
        self._pace.told(name)
        self.emit(event)

    def _release(self) -> None:
        """Tell the last readings, which the pace has held back."""
        held, self._held = self._held, {}
        for name, event in held.items():
            if self._pace.open:
                self._pace.told(name)
                self.emit(event)
