"""Files by their SHA-256: published whole or not at all, the same content once.

Local folders, memory, S3, GCS and Azure through obstore. A blob never changes after it is published.
"""

import hashlib
import os
import re
import shutil
import stat
import time
from collections.abc import Iterator
from copy import copy
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, final
from urllib.parse import urlsplit
from urllib.request import url2pathname
from uuid import uuid4

import obstore
from obstore.exceptions import BaseError, NotFoundError
from obstore.store import LocalStore, ObjectStore, from_url

from store.errors import BlobError
from store.records import BlobRef

if TYPE_CHECKING:
    from obstore.store import RetryConfig

_DIGEST = re.compile(r"[0-9a-f]{64}")
_MEBIBYTE = 1024 * 1024
# Multipart: ten thousand parts of this at most, and four of them in memory at a time.
_PART_BYTES = 8 * _MEBIBYTE
_PARTS_AT_ONCE = 4
_WINDOW_BYTES = 64 * _MEBIBYTE
_RETRY: "RetryConfig" = {"max_retries": 4, "retry_timeout": timedelta(seconds=30)}
_ROOT = "sha256"


@final
class BlobStore:
    """Blobs at `sha256/ab/<digest>`. May be shared by threads and processes.

    `url` is `file:///path`, `memory:///` (this process only) or a bucket. Files on their way in wait in
    `staging_dir()`: beside the blobs for `file`, so that publishing is a rename; else in `data_dir`.
    """

    def __init__(self, url: str, data_dir: Path) -> None:
        self._root = _local_root(url)
        self._staging = (self._root or data_dir.absolute()) / "staging"
        self._staging.mkdir(parents=True, exist_ok=True)
        self._store: ObjectStore = LocalStore(self._root) if self._root else _remote(url)
        self._folder = _ROOT

    def below(self, folder: str) -> "BlobStore":
        """The same store with addresses below `folder`: equal blobs here and there are two.

        So whoever owns the folder may delete in it without a look at who else names an equal blob.
        """
        other = copy(self)
        other._folder = folder
        return other

    def publish(self, path: Path, filename: str, sha256: str | None = None) -> BlobRef:
        """Put the file under its digest; when this returns it is durable.

        A file inside `staging_dir()` is consumed; any other is copied first and left alone, so that
        whoever may still hold it open cannot change the blob. Raises `BlobError` when the content does
        not have the digest `sha256`, or cannot be stored.
        """
        try:
            if self._owns(path):
                return self._publish_staged(path, filename, sha256, _digest(path))
            staged = self._staging / uuid4().hex
            try:
                return self._publish_staged(staged, filename, sha256, _copy(path, staged))
            finally:
                staged.unlink(missing_ok=True)
        except (OSError, BaseError) as error:
            raise BlobError(f"The file {filename!r} cannot be stored: {_first_line(error)}") from error

    def fetch(self, sha256: str, to: Path) -> None:
        """Copy the blob to a file, which is there only if its digest was right. Raises `BlobError`."""
        digest = hashlib.sha256()
        try:
            with to.open("wb") as file:
                for chunk in self.stream(sha256):
                    digest.update(chunk)
                    file.write(chunk)
            if digest.hexdigest() != sha256:
                raise BlobError(f"The blob {sha256} is damaged: its digest is {digest.hexdigest()}.")
        except BaseException as error:
            to.unlink(missing_ok=True)
            if isinstance(error, OSError):
                raise BlobError(f"The blob {sha256} cannot be fetched: {_first_line(error)}") from error
            raise

    def read(self, sha256: str) -> bytes:
        """The content of a small blob, whole and checked. Raises `BlobError`."""
        content = b"".join(self.stream(sha256))
        if hashlib.sha256(content).hexdigest() != sha256:
            raise BlobError(f"The blob {sha256} is damaged.")
        return content

    def stream(
        self, sha256: str, start: int = 0, end: int | None = None, chunk: int = _MEBIBYTE
    ) -> Iterator[bytes]:
        """The bytes from `start` up to, not including, `end` (None: to the last), at most `chunk` at a time.

        Not checked against the digest. Raises `BlobError` at once when the blob is missing.
        """
        stop = self.size(sha256) if end is None else min(end, self.size(sha256))
        if start < 0 or chunk < 1:
            raise ValueError("a range begins at 0 or later, and a chunk has at least one byte")
        return self._pieces(sha256, start, stop, chunk)

    def size(self, sha256: str) -> int:
        """Bytes. Raises `BlobError` when there is no such blob."""
        return int(self._head(sha256)["size"])

    def exists(self, sha256: str) -> bool:
        """Whether there is such a blob. Raises `BlobError` when the store does not answer."""
        try:
            obstore.head(self._store, self._address(sha256))
        except (NotFoundError, FileNotFoundError):
            return False
        except (OSError, BaseError) as error:
            raise BlobError(f"The blob store does not answer: {_first_line(error)}") from error
        return True

    def delete(self, sha256: str) -> None:
        """Remove the blob, if it is there. Only garbage collection should."""
        try:
            obstore.delete(self._store, self._address(sha256))
        except (NotFoundError, FileNotFoundError):
            return
        except (OSError, BaseError) as error:
            raise BlobError(f"The blob {sha256} cannot be deleted: {_first_line(error)}") from error

    def clear(self) -> None:
        """Remove every blob. Only for folders `below`. Raises `BlobError`."""
        try:
            for batch in obstore.list(self._store, prefix=self._folder):
                obstore.delete(self._store, [meta["path"] for meta in batch])
            if self._root is not None:
                shutil.rmtree(self._root / self._folder, ignore_errors=True)  # what is left are empty folders
        except (NotFoundError, FileNotFoundError):
            return  # another process was faster
        except (OSError, BaseError) as error:
            raise BlobError(f"The blob store does not answer: {_first_line(error)}") from error

    def folders(self) -> tuple[str, ...]:
        """Names of the folders directly below this one's. Raises `BlobError`."""
        try:
            found = obstore.list_with_delimiter(self._store, prefix=self._folder)
        except (NotFoundError, FileNotFoundError):
            return ()
        except (OSError, BaseError) as error:
            raise BlobError(f"The blob store does not answer: {_first_line(error)}") from error
        return tuple(path.rpartition("/")[2] for path in found["common_prefixes"])

    def old(self, older_than_seconds: float) -> Iterator[str]:
        """Digests of the blobs last published longer ago than that, by the blob store's clock."""
        before = datetime.now(UTC) - timedelta(seconds=older_than_seconds)
        for batch in obstore.list(self._store, prefix=self._folder):
            for meta in batch:
                digest = meta["path"].rpartition("/")[2]
                if meta["last_modified"] <= before and _DIGEST.fullmatch(digest):
                    yield digest

    def is_old(self, sha256: str, older_than_seconds: float) -> bool:
        """Whether the blob was last published longer ago than that. Raises `BlobError` when it is gone."""
        modified: datetime = self._head(sha256)["last_modified"]
        return modified <= datetime.now(UTC) - timedelta(seconds=older_than_seconds)

    def staging_dir(self) -> Path:
        """The local folder for uploads in flight."""
        return self._staging

    def sweep_staging(self, older_than_seconds: float) -> int:
        """Remove what crashes have left in staging, if not written to for that long. Gives the number."""
        before = time.time() - older_than_seconds
        swept = 0
        for entry in self._staging.iterdir():
            try:
                if entry.lstat().st_mtime > before:
                    continue
                if entry.is_dir() and not entry.is_symlink():
                    shutil.rmtree(entry)
                else:
                    entry.unlink()
            except FileNotFoundError:  # another sweep, or its owner, was faster
                continue
            swept += 1
        return swept

    def _owns(self, path: Path) -> bool:
        """Whether the file may be moved: it lies in staging, under this one name. No links are published."""
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode):
            raise BlobError(f"{path.name!r} is not a regular file.")
        return self._staging in path.absolute().parents and status.st_nlink == 1

    def _publish_staged(self, staged: Path, filename: str, expected: str | None, actual: str) -> BlobRef:
        if expected is not None and expected != actual:
            raise BlobError(f"The file {filename!r} has digest {actual}, not {expected}.")
        blob = BlobRef(actual, staged.stat().st_size, filename)
        if self._root is None:
            obstore.put(
                self._store,
                self._address(actual),
                staged,
                chunk_size=_PART_BYTES,
                max_concurrency=_PARTS_AT_ONCE,
            )
            staged.unlink()
        else:
            _rename_durably(staged, self._root / self._address(actual))
        return blob

    def _address(self, sha256: str) -> str:
        if not _DIGEST.fullmatch(sha256):
            raise BlobError(f"{sha256!r} is not a SHA-256 digest.")
        return f"{self._folder}/{sha256[:2]}/{sha256}"

    def _head(self, sha256: str) -> Any:
        try:
            return obstore.head(self._store, self._address(sha256))
        except (OSError, BaseError) as error:
            raise BlobError(f"There is no blob {sha256}: {_first_line(error)}") from error

    def _pieces(self, sha256: str, start: int, stop: int, chunk: int) -> Iterator[bytes]:
        try:
            if self._root is not None:
                yield from _slice(self._root / self._address(sha256), start, stop, chunk)
                return
            # One request per window, because the time-out of a request covers its whole body.
            for offset in range(start, stop, _WINDOW_BYTES):
                wanted = (offset, min(offset + _WINDOW_BYTES, stop))
                result = obstore.get(self._store, self._address(sha256), options={"range": wanted})
                for piece in result.stream(min_chunk_size=chunk):
                    whole = memoryview(piece)
                    yield from (bytes(whole[at : at + chunk]) for at in range(0, len(whole), chunk))
        except (OSError, BaseError) as error:
            raise BlobError(f"The blob {sha256} cannot be read: {_first_line(error)}") from error


