"""When a running child has to be stopped, whoever asks for it: the user, the operator, a limit, the lease."""

import contextlib
import os
import threading
from collections.abc import Sequence
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


def allowance(settings: WorkerSettings, processes: int = 1) -> Allowance:
    """As the settings say, memory for each of the job's processes. On disk there may be the output twice
    over: being written and written. Of checkpoints there may be one more, unpacked.
    """
    disk_bytes = 2 * settings.max_output_bytes + 3 * settings.max_checkpoint_bytes
    memory_bytes = settings.memory_bytes // processes
    return Allowance(settings.job_seconds, settings.stage_seconds, memory_bytes, disk_bytes)


@final
class Room:
    """What one child takes of memory and disk, beside what it had when this was made."""

    def __init__(self, pid: int, directory: JobDirectory, allowed: Allowance) -> None:
        self._pid, self._directory, self._allowed = pid, directory, allowed
        self._resident, self._disk = resident_bytes(pid), directory.bytes_used()

    def exceeded(self) -> StopReason | None:
        """Which of the two there is too little of. Memory is looked at here too, because address space is not
        limited where CUDA is used."""
        if resident_bytes(self._pid) - self._resident > self._allowed.memory_bytes:
            return StopReason.MEMORY
        if self._directory.bytes_used() - self._disk > self._allowed.disk_bytes:
            return StopReason.DISK
        return None


@final
class Watch:
    """Looks after the running children of a job; `reason` is asked several times a second.

    Silence is the leader's: it waits for a child that does not get on, and so falls silent itself.
    """

    def __init__(
        self, rooms: Sequence[Room], allowed: Allowance, lease: Lease, shutdown: threading.Event
    ) -> None:
        self._rooms, self._allowed = rooms, allowed
        self._lease, self._shutdown = lease, shutdown
        self._started = self._heard = self._looked = now()

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
        if now() - self._looked < _LOOK_SECONDS:
            return None
        self._looked = now()
        return next((reason for room in self._rooms if (reason := room.exceeded())), None)


def resident_bytes(pid: int) -> int:
    """Resident memory of a process; 0 when it is gone."""
    with contextlib.suppress(OSError, IndexError, ValueError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0
