"""Garbage collection by reference: a blob that no row names goes."""

from collections.abc import Collection, Iterable, Iterator
from functools import partial
from itertools import islice

from sqlalchemy import select, union
from sqlalchemy.orm import Session

from store.blobs import BlobStore
from store.database import Database
from store.tables import ArtefactRow, DatasetRow, ModelRow

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


def _named(session: Session, digests: Collection[str]) -> set[str]:
    columns = (ModelRow.sha256, DatasetRow.sha256, ArtefactRow.sha256)
    return set(session.scalars(union(*(select(column).where(column.in_(digests)) for column in columns))))


def _batches(digests: Iterable[str]) -> Iterator[list[str]]:
    remaining = iter(digests)
    while batch := list(islice(remaining, _BATCH)):
        yield batch