def _remote(url: str) -> ObjectStore:
    try:
        return from_url(url) if url.startswith("memory:") else from_url(url, retry_config=_RETRY)
    except (BaseError, ValueError) as error:
        raise BlobError(f"The blob store cannot be opened: {_first_line(error)}") from error


def _local_root(url: str) -> Path | None:
    parts = urlsplit(url)
    if parts.scheme != "file":
        return None
    root = Path(url2pathname(parts.path))
    root.mkdir(parents=True, exist_ok=True)
    return root.resolve()


def _slice(path: Path, start: int, stop: int, chunk: int) -> Iterator[bytes]:
    """Read directly, without obstore's copies; the file stays readable when it is deleted meanwhile."""
    with path.open("rb") as file:
        file.seek(start)
        while start < stop and (piece := file.read(min(chunk, stop - start))):
            start += len(piece)
            yield piece


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _copy(source: Path, target: Path) -> str:
    """Copy with constant memory; gives the digest of what was written."""
    digest = hashlib.sha256()
    with source.open("rb") as reader, target.open("xb") as writer:
        while chunk := reader.read(_MEBIBYTE):
            digest.update(chunk)
            writer.write(chunk)
    return digest.hexdigest()


def _rename_durably(staged: Path, target: Path) -> None:
    """Move within one file system. The file is on disk before its name is, and its name before we return.

    The fresh modification time tells garbage collection that equal content was published again.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    os.utime(staged)
    staged.chmod(0o444)
    _sync(staged)
    staged.replace(target)
    _sync(target.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
