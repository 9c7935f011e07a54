"""Downloads that survive cuts: a part file named by job and digest, Range and If-Range, sha256, a rename."""

import hashlib
import os
import re
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Callable
from dataclasses import dataclass
from email.message import Message
from itertools import count
from pathlib import Path
from typing import TypeVar, final
from urllib.parse import unquote

from httpx2 import Headers

from client import endpoints
from client.errors import ApiError, DigestMismatchError, LocalFileError, ProtocolError, UnreachableError
from client.flow import Close, Do, Emit, Flow, Open, Read, Sleep, do
from client.retry import RetryPolicy
from client.wire import Reply

Result = TypeVar("Result")

_DIGEST = re.compile(r'^"(?:sha256[:-])?([0-9a-f]{64})"$')
_EXACT_NAME = re.compile(r"filename\*\s*=\s*utf-8'[^']*'([^;\s]+)", re.IGNORECASE)
_CONTENT_RANGE = re.compile(r"^bytes (\d+)-\d+/(\d+|\*)$")


@final
@dataclass(frozen=True)
class Transferred:
    """Bytes on disk, and how many there will be when that is known."""

    done: int
    total: int | None


@final
class Part:
    """The bytes that have arrived so far, in ``<job id>.<sha256>.part`` beside the destination."""

    def __init__(self, path: Path, sha256: str, keep: int) -> None:
        self.path = path
        self.sha256 = sha256
        self.size = keep
        self._hash = hashlib.sha256()
        self._file = path.open("r+b" if keep else "wb")
        self._rehash(keep)

    def _rehash(self, length: int) -> None:
        while length and (data := self._file.read(min(length, 1 << 20))):
            self._hash.update(data)
            length -= len(data)
        self._file.truncate()

    def write(self, data: bytes) -> None:
        """Append."""
        self._file.write(data)
        self._hash.update(data)
        self.size += len(data)

    def close(self) -> None:
        """Keep what there is for another try."""
        self._file.close()

    def publish(self, destination: Path) -> Path:
        """Become `destination` in one step. Raises `DigestMismatchError`, and then keeps nothing."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        if self._hash.hexdigest() != self.sha256:
            self.path.unlink()
            raise DigestMismatchError(
                f"sha256 is {self._hash.hexdigest()}, the server promised {self.sha256}",
                hint="nothing was kept; try again, and look at what stands between you and the server",
            )
        return self.path.replace(destination)


@final
@dataclass(frozen=True)
class Place:
    """Where a download goes: `wanted` is a file, or a directory that takes the server's file name."""

    job_id: str
    wanted: Path

    @property
    def directory(self) -> Path:
        """Where part files lie."""
        return self.wanted if self.wanted.is_dir() else self.wanted.parent

    def part_path(self, sha256: str) -> Path:
        """Path of the part file for that content."""
        return self.directory / f"{self.job_id}.{sha256}.part"

    def left_over(self) -> tuple[str, int] | None:
        """Digest and size of what an earlier try left here."""
        for path in sorted(self.directory.glob(f"{self.job_id}.*.part")):
            digest, size = path.name.split(".")[-2], path.stat().st_size
            if len(digest) == 64 and size:
                return digest, size
        return None

    def destination(self, headers: Headers) -> Path:
        """The file to become."""
        if not self.wanted.is_dir():
            return self.wanted
        return self.wanted / (file_name(headers) or f"{self.job_id}.model")


def download(place: Place, policy: RetryPolicy) -> Flow[Path]:
    """Fetch the pruned model; emits `Transferred`. A cut is resumed as long as each try brings something.

    Raises `DigestMismatchError`, `LocalFileError`, and what requests raise.
    """
    failures = 0
    for _ in count():
        before = yield from _on_disk(place.left_over)
        try:
            return (yield from _attempt(place, before))
        except (UnreachableError, ApiError) as error:
            after = yield from _on_disk(place.left_over)
            failures = 0 if _grown(before, after) else failures + 1
            delay = policy.delay(max(0, failures - 1), error)
            if delay is None or failures > policy.retries:
                raise
        yield Close()
        yield Sleep(delay)
    raise AssertionError("count() does not end")


def _grown(before: tuple[str, int] | None, after: tuple[str, int] | None) -> bool:
    return after is not None and after[1] > (before[1] if before else 0)


