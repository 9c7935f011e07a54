"""`JobStore`: each method is one short transaction; what it does is in the module it names."""

from collections.abc import Collection, Sequence
from typing import final
from uuid import uuid4

from sqlalchemy.orm import Session

from api_schemas.errors import JobError
from api_schemas.events import ChildEvent, Event
from api_schemas.ids import new_job_id
from api_schemas.jobs import JobStatus, Progress, Stage
from store.database import Database
from store.jobs import (
    cancellation,
    checkpoints,
    claims,
    events,
    queries,
    reconcile,
    retention,
    rows,
    submission,
    webhooks,
)
from store.records import (
    Beat,
    BlobRef,
    Claim,
    IdempotencyKey,
    JobKind,
    JobRecord,
    NewJob,
    Outcome,
    Reconciled,
    Slice,
    Submission,
    WebhookDelivery,
)
from store.settings import StoreSettings


@final
class JobStore:
    """Jobs. Every method may raise `UnavailableError`; those that take a claim, `StaleClaimError`."""

    def __init__(self, database: Database, settings: StoreSettings) -> None:
        self._database = database
        self._settings = settings

    def submit(self, new: NewJob, idempotency: IdempotencyKey | None = None) -> Submission:
        """Queue a job, or answer with the one that the key made before. Committed when this returns.

        Raises `NotFoundError` for an unknown model or dataset, `IdempotencyMismatchError`.
        """
        job_id = new_job_id()
        seconds = self._settings.idempotency_hours * 3600
        return self._database.write(
            lambda session: submission.submit(session, job_id, new, idempotency, seconds),
            landed=lambda session: submission.landed(session, job_id),
        )

    def replay(self, idempotency: IdempotencyKey) -> JobRecord | None:
        """The job that this key made, None if none. Raises `IdempotencyMismatchError`."""
        return self._database.read(lambda session: submission.replay(session, idempotency))

    def get(self, job_id: str) -> JobRecord:
        """The job. Raises `NotFoundError`."""
        return self._database.read(lambda session: rows.get(session, job_id))

    def list(
        self,
        *,
        status: JobStatus | None = None,
        limit: int = 50,
        cursor: str | None = None,
        kind: JobKind | None = JobKind.PRUNE,
    ) -> Slice[JobRecord]:
        """A page, newest first; `kind` None is all kinds. Raises `ValueError` for a bad cursor."""
        return self._database.read(lambda session: queries.listing(session, status, kind, limit, cursor))

    def counts(self) -> dict[JobStatus, int]:
        """Jobs of every kind by status."""
        return self._database.read(queries.counts)

    def oldest_queued_seconds(self) -> float | None:
        """How long the longest waiting job has waited, None when none waits."""
        return self._database.read(queries.oldest_queued_seconds)

    def cancel(self, job_id: str) -> JobRecord:
        """Cancel a queued job; ask the supervisor of a running one to stop it, as often as you like.

        Raises `NotFoundError`, or `ConflictError` when the job has ended.
        """
        return self._database.write(
            lambda session: cancellation.cancel(session, job_id),
            landed=lambda session: cancellation.landed(session, job_id),
        )

    def claim(
        self, worker: str, *, job_id: str | None = None, kinds: Collection[JobKind] | None = None
    ) -> Claim | None:
        """Lease the oldest queued job (inspections and plans first), None when there is none.

        The attempt is counted here. The lease runs `lease_seconds` from now by the database's clock.
        """
        nonce = uuid4().hex
        lease = self._settings.lease_seconds
        return self._database.write(
            lambda session: claims.claim(session, worker, nonce, lease, job_id, kinds),
            landed=lambda session: claims.claimed(session, nonce),
        )

    def heartbeat(self, claim: Claim) -> Beat:
        """Extend the lease to `lease_seconds` from now."""
        return self._database.write(
            lambda session: claims.heartbeat(session, claim, self._settings.lease_seconds)
        )

    def record(
        self,
        claim: Claim,
        events: Sequence[ChildEvent],
        *,
        stage: Stage | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Append events in order, and note the stage and its progress."""
        numbers: list[int] = []

        def append(session: Session) -> int:
            numbers.append(_append(session, claim, events, stage, progress))
            return numbers[-1]

        self._database.write(append, landed=lambda session: _landed(session, claim, numbers[-1]))

    def save_checkpoint(self, claim: Claim, blob: BlobRef) -> str | None:
        """Name the checkpoint, already published, that the next attempt goes on from.

        Gives the digest of the one that it replaces, which nothing names any more; None when unknown.
        """
        (replaced,) = self._database.write(
            lambda session: (checkpoints.save(session, claim, blob),),
            landed=lambda session: checkpoints.landed(session, claim, blob),
        )
        return replaced

    def finish(self, claim: Claim, outcome: Outcome) -> JobRecord:
        """Publish the outcome, at most once: the job has succeeded.

        An inspection goes to every model with the same bytes.
        """
        return self._database.write(
            lambda session: claims.finish(session, claim, outcome),
            landed=lambda session: claims.settled(session, claim),
        )

    def fail(self, claim: Claim, error: JobError, *, retry: bool) -> JobRecord:
        """End the attempt. With `retry` the job is queued again while attempts are left, else it failed.

        A job to be retried whose cancellation was asked for is cancelled. A failed inspection leaves its
        error with every model with the same bytes.
        """
        return self._database.write(
            lambda session: claims.fail(session, claim, error, retry=retry),
            landed=lambda session: claims.settled(session, claim),
        )

    def cancelled(self, claim: Claim) -> JobRecord:
        """The supervisor has stopped the job because `Beat.cancel_requested` said so."""
        return self._database.write(
            lambda session: claims.cancelled(session, claim),
            landed=lambda session: claims.settled(session, claim),
        )

    def release(self, claim: Claim) -> None:
        """Give the job back, as in an orderly shutdown; the attempt is not counted."""
        self._database.write(
            lambda session: claims.release(session, claim),
            landed=lambda session: claims.settled(session, claim),
        )

    def reconcile(self) -> Reconciled:
        """Requeue or end jobs whose lease has ended, and name queued jobs whose bell was not heard.

        Models that were stored without their inspection being queued get one.

        Run it every `sweep_seconds` in as many processes as you like.
        """
        return self._database.write(
            lambda session: reconcile.reconcile(
                session, self._settings.sweep_seconds, self._settings.max_attempts
            )
        )

    def events(self, job_id: str, after: int = 0, limit: int = 1000) -> tuple[Event, ...]:
        """Events with numbers above `after`, in order and without gaps. Raises `NotFoundError`."""
        return self._database.read(lambda session: _listing(session, job_id, after, limit))

    def due_webhooks(self, limit: int = 20) -> tuple[WebhookDelivery, ...]:
        """Take deliveries that are due. Each comes back in a minute unless done or failed is said."""
        return self._database.write(lambda session: webhooks.due(session, limit))

    def webhook_done(self, delivery_id: str) -> None:
        """The delivery was accepted, or is given up: forget it."""
        self._database.write(lambda session: webhooks.done(session, delivery_id))

    def webhook_failed(self, delivery_id: str, retry_in_seconds: float) -> None:
        """The delivery was not accepted; it is due again after that time."""
        self._database.write(lambda session: webhooks.failed(session, delivery_id, retry_in_seconds))

    def expire(self, older_than_seconds: float, kinds: Collection[JobKind] | None = None) -> int:
        """Forget jobs that finished longer ago than that, and idempotency keys past their time.

        Gives the number of jobs. Their blobs go with the next garbage collection.
        """
        self._database.write(retention.expire_keys)
        total = 0
        while batch := self._database.write(
            lambda session: retention.expire(session, older_than_seconds, kinds)
        ):
            total += batch
        return total


# `events` is a parameter and a method above, and would hide the module there.
_append = events.record
_landed = events.landed
_listing = events.listing
