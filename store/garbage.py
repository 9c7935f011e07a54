"""Garbage collection by reference: a blob that no row names goes."""

from collections.abc import Collection, Iterable, Iterator
from functools import partial
from itertools import islice

from sqlalchemy import select, union
from sqlalchemy.orm import Session

from api_schemas.jobs import JobStatus
from store.blobs import BlobStore
from store.checkpoints import CheckpointStore
from store.database import Database
from store.tables import ArtefactRow, DatasetRow, JobRow, ModelRow

_BATCH = 500


def collect(database: Database, blobs: BlobStore, grace_seconds: float) -> tuple[str, ...]:
    """Delete blobs published longer ago than the grace period that no row names; gives their digests.

    The grace period must exceed the time between publishing a blob and committing the row that names it.
    Publishing equal content again starts it anew, which is looked at once more right before deleting.
    """
    removed: list[str] = []
    for batch in _batches(blobs.old(grace_seconds)):
        named = database.read(partial(_named, digests=batch))
        for sha256 in batch:
            if sha256 not in named and blobs.is_old(sha256, grace_seconds):
                blobs.delete(sha256)
                removed.append(sha256)
    return tuple(removed)


def collect_checkpoints(database: Database, checkpoints: CheckpointStore, grace_seconds: float) -> None:
    """Delete the checkpoints of jobs that have ended or are gone, and those replaced before the grace."""
    for batch in _batches(checkpoints.jobs()):
        alive = database.read(partial(_alive, job_ids=batch))
        for job_id in batch:
            if job_id in alive:
                checkpoints.remove_others(job_id, alive[job_id], grace_seconds)
            else:
                checkpoints.discard(job_id)


def _alive(session: Session, job_ids: Collection[str]) -> dict[str, str | None]:
    """Of those jobs the ones that have not ended, with the digests of their checkpoints."""
    unfinished = [status for status in JobStatus if not status.finished]
    found = select(JobRow.id, JobRow.checkpoint_sha256).where(
        JobRow.id.in_(job_ids), JobRow.status.in_(unfinished)
    )
    return dict(row for row in session.execute(found))


def _named(session: Session, digests: Collection[str]) -> set[str]:
    columns = (ModelRow.sha256, DatasetRow.sha256, ArtefactRow.sha256)
    return set(session.scalars(union(*(select(column).where(column.in_(digests)) for column in columns))))


def _batches(digests: Iterable[str]) -> Iterator[list[str]]:
    remaining = iter(digests)
    while batch := list(islice(remaining, _BATCH)):
        yield batch
