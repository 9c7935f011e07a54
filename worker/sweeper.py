"""Housekeeping: leases that have ended, bells that were not heard, what crashes left behind."""

import logging
import threading
from collections.abc import Callable
from typing import Final, final

from store import Store
from worker import jobdir
from worker.logs import log
from worker.settings import WorkerSettings

_STAGING_SECONDS: Final = 24 * 3600.0
_SWEEPS_PER_CLEANING: Final = 120


@final
class Sweeper:
    """Reconciles every `sweep_seconds` in a thread, and rings for jobs that wait."""

    def __init__(
        self, store: Store, settings: WorkerSettings, ring: Callable[[str], None] = lambda _: None
    ) -> None:
        self._store, self._settings, self._ring = store, settings, ring
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sweeper", daemon=True)

    def start(self) -> None:
        """Begin, with a sweep at once."""
        self._thread.start()

    def close(self) -> None:
        """End; a sweep in progress is waited for, not for ever."""
        self._stop.set()
        self._thread.join(5)

    def sweep(self) -> None:
        """One round. Raises what the store raises."""
        self._store.workers.seen(self._settings.worker_name)
        found = self._store.jobs.reconcile()
        if found.requeued or found.failed or found.cancelled:
            log("reconciled", requeued=found.requeued, failed=found.failed, cancelled=found.cancelled)
        for job_id in dict.fromkeys((*found.requeued, *found.queued)):
            self._ring(job_id)

    def clean(self) -> None:
        """Remove files that crashed workers and broken uploads have left."""
        removed = jobdir.sweep(self._settings.scratch)
        staged = self._store.blobs.sweep_staging(_STAGING_SECONDS)
        if removed or staged:
            log("cleaned", directories=removed, staged=staged)

    def _run(self) -> None:
        rounds = 0
        while True:
            self._guarded(self.sweep)
            if rounds % _SWEEPS_PER_CLEANING == 0:
                self._guarded(self.clean)
            rounds += 1
            if self._stop.wait(self._settings.sweep_seconds):
                return

    def _guarded(self, step: Callable[[], None]) -> None:
        try:
            step()
        except Exception as error:  # the next round tries again
            log("sweep failed", level=logging.WARNING, error=repr(error)[:500])
