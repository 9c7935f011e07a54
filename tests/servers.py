"""Real servers for tests, on free ports and in a folder of their own, gone when the block ends."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

_POSTGRES_FOLDERS = ("/usr/lib/postgresql", "/usr/pgsql", "/opt/homebrew/opt")
_START_SECONDS = 60


@dataclass(frozen=True)
class Server:
    """A running server: its URL for clients, and its process to stop, pause or kill."""

    url: str
    port: int
    process: subprocess.Popen[bytes]

    def pause(self) -> None:
        """Leave connections open and answer nothing."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Answer again."""
        self.process.send_signal(signal.SIGCONT)


def free_port() -> int:
    """A TCP port that nothing listened on a moment ago."""
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def redis_server(port: int | None = None) -> Iterator[Server]:
    """An empty Redis without persistence; skips the test where Redis is not installed."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("redis-server is not installed")
    port = port or free_port()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    with tempfile.TemporaryDirectory(prefix="redis-") as folder:
        process = _start([program, *options, "--dir", folder], Path(folder) / "log", as_root=True)
        try:
            _wait(lambda: _accepts(port), process, Path(folder) / "log")
            yield Server(f"redis://127.0.0.1:{port}/0", port, process)
        finally:
            _stop(process, signal.SIGTERM)


@contextmanager
def postgres_server() -> Iterator[Server]:
    """An empty PostgreSQL without fsync; skips the test where it is not installed.

    `url` names the database `postgres`; more can be made with `postgres_database`.
    """
    binaries = _postgres_binaries()
    if binaries is None:
        pytest.skip("PostgreSQL is not installed")
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="postgres-") as name:
        folder = Path(name)
        _give_away(folder)
        log = folder / "log"
        _initialise(binaries, folder)
        options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off -c max_connections=300"
        command = [str(binaries / "postgres"), "-D", str(folder / "data"), *options.split()]
        process = _start(command, log, as_root=False)
        try:
            _wait(lambda: _is_ready(binaries, port), process, log)
            yield Server(f"postgresql://postgres@127.0.0.1:{port}/postgres", port, process)
        finally:
            _stop(process, signal.SIGINT)


def postgres_database(server: Server, name: str) -> str:
    """Make an empty database on the server; gives its URL."""
    import psycopg

    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"'.encode())
    return server.url.rpartition("/")[0] + f"/{name}"


def _postgres_binaries() -> Path | None:
    """The folder with the whole server; a PATH may hold wrappers of some of it."""
    on_path = [Path(found).resolve().parent for found in (shutil.which("postgres"),) if found]
    installed = [path.parent for root in _POSTGRES_FOLDERS for path in Path(root).glob("*/bin/postgres")]
    whole = [folder for folder in on_path + installed if (folder / "pg_isready").exists()]
    return max(whole, default=None)


def _initialise(binaries: Path, folder: Path) -> None:
    options = ["-D", str(folder / "data"), "-U", "postgres", "-A", "trust", "-N", "-E", "UTF8", "--locale=C"]
    command = _as_user([str(binaries / "initdb"), *options])
    subprocess.run(command, check=True, cwd=folder, capture_output=True)


def _as_user(command: list[str]) -> list[str]:
    """PostgreSQL refuses to run as root."""
    return command if os.geteuid() else ["setpriv", "--reuid", "nobody", "--clear-groups", *command]


def _give_away(folder: Path) -> None:
    if os.geteuid() == 0:
        shutil.chown(folder, "nobody")


def _start(command: list[str], log: Path, *, as_root: bool) -> subprocess.Popen[bytes]:
    with log.open("wb") as output:
        return subprocess.Popen(
            command if as_root else _as_user(command),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=log.parent,
            start_new_session=True,
        )


def _stop(process: subprocess.Popen[bytes], request: signal.Signals) -> None:
    """Ask, then kill. A paused process is resumed first, or it would not hear."""
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGCONT)
    process.send_signal(request)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _wait(ready: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the server did not start:\n{log.read_text(errors='replace')}")
        time.sleep(0.02)


def _accepts(port: int) -> bool:
    try:
        with closing(socket.create_connection(("127.0.0.1", port), timeout=1)) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(7) == b"+PONG\r\n"
    except OSError:
        return False


def _is_ready(binaries: Path, port: int) -> bool:
    command = [str(binaries / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port)]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0
