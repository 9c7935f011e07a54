"""Progress on standard error: a bar on a terminal, a line per stage elsewhere, nothing when quiet."""

import sys
import time
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self, final

from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

from api_schemas.events import Event, EventType
from client.cli import screen


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
        elif event.type is EventType.WARNING:
            self.say(f"warning: {data.get('message', '')}")


@final
class Quiet(Reporter):
    """Says nothing."""

    def close(self) -> None: ...

    def step(self, name: str) -> None: ...

    def bytes_moved(self, done: int, total: int | None) -> None: ...

    def counted(self, done: int, total: int | None, unit: str) -> None: ...

    def say(self, text: str) -> None: ...


@final
class Lines(Reporter):
    """A line whenever a step begins: for logs."""

    def __init__(self) -> None:
        self._last = ""

    def close(self) -> None: ...

    def step(self, name: str) -> None:
        if name != self._last:
            screen.note(name)
        self._last = name

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
        self._progress.start()

    def close(self) -> None:
        self._progress.stop()

    def step(self, name: str) -> None:
        # A task keeps a total once it has one; only a fresh task can pulse again.
        self._progress.remove_task(self._task)
        self._task = self._progress.add_task(screen.clean(name), total=None, figures="")

    def bytes_moved(self, done: int, total: int | None) -> None:
        of = f" of {megabytes(total)}" if total else ""
        self._progress.update(self._task, completed=done, total=total, figures=f"{megabytes(done)}{of}")

    def counted(self, done: int, total: int | None, unit: str) -> None:
        figures = screen.clean(f"{done}{f'/{total}' if total else ''} {unit}".rstrip())
        self._progress.update(self._task, completed=done, total=total, figures=figures)

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
