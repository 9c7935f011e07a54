"""The store as one object: rows and blobs of one deployment."""

from typing import final

from store import garbage, schema
from store.blobs import BlobStore
from store.checkpoints import CheckpointStore
from store.database import Database
from store.datasets import DatasetStore
from store.errors import StoreError
from store.jobs import JobStore
from store.models import ModelStore
from store.settings import StoreSettings
from store.workers import WorkerStore


@final
class Store:
    """Everything that API and workers share. Synchronous, and safe to share between threads.

    Open one per process; do not carry it over a fork.
    """

    def __init__(self, settings: StoreSettings, database: Database) -> None:
        self.settings = settings
        self.blobs = BlobStore(settings.effective_blobs_url, settings.data_dir)
        self.checkpoints = CheckpointStore(self.blobs)
        self.models = ModelStore(database)
        self.datasets = DatasetStore(database)
        self.jobs = JobStore(database, settings)
        self.workers = WorkerStore(database)
        self._database = database

    def ping(self) -> None:
        """Ask the database for a sign of life. Raises `StoreError`."""
        self._database.ping()

    def collect_garbage(self, grace_seconds: float) -> tuple[str, ...]:
        """Delete the blobs that no row names and that were published before the grace period.

        Gives their digests. The period must exceed the time from `blobs.publish` to the commit of the
        row: an hour is plenty. Checkpoints that no job needs any more go as well.
        """
        removed = garbage.collect(self._database, self.blobs, grace_seconds)
        garbage.collect_checkpoints(self._database, self.checkpoints, grace_seconds)
        return removed

    def close(self) -> None:
        """Close the connections."""
        self._database.close()


def open_store(settings: StoreSettings, *, migrate: bool = True) -> Store:
    """Open the store; with `migrate`, bring its tables up to date first.

    Any number of processes may do so at once. Raises `StoreError` when the database cannot be reached.
    """
    try:
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        database = Database(settings.effective_database_url)
        store = Store(settings, database)
    except OSError as error:
        raise StoreError(f"The folders of the store cannot be made: {error}") from error
    if migrate:
        schema.upgrade(database.engine)
    return store