def _attempt(place: Place, left_over: tuple[str, int] | None) -> Flow[Path]:
    reply: Reply = yield Open(endpoints.download(place.job_id, _range_headers(left_over)))
    if reply.status == 416 and left_over:
        return (yield from _settle(place, reply, left_over))
    reply.check()
    digest = promised_digest(reply.headers)
    start, total = _extent(reply)
    if start and (left_over is None or left_over != (digest, start)):
        raise ProtocolError(f"the server sent bytes from {start} on, which were not asked for")
    part = yield from _on_disk(lambda: _begin(place, digest, start, left_over))
    yield from _receive(part, total)
    return (yield from _on_disk(lambda: part.publish(place.destination(reply.headers))))


def _begin(place: Place, digest: str, start: int, left_over: tuple[str, int] | None) -> Part:
    if left_over and left_over[0] != digest:
        place.part_path(left_over[0]).unlink(missing_ok=True)
    return Part(place.part_path(digest), digest, keep=start)


def _range_headers(left_over: tuple[str, int] | None) -> dict[str, str]:
    if left_over is None:
        return {}
    digest, size = left_over
    return {"Range": f"bytes={size}-", "If-Range": f'"{digest}"'}


def _settle(place: Place, reply: Reply, left_over: tuple[str, int]) -> Flow[Path]:
    """The server has no bytes after ours: we hold the whole file already, or something that is none."""
    digest, size = left_over
    part = yield from _on_disk(lambda: Part(place.part_path(digest), digest, keep=size))
    return (yield from _on_disk(lambda: part.publish(place.destination(reply.headers))))


def _receive(part: Part, total: int | None) -> Flow[None]:
    try:
        while (chunk := (yield Read())) is not None:
            yield Do(_writer(part, chunk))
            yield Emit(Transferred(part.size, total))
        if total is not None and part.size < total:
            raise UnreachableError(f"the download ended after {part.size} of {total} bytes")
    except OSError as error:
        part.close()
        raise LocalFileError(f"cannot write {part.path}: {error.strerror or error}") from error
    except BaseException:
        part.close()
        raise


def _writer(part: Part, chunk: bytes) -> Callable[[], None]:
    return lambda: part.write(chunk)


def _on_disk(function: Callable[[], Result]) -> Flow[Result]:
    try:
        return (yield from do(function))
    except OSError as error:
        where = error.filename or "the file"
        raise LocalFileError(f"cannot write {where}: {error.strerror or error}") from error


def promised_digest(headers: Headers) -> str:
    """The sha256 that a strong `ETag` or a `Repr-Digest` names; both, if both are there, must agree.

    Raises `ProtocolError` when there is none or they differ: a file that cannot be checked is not taken.
    """
    tag = _DIGEST.match(headers.get("etag", "").strip())
    found = {digest for digest in (tag and tag[1], _repr_digest(headers)) if digest}
    if len(found) != 1:
        raise ProtocolError(
            "the server names no sha256 for this file" if not found else "ETag and Repr-Digest disagree"
        )
    return found.pop()


def _repr_digest(headers: Headers) -> str | None:
    """sha-256 of RFC 9530 ``Repr-Digest: sha-256=:<base64>:``."""
    match = re.search(r"(?:^|[,\s])sha-256=:([A-Za-z0-9+/=]+):", headers.get("repr-digest", ""))
    if match is None:
        return None
    try:
        return b64decode(match[1], validate=True).hex()
    except Base64Error:
        return None


def _extent(reply: Reply) -> tuple[int, int | None]:
    """(position of the first byte, size of the whole file)."""
    if reply.status != 206:
        length = reply.headers.get("content-length", "")
        return 0, int(length) if length.isdigit() else None
    match = _CONTENT_RANGE.match(reply.headers.get("content-range", ""))
    if match is None:
        raise ProtocolError("a partial answer without a usable Content-Range")
    return int(match[1]), None if match[2] == "*" else int(match[2])


def file_name(headers: Headers) -> str | None:
    """The base name in `Content-Disposition`, without any path; None when there is no usable one.

    ``filename*`` goes before ``filename``, as RFC 6266 §4.3 has it.
    """
    value = headers.get("content-disposition", "")
    exact = _EXACT_NAME.search(value)
    disposition = Message()
    disposition["content-disposition"] = value
    name = unquote(exact[1]) if exact else disposition.get_filename() or ""
    base = re.split(r"[/\\]", name)[-1].lstrip(".")
    return "".join(character for character in base if character.isprintable()) or None
