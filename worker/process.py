"""One child process as the supervisor holds it: started, fed one order, listened to, ended."""

import contextlib
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, final

from api_schemas.jobs import ChildResult
from worker import child
from worker.errors import BrokenProtocolError
from worker.exchange import Exchange
from worker.jobdir import JobDirectory
from worker.protocol import ChildMessage, ChildStart, MessageReader
from worker.sandbox.policy import SandboxMode

_CHUNK: Final = 1 << 20
_LOG_BYTES: Final = 64 * 1024
_PASSED_ON: Final = (
    "CUDA_VISIBLE_DEVICES",
    "NVIDIA_VISIBLE_DEVICES",
    "NVIDIA_DRIVER_CAPABILITIES",
    "LD_LIBRARY_PATH",
)


@dataclass(frozen=True)
class Launch:
    """How children are started; the same for every child of a worker.

    A job may be given `processes` of them, the n-th of which sees the n-th of `devices`, if there are any.
    """

    scratch: Path
    sandbox: SandboxMode = SandboxMode.STRICT
    cuda: bool = False
    threads: int = 1
    processes: int = 1
    devices: tuple[str, ...] = ()
    engine: str = child.ENGINE
    preload: str = child.PRELOAD
    environment: Mapping[str, str] = field(default_factory=dict)


@final
class ChildProcess:
    """A child in a directory of its own. `close` ends it and removes the directory.

    Of several that are to work together the first, of rank 0, keeps the `exchange` for those that follow.
    """

    def __init__(self, launch: Launch, exchange: Exchange | None = None, rank: int = 0) -> None:
        self.directory = JobDirectory(launch.scratch)
        self.exchange = exchange
        self.ready: ChildMessage | None = None
        self.result: ChildResult | None = None
        self._rank = rank
        self._reader = MessageReader()
        self._log = bytearray()
        self._spawn(launch)
        self._selector = selectors.DefaultSelector()
        for source in (self._messages, self._errors):
            os.set_blocking(source, False)
            self._selector.register(source, selectors.EVENT_READ)

    def _spawn(self, launch: Launch) -> None:
        given = () if self.exchange is None else self.exchange.given_to(self._rank)
        self._messages, messages_in = os.pipe2(os.O_CLOEXEC)
        lifeline, self._lifeline = os.pipe2(os.O_CLOEXEC)
        self._errors, errors_in = os.pipe2(os.O_CLOEXEC)
        try:
            self._process = subprocess.Popen(
                _command(launch, self.directory.work, messages_in, lifeline),
                stdin=subprocess.PIPE,
                stdout=errors_in,
                stderr=errors_in,
                pass_fds=(messages_in, lifeline, *given),
                cwd=self.directory.work,
                env=_environment(launch, self.directory.work, self._rank),
                start_new_session=True,  # its own process group, and no terminal
            )
        finally:
            for inherited in (messages_in, lifeline, errors_in):
                os.close(inherited)
            if self.exchange is not None:
                self.exchange.gone_to(self._rank)

    @property
    def pid(self) -> int:
        """The process, which is also its process group."""
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""
        if self._process.returncode is None and _has_ended(self._process.pid):
            # While the leader is not reaped its number cannot be another group's.
            self.signal_group(signal.SIGKILL)
            self._process.wait()
        return self._process.returncode

    @property
    def log_tail(self) -> str:
        """The end of what it wrote to standard output and error. Untrusted text."""
        return self._log.decode(errors="replace")

    def send(self, start: ChildStart) -> None:
        """Hand over the one order. A child that is gone is noticed by its exit, not here."""
        pipe = self._process.stdin
        assert pipe is not None  # noqa: S101  Popen was given PIPE
        with contextlib.suppress(BrokenPipeError):
            pipe.write(start.model_dump_json().encode() + b"\n")
            pipe.flush()

    def listen(self, seconds: float) -> list[ChildMessage]:
        """What the child has said, waiting up to `seconds` for it. Raises `BrokenProtocolError`."""
        heard: list[ChildMessage] = []
        for key, _ in self._selector.select(seconds):
            data = os.read(key.fd, _CHUNK)
            if not data:
                self._selector.unregister(key.fd)
            elif key.fd == self._errors:
                self._log = (self._log + data)[-_LOG_BYTES:]
            else:
                heard += self._reader.feed(data)
        self.ready = self.ready or next((m for m in heard if m.ready is not None or m.refused), None)
        self.result = self.result or next((m.result for m in heard if m.result is not None), None)
        return heard

    @property
    def silent(self) -> bool:
        """True when both of its pipes have ended."""
        return not self._selector.get_map()

    def wait_ready(self, seconds: float) -> ChildMessage | None:
        """The child's first word, or None when it ended or `seconds` passed without it."""
        end = time.monotonic() + seconds
        with contextlib.suppress(BrokenProtocolError):
            while self.ready is None and not self.silent and time.monotonic() < end:
                self.listen(min(0.2, max(0.0, end - time.monotonic())))
        return self.ready

    def signal_group(self, number: signal.Signals) -> None:
        """Send a signal to the child and whatever it may have started."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)

    def pause(self) -> None:
        """Stop it where it is."""
        self.signal_group(signal.SIGSTOP)

    def unpause(self) -> None:
        """Let it go on."""
        self.signal_group(signal.SIGCONT)

    def stop(self, grace_seconds: float) -> None:
        """SIGTERM, then SIGKILL after the grace; returns when the child is gone."""
        if grace_seconds > 0 and self.returncode is None:
            self.signal_group(signal.SIGTERM)
            self.signal_group(signal.SIGCONT)  # a stopped process does not take SIGTERM
            end = time.monotonic() + grace_seconds
            while self.returncode is None and time.monotonic() < end:
                time.sleep(0.02)
        self.signal_group(signal.SIGKILL)
        self._process.wait()

    def close(self) -> None:
        """End the child, if it has not ended, and remove its directory."""
        self.stop(0)
        self._selector.close()
        pipe = self._process.stdin
        if pipe is not None:
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
        for descriptor in (self._messages, self._errors, self._lifeline):
            os.close(descriptor)
        if self.exchange is not None and self._rank == 0:
            self.exchange.close()
        self.directory.close()


def _has_ended(pid: int) -> bool:
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _command(launch: Launch, directory: Path, pipe: int, lifeline: int) -> list[str]:
    fixed = [
        sys.executable,
        "-s",
        "-P",
        "-B",
        "-m",
        "worker.child",
        f"--pipe={pipe}",
        f"--lifeline={lifeline}",
    ]
    chosen = [f"--directory={directory}", f"--sandbox={launch.sandbox}", f"--engine={launch.engine}"]
    return [*fixed, *chosen, f"--preload={launch.preload}", *(["--cuda"] if launch.cuda else [])]


def _environment(launch: Launch, directory: Path, rank: int) -> Mapping[str, str]:
    """Nothing of ours: no credentials, no addresses. The rest makes runs repeatable."""
    threads = str(launch.threads)
    passed = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    own = {"CUDA_VISIBLE_DEVICES": launch.devices[rank]} if launch.devices else {}
    return {
        **passed,
        **own,
        "HOME": str(directory / "tmp"),
        "TMPDIR": str(directory / "tmp"),
        "USER": "lookahead",
        "LANG": "C.UTF-8",
        "PYTHONHASHSEED": "0",
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "OPENBLAS_NUM_THREADS": threads,
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
        **launch.environment,
    }
