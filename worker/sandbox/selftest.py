"""Does the sandbox hold on this machine? Asked once, when the worker starts."""

import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from worker.sandbox.policy import SandboxMode

_SECONDS: Final = 60


@dataclass(frozen=True)
class SelfTest:
    """`sandbox` is what holds. `breaches` are attempts that got through; `failure` is why none was made."""

    sandbox: str
    breaches: tuple[str, ...] = ()
    failure: str | None = None

    @property
    def holds(self) -> bool:
        """True when everything that was tried was refused."""
        return self.failure is None and not self.breaches

    def describe(self) -> str:
        """One line for readiness and logs."""
        if self.failure is not None:
            return f"unavailable: {self.failure}"
        return f"{self.sandbox}; got through: {', '.join(self.breaches)}" if self.breaches else self.sandbox


def run(mode: SandboxMode, scratch: Path, *, fatal: str = "execve") -> SelfTest:
    """Try to escape from a sandbox of that mode. Takes some tenths of a second; never raises."""
    if mode is SandboxMode.OFF:
        return SelfTest(str(mode))
    scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=scratch.resolve()) as folder:
        directory = Path(folder, "work")
        directory.mkdir()
        try:
            ended = subprocess.run(
                [*_COMMAND, str(directory), str(mode), fatal],
                capture_output=True,
                timeout=_SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return SelfTest(str(mode), failure=str(error))
        return _read(mode, ended, fatal)


_COMMAND: Final = [sys.executable, "-s", "-P", "-B", "-m", "worker.sandbox.attempts"]


def _read(mode: SandboxMode, ended: "subprocess.CompletedProcess[bytes]", fatal: str) -> SelfTest:
    lines = ended.stdout.decode(errors="replace").splitlines()
    if "done" not in lines:
        said = ended.stderr.decode(errors="replace").strip().splitlines()
        return SelfTest(str(mode), failure=said[-1] if said else f"exit status {ended.returncode}")
    sandbox = next((line.partition(": ")[2] for line in lines if line.startswith("sandbox: ")), str(mode))
    breaches = [line.partition(": ")[2] for line in lines if line.startswith("breach: ")]
    if ended.returncode != -signal.SIGSYS and fatal not in breaches:
        breaches.append(fatal)  # an exec that worked has no line to write
    return SelfTest(sandbox, tuple(breaches))
