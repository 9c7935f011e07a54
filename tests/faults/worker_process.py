"""Worker processes for tests: real ones, which can be killed, paused and asked to stop."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.worker.workplace import Workplace

_SCRIPT = Path(__file__).with_name("scripted_worker.py")


@dataclass(frozen=True)
class WorkerProcess:
    """A running worker and its log."""

    process: subprocess.Popen[bytes]
    log_path: Path

    def log(self) -> list[dict[str, Any]]:
        """What it has logged, one mapping per line; lines that are not ours come as ``{"raw": …}``."""
        return [_parsed(line) for line in self.log_path.read_text(errors="replace").splitlines()]

    def logged(self, event: str) -> bool:
        """Whether it has said so."""
        return any(line.get("event") == event for line in self.log())

    def wait_logged(self, event: str, seconds: float = 60) -> None:
        """Wait until it has said so."""
        eventually(lambda: self.logged(event), seconds, lambda: self.log())

    def wait_exit(self, seconds: float = 60) -> int:
        """Its exit status."""
        return self.process.wait(seconds)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the worker itself, not to its children."""
        self.process.send_signal(number)

    def paused(self) -> bool:
        """Whether it is stopped (SIGSTOP)."""
        return _state(self.process.pid) == "T"


def eventually(
    check: Callable[[], bool], seconds: float = 60, present: Callable[[], object] = lambda: ""
) -> None:
    """Wait until `check` holds; fail, showing `present`, when it does not in time."""
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, present()
        time.sleep(0.02)


@contextmanager
def worker_process(
    place: Workplace, *arguments: str, name: str, **environment: str
) -> Iterator[WorkerProcess]:
    """A worker on the place's store; killed, with whatever is left of it, when the block ends."""
    with started([sys.executable, str(_SCRIPT), *arguments], settings_of(place, name, environment)) as worker:
        yield worker


@contextmanager
def started(command: list[str], environment: Mapping[str, str]) -> Iterator[WorkerProcess]:
    """Run a command that is a worker."""
    with tempfile.TemporaryDirectory(prefix="worker-") as folder:
        log_path = Path(folder, "log")
        with log_path.open("wb") as log:
            process = subprocess.Popen(
                command, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        try:
            yield WorkerProcess(process, log_path)
        finally:
            process.kill()
            process.wait()


def settings_of(place: Workplace, name: str, extra: Mapping[str, str]) -> dict[str, str]:
    """The place's settings as the environment of a worker."""
    settings = place.settings
    wanted = {
        "DATA_DIR": str(settings.data_dir),
        "LEASE_SECONDS": str(settings.lease_seconds),
        "SWEEP_SECONDS": str(settings.sweep_seconds),
        "POLL_SECONDS": "0.1",
        "THREADS": "1",
        "WORKER_NAME": name,
        "MEMORY_BYTES": str(512 * 1024 * 1024),
        **({} if settings.database_url is None else {"DATABASE_URL": settings.database_url}),
    }
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("LOOKAHEAD_")}
    return {**inherited, **{f"LOOKAHEAD_{key}": value for key, value in wanted.items()}, **extra}


def children_of(place: Workplace) -> list[int]:
    """The child processes, of any worker, whose directories are in the place's scratch folder."""
    mark = str(place.settings.scratch.resolve()).encode()
    return [pid for pid in _processes() if mark in _command_line(pid) and _state(pid) != "Z"]


def _processes() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def _parsed(line: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError:
        return {"raw": line}
    return found if isinstance(found, dict) else {"raw": line}
