"""The warm child: one process with the libraries imported waits for the next order, and is used once."""

from typing import final

from worker.errors import ChildStartError, SandboxUnavailableError
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
        self._spare = self._living_spare() or ChildProcess(self._launch)

    def take(self) -> ChildProcess:
        """A child that is ready for its order; the caller closes it.

        Raises `SandboxUnavailableError` when the child cannot be confined as asked, `ChildStartError`.
        """
        child = self._living_spare() or ChildProcess(self._launch)
        self._spare = None
        word = child.wait_ready(self._start_seconds)
        if word is not None and word.ready is not None:
            return child
        tail = child.log_tail[-2000:]
        child.close()
        if word is not None:
            raise SandboxUnavailableError(word.refused)
        raise ChildStartError(f"the child process did not start: {tail}")

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
