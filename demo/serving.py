"""A service of its own for a script: `lookahead serve` on a free port, stopped at the end of the block."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import final

_READY_SECONDS = 180.0
_GRACE_SECONDS = 40.0


class ServiceStartError(Exception):
    """The service did not start; the message holds the end of its log."""


@final
@dataclass(frozen=True)
class Served:
    """A running service: its address, the launcher's process and the log of all its processes."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path


@contextmanager
def served(directory: Path, **settings: str) -> Iterator[Served]:
    """Serve from `directory` while the block runs. `settings` become LOOKAHEAD_… variables.

    Raises `ServiceStartError`.
    """
    directory.mkdir(parents=True, exist_ok=True)
    ready, log = directory / "ready", directory / "serve.log"
    ready.unlink(missing_ok=True)
    process = _launch(directory, ready, log, settings)
    try:
        yield Served(_address(ready, process, log), process, log)
    finally:
        _stop(process)


def _launch(directory: Path, ready: Path, log: Path, settings: Mapping[str, str]) -> subprocess.Popen[bytes]:
    program = Path(sys.executable).with_name("lookahead")
    command = [str(program), "serve", "--port", "0", "--data-dir", str(directory / "data")]
    with log.open("ab") as output:
        return subprocess.Popen(
            [*command, "--ready-file", str(ready)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=_environment(settings),
        )


def _environment(settings: Mapping[str, str]) -> dict[str, str]:
    """Ours, without settings meant for another service and without warnings made errors."""
    strange = ("LOOKAHEAD_", "PYTHONWARNINGS")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(strange)}
    return inherited | {f"LOOKAHEAD_{name.upper()}": value for name, value in settings.items()}


def _address(ready: Path, process: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + _READY_SECONDS
    while not ready.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            tail = log.read_text(errors="replace")[-2000:]
            raise ServiceStartError(f"the service did not start; the end of its log:\n{tail}")
        time.sleep(0.1)
    return ready.read_text().strip()


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Ask the launcher to stop both of its processes; kill it when it does not; they are leashed to it."""
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(_GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
