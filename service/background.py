"""What runs beside the requests: the sweep over leases and bells, cleaning, and webhook delivery."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import final

import anyio
from anyio.to_thread import run_sync

from service.context import Context
from service.webhooks.delivery import Deliverer
from store.records import JobKind

_log = logging.getLogger("lookahead.background")
_WEBHOOK_SECONDS = 1.0
_CLEANING_SECONDS = 900.0
_HELPER_JOB_SECONDS = 86_400.0
_GARBAGE_GRACE_SECONDS = 86_400.0


@final
class Sweeper:
    """Sweeps of the API process. Every method blocks and may be run by any number of processes."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._store = context.store

    def sweep(self) -> None:
        """Requeue or end jobs whose worker is lost, and ring again for jobs that wait unheard."""
        done = self._store.jobs.reconcile()
        for outcome, jobs in (
            ("requeued", done.requeued),
            ("failed", done.failed),
            ("cancelled", done.cancelled),
        ):
            self._context.metrics.reclaims.labels(outcome).inc(len(jobs))
        for job_id in (*done.requeued, *done.queued):
            self._context.doorbell.ring(job_id)

    def clean(self) -> None:
        """Remove what aborted uploads left, old inspections and plans, and blobs that nothing names."""
        self._store.blobs.sweep_staging(self._context.settings.staging_hours * 3600)
        self._store.jobs.expire(_HELPER_JOB_SECONDS, kinds=(JobKind.INSPECT, JobKind.PLAN))
        self._store.collect_garbage(_GARBAGE_GRACE_SECONDS)


@asynccontextmanager
async def running(context: Context) -> AsyncIterator[None]:
    """Run the loops while the block runs."""
    sweeper, deliverer = Sweeper(context), Deliverer(context)

    async def sweep() -> None:
        await run_sync(sweeper.sweep)

    async def clean() -> None:
        await run_sync(sweeper.clean)

    async def deliver() -> None:
        await deliverer.deliver_due()

    async with anyio.create_task_group() as group:
        group.start_soon(_every, context.settings.sweep_seconds, sweep, context)
        group.start_soon(_every, _CLEANING_SECONDS, clean, context)
        group.start_soon(_every, _WEBHOOK_SECONDS, deliver, context)
        yield
        group.cancel_scope.cancel()


async def _every(seconds: float, action: Callable[[], Awaitable[None]], context: Context) -> None:
    """Repeat the action; a failure is logged and counted, and the next round comes all the same."""
    while True:
        try:
            await action()
        except Exception:
            context.metrics.sweep_failures.inc()
            _log.exception("a background round failed")
        await anyio.sleep(seconds)
