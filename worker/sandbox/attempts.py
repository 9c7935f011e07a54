"""``python -m worker.sandbox.attempts``: what a model has no need to do, tried from inside the sandbox.

The worker runs this at its start and believes the sandbox only when every attempt fails. The fatal attempt
comes last: it is stopped by ending the process.
"""

import ctypes
import mmap
import os
import socket
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from worker.sandbox import Limits, SandboxMode, enter, tighten

_MIB: Final = 1024 * 1024
LIMITS: Final = Limits(cpu_seconds=60, memory_bytes=256 * _MIB, file_bytes=_MIB)


def _read_passwd() -> None:
    Path("/etc/passwd").read_bytes()


def _list_root() -> None:
    list(Path("/").iterdir())


def _write_outside() -> None:
    (Path.cwd().parent / "escaped").write_text("escaped")


def _link_outside() -> None:
    Path("linked").hardlink_to("/etc/passwd")


def _open_socket() -> None:
    socket.socket().close()


def _fork() -> None:
    if os.fork() == 0:
        os._exit(0)


def _signal_parent() -> None:
    os.kill(os.getppid(), 0)


def _large_file() -> None:
    with Path("large").open("wb", buffering=0) as file:
        for _ in range(4):
            file.write(bytes(_MIB))


def _large_memory() -> None:
    mmap.mmap(-1, 8 * 1024 * _MIB).close()


def _execute() -> None:
    os.execv("/bin/true", ["true"])  # noqa: S606


def _trace() -> None:
    if ctypes.CDLL(None, use_errno=True).ptrace(0, 0, 0, 0) != 0:
        raise PermissionError("ptrace")


def _mount() -> None:
    if ctypes.CDLL(None, use_errno=True).mount(b"none", b".", b"tmpfs", 0, None) != 0:
        raise PermissionError("mount")


ATTEMPTS: Final[Mapping[str, Callable[[], None]]] = {
    "read /etc/passwd": _read_passwd,
    "list /": _list_root,
    "write outside": _write_outside,
    "hard link": _link_outside,
    "socket": _open_socket,
    "fork": _fork,
    "signal the parent": _signal_parent,
    "large file": _large_file,
    "large memory": _large_memory,
}
#: Each of these is answered by SIGSYS.
FATAL: Final[Mapping[str, Callable[[], None]]] = {"execve": _execute, "ptrace": _trace, "mount": _mount}


def main(directory: str, mode: str, *fatal: str) -> None:
    """Write one line per attempt that succeeded, ``done``, and then try the fatal ones named."""
    os.chdir(directory)
    sys.stdout.write(f"sandbox: {enter(SandboxMode(mode), Path(directory)).describe()}\n")
    tighten(LIMITS)
    for name, attempt in ATTEMPTS.items():
        _try(name, attempt)
    sys.stdout.write("done\n")
    sys.stdout.flush()
    for name in fatal:
        _try(name, FATAL[name])
        sys.stdout.flush()


def _try(name: str, attempt: Callable[[], None]) -> None:
    try:
        attempt()
    except (OSError, MemoryError):
        return
    sys.stdout.write(f"breach: {name}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
