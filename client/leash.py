"""Runs a command that the kernel kills when the process that started it dies, even by SIGKILL.

Started as a script: ``python -I leash.py PARENT_PID COMMAND…``. It asks for the death signal, then becomes
the command, so nothing has to run between fork and exec in the parent and the command needs to know nothing.
The signal comes when the parent's *thread* that forked ends: start leashed commands from the main thread.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
_LOST_PARENT = 3


def main(arguments: list[str]) -> None:
    """Tie this process to its parent and become the command. Never returns."""
    parent, command = int(arguments[0]), arguments[1:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(_LOST_PARENT)  # it died before the kernel knew of the tie
    os.execvp(command[0], command)  # noqa: S606 - the very purpose


if __name__ == "__main__":
    main(sys.argv[1:])
