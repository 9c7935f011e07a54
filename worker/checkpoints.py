"""The child's checkpoints on their way to the store: copied by a thread, while the child works on.

The file is looked at as all output is: a plain file in a folder that we made, copied before it is hashed,
because whoever wrote it may still hold it open. What is inside only the next child will see.
"""

import contextlib
import logging
import os
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Final, final
from uuid import uuid4

from api_schemas.events import ChildEvent, EventType
from store import Store
from store.errors import StaleClaimError, StoreError
from store.records import Claim
from worker import failpoints
from worker.errors import RejectedOutputError
from worker.jobdir import JobDirectory
from worker.logs import log

_CHUNK: Final = 1 << 20
_LAST_SECONDS: Final = 60.0

Say = Callable[[ChildEvent], None]


@final
class CheckpointKeeper:
    """Takes what the child of one claim announces; the newest, if it writes faster than it can be taken.

    `gap_seconds` is the least time between two, whatever the child does. `offers` counts what it announced.
    """

    def __init__(
        self,
        store: Store,
        claim: Claim,
        directory: JobDirectory,
        most_bytes: int,
        gap_seconds: float,
        say: Say,
    ) -> None:
        self._store, self._claim, self._say = store, claim, say
        self._most_bytes, self._gap = most_bytes, gap_seconds
        self._folder = os.dup(directory.checkpoint_descriptor)
        self._offered: str | None = None
        self.offers = 0
        self._ending = self._dropping = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name=f"checkpoints {claim.job.id}", daemon=True)
        self._thread.start()

    def offer(self, name: str) -> None:
        """The child has written one. Returns at once."""
        with self._changed:
            self.offers += 1
            self._offered = name
            self._changed.notify()

    def end(self, *, keep: bool) -> None:
        """Take no more. With `keep`, the one that waits is kept first, if that does not take too long."""
        with self._changed:
            self._ending, self._dropping = True, not keep
            self._changed.notify()
        if keep:
            self._thread.join(_LAST_SECONDS)

    def _run(self) -> None:
        try:
            while (name := self._next()) is not None:
                self._guarded(name)
                self._rest()
        finally:
            os.close(self._folder)

    def _next(self) -> str | None:
        with self._changed:
            self._changed.wait_for(lambda: self._offered is not None or self._ending)
            name, self._offered = self._offered, None
            return None if self._dropping else name

    def _rest(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._ending, self._gap)

    def _guarded(self, name: str) -> None:
        job = self._claim.job.id
        try:
            self._keep(name)
        except FileNotFoundError:
            return  # the child has written the next one meanwhile, and will say so
        except RejectedOutputError as error:
            log("checkpoint rejected", level=logging.WARNING, job=job, reason=str(error))
            message = f"A checkpoint was refused: {error}."
            self._say(ChildEvent(type=EventType.WARNING, data={"message": message}))
        except StaleClaimError:
            log("checkpoint refused: the lease has passed on", job=job, token=self._claim.token)
        except (StoreError, OSError) as error:  # the next one may fare better
            log("checkpoint not kept", level=logging.WARNING, job=job, reason=str(error))

    def _keep(self, name: str) -> None:
        """Copy, publish, name in the row; only then may the one before go."""
        job_id, begun = self._claim.job.id, time.monotonic()
        staged = self._store.blobs.staging_dir() / uuid4().hex
        try:
            copy_out(self._folder, name, staged, self._most_bytes)
            blob = self._store.checkpoints.publish(job_id, staged)
        finally:
            staged.unlink(missing_ok=True)
        replaced = self._store.jobs.save_checkpoint(self._claim, blob)
        seconds = round(time.monotonic() - begun, 3)
        log("checkpoint", job=job_id, token=self._claim.token, size_bytes=blob.size_bytes, seconds=seconds)
        self._say(saved_event("saved", blob.size_bytes))
        failpoints.reach("supervisor.checkpointed")
        if replaced is not None:
            self._store.checkpoints.remove(job_id, replaced)


def saved_event(action: str, size_bytes: int) -> ChildEvent:
    """What users read of a checkpoint: that one was `saved`, or that a job was `resumed` from one."""
    return ChildEvent(type=EventType.CHECKPOINT, data={"action": action, "size_bytes": size_bytes})


def copy_out(folder: int, name: str, target: Path, most_bytes: int) -> None:
    """Copy a plain file from the folder behind that descriptor, following no link on the way.

    Raises `RejectedOutputError` for anything else, `FileNotFoundError` when it is gone.
    """
    if not name or name != PurePosixPath(name).name or "\0" in name:
        raise RejectedOutputError("the checkpoint's name is not a plain file name")
    with contextlib.ExitStack() as stack:
        source = _open_plain(folder, name)
        stack.callback(os.close, source)
        writer = stack.enter_context(target.open("xb"))
        left = most_bytes
        while chunk := os.read(source, _CHUNK):
            left -= len(chunk)
            if left < 0:  # it may have grown since it was looked at
                raise RejectedOutputError(f"the checkpoint has more than {most_bytes} bytes")
            writer.write(chunk)


def _open_plain(folder: int, name: str) -> int:
    """A descriptor of the file; opening waits for nobody, as it would at a named pipe."""
    try:
        source = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise RejectedOutputError("the checkpoint cannot be opened") from error
    status = os.fstat(source)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
        os.close(source)
        raise RejectedOutputError("the checkpoint is not a plain file")
    return source
