"""When a running child has to be stopped, whoever asks for it: the user, the operator, a limit, the lease."""

import contextlib
import os
import threading
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final, final

from worker.jobdir import JobDirectory
from worker.lease import Lease, now
from worker.settings import WorkerSettings

_LOOK_SECONDS: Final = 0.25


class StopReason(StrEnum):
    """Why the supervisor stopped its child."""

    CANCELLED = "cancelled"
    SHUTDOWN = "shutdown"
    LEASE = "lease"
    JOB_TIME = "job_time"
    SILENCE = "silence"
    MEMORY = "memory"
    DISK = "disk"
    PROTOCOL = "protocol"


@dataclass(frozen=True)
class Allowance:
    """What one job may use."""

    job_seconds: float
    stage_seconds: float
    memory_bytes: int
    disk_bytes: int


def allowance(settings: WorkerSettings) -> Allowance:
    """As the settings say. On disk there may be the output twice over: being written and written.

    Of checkpoints there may be one more, unpacked.
    """
    disk_bytes = 2 * settings.max_output_bytes + 3 * settings.max_checkpoint_bytes
    return Allowance(settings.job_seconds, settings.stage_seconds, settings.memory_bytes, disk_bytes)


@final
class Watch:
    """Looks after one running child; `reason` is asked several times a second."""

    def __init__(
        self, pid: int, directory: JobDirectory, allowed: Allowance, lease: Lease, shutdown: threading.Event
    ) -> None:
        self._pid, self._directory, self._allowed = pid, directory, allowed
        self._lease, self._shutdown = lease, shutdown
        self._started = self._heard = self._looked = now()
        self._resident = resident_bytes(pid)
        self._disk = directory.bytes_used()

    def progressed(self) -> None:
        """The child has said something."""
        self._heard = now()

    def reason(self) -> StopReason | None:
        """Why the child has to stop now, or None."""
        if self._lease.expired:
            return StopReason.LEASE
        if self._shutdown.is_set():
            return StopReason.SHUTDOWN
        if self._lease.cancel_requested:
            return StopReason.CANCELLED
        return self._out_of_time() or self._out_of_room()

    def _out_of_time(self) -> StopReason | None:
        if now() - self._started > self._allowed.job_seconds:
            return StopReason.JOB_TIME
        return StopReason.SILENCE if now() - self._heard > self._allowed.stage_seconds else None

    def _out_of_room(self) -> StopReason | None:
        """Memory is looked at here too, because address space is not limited where CUDA is used."""
        if now() - self._looked < _LOOK_SECONDS:
            return None
        self._looked = now()
        if resident_bytes(self._pid) - self._resident > self._allowed.memory_bytes:
            return StopReason.MEMORY
        if self._directory.bytes_used() - self._disk > self._allowed.disk_bytes:
            return StopReason.DISK
        return None


def resident_bytes(pid: int) -> int:
    """Resident memory of a process; 0 when it is gone."""
    with contextlib.suppress(OSError, IndexError, ValueError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0
