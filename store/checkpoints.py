"""Checkpoint files: each job's in a folder of its own, so that nobody else's equal file is in the way."""

from pathlib import Path
from typing import Final, final

from store.blobs import BlobStore
from store.records import BlobRef

_FOLDER: Final = "checkpoints"


@final
class CheckpointStore:
    """Blobs at `checkpoints/<job>/…`. Which of them counts is in the job's row; the others are rubbish."""

    def __init__(self, blobs: BlobStore) -> None:
        self._blobs = blobs

    def publish(self, job_id: str, path: Path) -> BlobRef:
        """Keep the file; it is durable when this returns. Raises `BlobError`."""
        return self._of(job_id).publish(path, "checkpoint.zip")

    def fetch(self, job_id: str, sha256: str, to: Path) -> None:
        """Copy a checkpoint to a file, checked against its digest. Raises `BlobError`."""
        self._of(job_id).fetch(sha256, to)

    def remove(self, job_id: str, sha256: str) -> None:
        """Remove one that was replaced."""
        self._of(job_id).delete(sha256)

    def discard(self, job_id: str) -> None:
        """Remove all that the job has saved."""
        self._of(job_id).clear()

    def jobs(self) -> tuple[str, ...]:
        """The jobs that have files here."""
        return self._blobs.below(_FOLDER).folders()

    def remove_others(self, job_id: str, named: str | None, older_than_seconds: float) -> int:
        """Remove what killed workers have left beside the checkpoint that counts; the number removed."""
        strays = [sha256 for sha256 in self._of(job_id).old(older_than_seconds) if sha256 != named]
        for sha256 in strays:
            self.remove(job_id, sha256)
        return len(strays)

    def _of(self, job_id: str) -> BlobStore:
        return self._blobs.below(f"{_FOLDER}/{job_id}")
