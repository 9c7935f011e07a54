"""`lookahead serve`: the API and one worker as child processes over one data directory, until told to stop.

Each child has a process group of its own and is leashed to this process; one that dies is started again.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from types import FrameType
from typing import final

import httpx2

from client import leash
from client.errors import LookaheadError

_POLL_SECONDS = 0.2
_READY_SECONDS = 120.0
_GRACE_SECONDS = 20.0
_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 30.0
_STEADY_SECONDS = 60.0
#: What would turn the embedded mode into another one.
_FOREIGN_SETTINGS = ("LOOKAHEAD_BROKER_URL", "LOOKAHEAD_DATABASE_URL", "LOOKAHEAD_BLOBS_URL")

Say = Callable[[str], None]


@final
class LaunchError(LookaheadError):
    """The service did not start."""

    code = "not_started"


@final
@dataclass(frozen=True)
class Plan:
    """What to launch, and where a client on this machine then reaches it."""

    url: str
    data_dir: Path
    service: tuple[str, ...]
    worker: tuple[str, ...]


def make_plan(host: str, port: int, data_dir: Path) -> Plan:
    """A plan with a real port. Raises `LaunchError` when the address is taken or is not of this machine."""
    port, data_dir = free_port(host, port), data_dir.absolute()
    data = ("--data-dir", str(data_dir))
    python = (sys.executable, "-P", "-m")
    return Plan(
        url=local_url(host, port),
        data_dir=data_dir,
        service=(*python, "service", "--host", host, "--port", str(port), *data),
        worker=(*python, "worker", *data),
    )


def free_port(host: str, port: int) -> int:
    """`port` if it can be listened on, a free one for 0. Raises `LaunchError`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            return int(probe.getsockname()[1])
    except OSError as error:
        hint = "choose another with --port; 0 takes a free one"
        raise LaunchError(f"cannot listen on {host} port {port}: {error.strerror}", hint=hint) from error


def local_url(host: str, port: int) -> str:
    """The address for clients on this machine; one that means "everywhere" becomes loopback."""
    near = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)  # noqa: S104
    return f"http://[{near}]:{port}" if ":" in near else f"http://{near}:{port}"


def environment(base: Mapping[str, str]) -> dict[str, str]:
    """The children's environment: ours, without what would lead away from the embedded store."""
    return {name: value for name, value in base.items() if name not in _FOREIGN_SETTINGS}


@final
class Child:
    """A leashed process that is started again when it dies, ever more slowly while it keeps dying."""

    def __init__(self, name: str, command: Sequence[str], say: Say) -> None:
        self.name = name
        self._command = [sys.executable, "-I", leash.__file__, str(os.getpid()), *command]
        self._say = say
        self._pause = _FIRST_PAUSE
        self._process: subprocess.Popen[bytes] | None = None
        self._started = self._due = 0.0

    def start(self) -> None:
        """Start it. Its output goes to our standard error; our standard output is for data."""
        self._started = time.monotonic()
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr.fileno(),
            env=environment(os.environ),
            process_group=0,
        )

    @property
    def exit_status(self) -> int | None:
        """How it ended; None while it runs."""
        return self._process.poll() if self._process else None

    @property
    def stopped(self) -> bool:
        """Whether nothing of it runs."""
        return self._process is None or self._process.poll() is not None

    def look_after(self) -> None:
        """Start it again when it is dead and its pause is over."""
        if self._process is None:
            if time.monotonic() >= self._due:
                self.start()
        elif (status := self.exit_status) is not None:
            self._mourn(status)

    def _mourn(self, status: int) -> None:
        if time.monotonic() - self._started > _STEADY_SECONDS:
            self._pause = _FIRST_PAUSE
        self.kill()
        self._process = None
        self._due = time.monotonic() + self._pause
        self._say(f"the {self.name} ended with {describe(status)}; it starts again in {self._pause:g} s")
        self._pause = min(_LONGEST_PAUSE, self._pause * 2)

    def ask_to_stop(self) -> None:
        """SIGTERM, which both kinds of child take as a request to finish cleanly."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.terminate()

    def kill(self) -> None:
        """SIGKILL to the whole group, and collect the dead."""
        if self._process is None:
            return
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def describe(status: int) -> str:
    """An exit status for people."""
    return f"signal {-status}" if status < 0 else f"exit code {status}"


@final
class Launcher:
    """Both children, from start to stop."""

    def __init__(self, plan: Plan, say: Say) -> None:
        self._plan = plan
        self._say = say
        self._service = Child("API", plan.service, say)
        self._worker = Child("worker", plan.worker, say)
        self._signals = 0

    def run(self, on_ready: Callable[[], None]) -> None:
        """Serve until SIGINT or SIGTERM. Raises `LaunchError` when the API does not get ready."""
        if foreign := [name for name in _FOREIGN_SETTINGS if os.environ.get(name)]:
            self._say(f"not used here, where the embedded store is: {', '.join(foreign)}")
        self._plan.data_dir.mkdir(parents=True, exist_ok=True)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._on_signal)
        try:
            self._service.start()
            self._await_ready()
            self._worker.start()
            if not self._signals:
                on_ready()
            while not self._signals:
                self._service.look_after()
                self._worker.look_after()
                time.sleep(_POLL_SECONDS)
        finally:
            self._stop()

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self._signals += 1

    def _await_ready(self) -> None:
        deadline = time.monotonic() + _READY_SECONDS
        while not self._signals and not answers(self._plan.url):
            if (status := self._service.exit_status) is not None:
                raise LaunchError(f"the API ended with {describe(status)} before it was ready")
            if time.monotonic() > deadline:
                raise LaunchError(f"the API was not ready after {_READY_SECONDS:g} s")
            time.sleep(_POLL_SECONDS)

    def _stop(self) -> None:
        """Ask both, wait, then kill; a second signal ends the patience."""
        seen = self._signals
        children = (self._worker, self._service)
        for child in children:
            child.ask_to_stop()
        deadline = time.monotonic() + _GRACE_SECONDS
        while time.monotonic() < deadline and self._signals <= max(seen, 1):
            if all(child.stopped for child in children):
                break
            time.sleep(_POLL_SECONDS / 4)
        for child in children:
            child.kill()


def answers(url: str) -> bool:
    """Whether the service says that it is ready."""
    try:
        return httpx2.get(f"{url}/readyz", timeout=5, trust_env=False).status_code == 200
    except httpx2.HTTPError:
        return False


def is_open_to_others(host: str) -> bool:
    """Whether other machines may reach that address."""
    try:
        return not ip_address(host).is_loopback
    except ValueError:
        return host != "localhost"
