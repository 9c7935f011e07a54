"""The warm child: one process with the libraries imported waits for the next order, and is used once.

Where a job may have several processes the others start when the job does: most jobs need none.
"""

from typing import final

from worker.crew import Crew
from worker.errors import ChildStartError, SandboxUnavailableError, WorkerError
from worker.exchange import Exchange
from worker.process import ChildProcess, Launch

START_SECONDS = 120.0


@final
class Nursery:
    """Keeps one spare child. Not for several threads at once."""

    def __init__(self, launch: Launch, start_seconds: float = START_SECONDS) -> None:
        self._launch = launch
        self._start_seconds = start_seconds
        self._spare: ChildProcess | None = None

    def prepare(self) -> None:
        """Start a spare, if there is none that lives. Returns at once; it imports in the background."""
        self._spare = self._living_spare() or self._leader()

    def take(self, *, several: bool = False) -> Crew:
        """A child that is ready for its order, or with `several` as many as a job may have; to be closed.

        Raises `SandboxUnavailableError` when one cannot be confined as asked, `ChildStartError`.
        """
        leader = self._living_spare() or self._leader()
        self._spare = None
        crew = Crew(leader)
        try:
            for rank in range(1, self._launch.processes) if several else ():
                crew.enlist(ChildProcess(self._launch, leader.exchange, rank))
            for member in crew.members:
                self._await(member)
        except (WorkerError, OSError):
            crew.close()
            raise
        return crew

    def _leader(self) -> ChildProcess:
        """The first of a crew; it is given its place among the others before anybody knows of any."""
        several = self._launch.processes > 1
        return ChildProcess(self._launch, Exchange(self._launch.processes) if several else None)

    def _await(self, child: ChildProcess) -> None:
        word = child.wait_ready(self._start_seconds)
        if word is None:
            raise ChildStartError(f"the child process did not start: {child.log_tail[-2000:]}")
        if word.ready is None:
            raise SandboxUnavailableError(word.refused)

    def hush(self) -> None:
        """Stop a spare that is still importing, so that it does not disturb a measurement."""
        if self._spare is not None and not self._is_ready(self._spare):
            self._spare.pause()

    def resume(self) -> None:
        """Let the spare go on."""
        if self._spare is not None:
            self._spare.unpause()

    def close(self) -> None:
        """End the spare."""
        self._discard()

    def _living_spare(self) -> ChildProcess | None:
        if self._spare is not None and self._spare.returncode is not None:
            self._discard()
        return self._spare

    def _discard(self) -> None:
        if self._spare is not None:
            self._spare.close()
            self._spare = None

    @staticmethod
    def _is_ready(child: ChildProcess) -> bool:
        return child.wait_ready(0.001) is not None
