"""Request bodies streamed to disk in constant memory, with quota, digests, idle and rate limits."""

import errno
import hashlib
import shutil
import tempfile
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, final

import anyio
from anyio.to_thread import run_sync
from starlette.requests import Request

from service.context import Context
from service.errors import BadRequestError, SlowUploadError, StorageFullError, TooLargeError
from service.transfer.digests import BodyDigest
from store.blobs import BlobStore
from store.errors import BlobError
from store.records import BlobRef

_FLUSH = 2**20


@final
@dataclass(frozen=True)
class Received:
    """An uploaded file on local disk."""

    path: Path
    filename: str
    size_bytes: int
    sha256: str


@asynccontextmanager
async def staging(context: Context) -> AsyncIterator[Path]:
    """A private directory on the blob store's own disk; gone afterwards, whatever happened."""
    root = await run_sync(context.store.blobs.staging_dir)
    directory = Path(await run_sync(lambda: tempfile.mkdtemp(prefix="upload-", dir=root)))
    try:
        yield directory
    except (OSError, BlobError) as error:
        if _is_disk_full(error) or _is_disk_full(error.__cause__):
            raise StorageFullError("The disk is full; nothing of the upload was kept.") from error
        raise
    finally:
        with anyio.CancelScope(shield=True):
            await run_sync(lambda: shutil.rmtree(directory, ignore_errors=True))


def _is_disk_full(error: BaseException | None) -> bool:
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


async def body_chunks(request: Request, context: Context, directory: Path) -> AsyncIterator[bytes]:
    """The body in chunks as they come.

    Raises `TooLargeError`, `StorageFullError`, `SlowUploadError`, and `InvalidRequestError` when the body
    is not the one that `Content-Digest` or `Repr-Digest` promised.
    """
    _refuse_encoding(request)
    await _check_room(request, context, directory)
    digest = BodyDigest.from_headers(request.headers)
    pace = _Pace(context)
    stream = aiter(request.stream())
    while chunk := await _next_chunk(stream, context.settings.upload_idle_seconds):
        pace.count(len(chunk))
        digest.update(chunk)
        yield chunk
    digest.verify()


def _refuse_encoding(request: Request) -> None:
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise BadRequestError("Content-Encoding is not taken for uploads; send the file as it is.")


async def _check_room(request: Request, context: Context, directory: Path) -> None:
    """Refuse before the first byte what is announced to be too much."""
    settings = context.settings
    declared = request.headers.get("content-length", "")
    announced = int(declared) if declared.isdigit() else 0
    if announced > settings.max_upload_bytes:
        raise TooLargeError(f"The upload is larger than the limit of {settings.max_upload_bytes:,} bytes.")
    free = (await run_sync(shutil.disk_usage, directory)).free
    if announced + settings.reserve_bytes > free:
        raise StorageFullError("The disk has no room for an upload of this size.")


async def _next_chunk(stream: AsyncIterator[bytes], seconds: float) -> bytes:
    try:
        with anyio.fail_after(seconds):
            return await anext(stream, b"")
    except TimeoutError as error:
        raise SlowUploadError(f"The upload stood still for {seconds:g} seconds.") from error


@final
class _Pace:
    """Ends uploads that are too large or crawl."""

    def __init__(self, context: Context) -> None:
        self._settings = context.settings
        self._metrics = context.metrics
        self._received = 0
        self._started = time.monotonic()

    def count(self, size: int) -> None:
        """Take note of a chunk. Raises `TooLargeError` or `SlowUploadError`."""
        self._received += size
        self._metrics.bytes_in.inc(size)
        limit = self._settings.max_upload_bytes
        if self._received > limit:
            raise TooLargeError(f"The upload is larger than the limit of {limit:,} bytes.")
        elapsed = time.monotonic() - self._started
        least = elapsed * self._settings.upload_min_bytes_per_second
        if elapsed > self._settings.upload_idle_seconds and self._received < least:
            raise SlowUploadError("The upload was too slow.")


@final
class FileSink:
    """One file being received: writes in blocks from a thread, hashing as they pass."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size_bytes = 0
        self._sha256 = hashlib.sha256()
        self._pending = bytearray()
        self._file: IO[bytes] = path.open("xb")

    async def write(self, data: bytes) -> None:
        """Take some bytes; they reach the file in blocks of a megabyte."""
        self._pending += data
        if len(self._pending) >= _FLUSH:
            await self._flush()

    async def finish(self, filename: str) -> Received:
        """Write what is left and close."""
        await self._flush()
        self._file.close()
        return Received(self.path, filename, self.size_bytes, self._sha256.hexdigest())

    def close(self) -> None:
        """Close without finishing."""
        self._file.close()

    async def _flush(self) -> None:
        block, self._pending = bytes(self._pending), bytearray()
        await run_sync(self._write, block)

    def _write(self, block: bytes) -> None:
        self._file.write(block)
        self._sha256.update(block)
        self.size_bytes += len(block)


async def receive_raw(chunks: AsyncIterator[bytes], path: Path, filename: str) -> Received:
    """The whole body as one file at `path`."""
    sink = FileSink(path)
    try:
        async for chunk in chunks:
            await sink.write(chunk)
        return await sink.finish(filename)
    finally:
        sink.close()


def publish(blobs: BlobStore, received: Received, filename: str) -> BlobRef:
    """Hand the file over to the blob store, which takes what lies right in its staging folder by renaming."""
    staged = blobs.staging_dir() / uuid.uuid4().hex
    received.path.replace(staged)
    try:
        return blobs.publish(staged, filename, received.sha256 or None)
    finally:
        staged.unlink(missing_ok=True)
