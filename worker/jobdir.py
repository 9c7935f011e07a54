"""Private directories for children, and what is left of them after a crash.

``<scratch>/<id>/`` is locked by the supervisor that made it, so a directory whose lock is free is an orphan.
``work/`` inside it is all the child may touch: ``input/``, ``output/``, ``checkpoint/``, ``tmp/``.
"""

import contextlib
import fcntl
import os
import shutil
import stat
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import final


@final
class JobDirectory:
    """One child's directory, removed by `close`."""

    def __init__(self, scratch: Path) -> None:
        self.root = scratch.resolve() / uuid.uuid4().hex
        self.root.mkdir(parents=True, mode=0o700)
        self._lock = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self.work = self.root / "work"
        for name in ("input", "output", "checkpoint", "tmp"):
            (self.work / name).mkdir(parents=True)
        # Opened before there is a child, which could put a link in the folder's place.
        self.checkpoint_descriptor = os.open(
            self.work / "checkpoint", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        )

    @property
    def input(self) -> Path:
        """Where the supervisor puts the files of the order."""
        return self.work / "input"

    @property
    def output(self) -> Path:
        """Where the child puts its results."""
        return self.work / "output"

    def bytes_used(self) -> int:
        """Bytes allocated below the child's directory. Never follows a link."""
        total = 0
        for folder, _, files in os.walk(self.work):
            for name in files:
                with contextlib.suppress(OSError):
                    total += os.lstat(Path(folder, name)).st_blocks * 512
        return total

    def close(self) -> None:
        """Remove everything; the child must be gone."""
        _remove(self.root)
        os.close(self.checkpoint_descriptor)
        os.close(self._lock)


def sweep(scratch: Path) -> int:
    """Remove the directories whose supervisor is gone; the number removed."""
    if not scratch.is_dir():
        return 0
    return sum(_sweep_one(path) for path in scratch.iterdir() if path.is_dir() and not path.is_symlink())


def _sweep_one(path: Path) -> bool:
    try:
        lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _remove(path)
    except OSError:
        return False
    finally:
        os.close(lock)
    return True


def _remove(path: Path) -> None:
    shutil.rmtree(path, onerror=_unlock_and_retry)


def _unlock_and_retry(function: Callable[..., object], path: str, _error: object) -> None:
    """A child may have taken its own folders' permissions away to keep them here."""
    with contextlib.suppress(OSError):
        for locked in (Path(path).parent, Path(path)):
            if not locked.is_symlink() and locked.is_dir():
                locked.chmod(stat.S_IRWXU)
        if Path(path).is_dir() and not Path(path).is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            function(path)
