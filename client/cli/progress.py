"""Progress on standard error: a bar on a terminal, lines elsewhere, nothing when quiet."""

import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self, final

from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

from api_schemas.events import Event, EventType
from client.cli import screen

_READINGS_SECONDS: Final = 10.0


class Reporter(ABC):
    """Is told what goes on."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @abstractmethod
    def close(self) -> None:
        """Leave the screen as it should stay."""

    @abstractmethod
    def step(self, name: str) -> None:
        """Something new has begun."""

    @abstractmethod
    def bytes_moved(self, done: int, total: int | None) -> None:
        """A transfer has come this far."""

    @abstractmethod
    def counted(self, done: int, total: int | None, unit: str) -> None:
        """The present step has come this far."""

    @abstractmethod
    def measured(self, name: str, value: float, step: int | None) -> None:
        """A reading of the present step, such as a loss."""

    @abstractmethod
    def say(self, text: str) -> None:
        """A line that stays."""

    def event(self, job_id: str, event: Event) -> None:
        """One event of a job."""
        data = event.data
        if event.type is EventType.STAGE:
            self.step(str(data.get("stage", "")))
        elif event.type is EventType.STATUS:
            self.step(str(data.get("status", "")))
        elif event.type is EventType.PROGRESS:
            total = data.get("total")
            self.counted(int(data.get("done", 0)), int(total) if total else None, str(data.get("unit") or ""))
        elif event.type is EventType.METRIC:
            step = data.get("step")
            self.measured(
                str(data.get("name", "")), float(data.get("value", 0)), None if step is None else int(step)
            )
        elif event.type is EventType.WARNING:
            self.say(f"warning: {data.get('message', '')}")
        elif event.type is EventType.CHECKPOINT and data.get("action") == "resumed":
            self.say("resumed from a checkpoint")


@final
class Quiet(Reporter):
    """Says nothing."""

    def close(self) -> None: ...

    def step(self, name: str) -> None: ...

    def bytes_moved(self, done: int, total: int | None) -> None: ...

    def counted(self, done: int, total: int | None, unit: str) -> None: ...

    def measured(self, name: str, value: float, step: int | None) -> None: ...

    def say(self, text: str) -> None: ...


@final
class Readings:
    """The last reading of each name, and the step that it is of."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[float, int | None]] = {}

    def take(self, name: str, value: float, step: int | None) -> None:
        """One more."""
        self._found[name] = value, step

    def clear(self) -> None:
        """Forget them."""
        self._found.clear()

    def __str__(self) -> str:
        return ", ".join(f"{name} {value:.4g}" for name, (value, _) in self._found.items())

    def line(self) -> str:
        """With the steps: not everything is read at every one."""
        at: dict[int | None, list[str]] = {}
        for name, (value, step) in self._found.items():
            at.setdefault(step, []).append(f"{name} {value:.4g}")
        texts = {step: ", ".join(read) for step, read in at.items()}
        return "; ".join(text if step is None else f"step {step}: {text}" for step, text in texts.items())


@final
class Lines(Reporter):
    """A line whenever a step begins, and one with the last readings now and then: for logs."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._last = ""
        self._clock = clock
        self._readings = Readings()
        self._fresh = False  # something was read since they were shown
        self._read = clock()

    def close(self) -> None:
        self._show_readings()

    def step(self, name: str) -> None:
        self._show_readings()
        self._readings.clear()
        if name != self._last:
            screen.note(name)
        self._last = name
        self._read = self._clock()

    def measured(self, name: str, value: float, step: int | None) -> None:
        self._readings.take(name, value, step)
        self._fresh = True
        if self._clock() - self._read >= _READINGS_SECONDS:
            self._show_readings()

    def _show_readings(self) -> None:
        if self._fresh:
            screen.note(f"  {self._readings.line()}")
        self._fresh = False
        self._read = self._clock()

    def bytes_moved(self, done: int, total: int | None) -> None: ...

    def counted(self, done: int, total: int | None, unit: str) -> None: ...

    def say(self, text: str) -> None:
        screen.note(text)


@final
class _Elapsed(ProgressColumn):
    """Minutes and seconds since the command began, over all its steps."""

    def __init__(self) -> None:
        super().__init__()
        self._began = time.monotonic()

    def render(self, task: Task) -> Text:
        """The column; the same for every task."""
        minutes, seconds = divmod(int(time.monotonic() - self._began), 60)
        return Text(f"{minutes}:{seconds:02}", style="progress.elapsed")


@final
class Bar(Reporter):
    """One moving line on a terminal."""

    def __init__(self) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[figures]}"),
            _Elapsed(),
            console=screen.errors_console(),
            transient=True,
        )
        self._task = self._progress.add_task("connecting", total=None, figures="")
        self._readings = Readings()
        self._counted = ""
        self._progress.start()

    def close(self) -> None:
        self._progress.stop()

    def step(self, name: str) -> None:
        # A task keeps a total once it has one; only a fresh task can pulse again.
        self._readings.clear()
        self._counted = ""
        self._progress.remove_task(self._task)
        self._task = self._progress.add_task(screen.clean(name), total=None, figures="")

    def bytes_moved(self, done: int, total: int | None) -> None:
        of = f" of {megabytes(total)}" if total else ""
        self._progress.update(self._task, completed=done, total=total, figures=f"{megabytes(done)}{of}")

    def counted(self, done: int, total: int | None, unit: str) -> None:
        self._counted = screen.clean(f"{done}{f'/{total}' if total else ''} {unit}".rstrip())
        self._progress.update(self._task, completed=done, total=total, figures=self._figures())

    def measured(self, name: str, value: float, step: int | None) -> None:
        self._readings.take(name, value, step)
        self._progress.update(self._task, figures=self._figures())

    def _figures(self) -> str:
        return screen.clean("  ".join(filter(None, (self._counted, str(self._readings)))))

    def say(self, text: str) -> None:
        self._progress.console.print(screen.clean(text), markup=False)


def megabytes(count: int) -> str:
    """Bytes for people."""
    return f"{count / 1e6:.1f} MB" if count >= 100_000 else f"{count / 1e3:.1f} kB"


def reporter(*, quiet: bool) -> Reporter:
    """The one that fits where standard error goes."""
    if quiet:
        return Quiet()
    return Bar() if sys.stderr.isatty() and screen.errors_console().is_terminal else Lines()
