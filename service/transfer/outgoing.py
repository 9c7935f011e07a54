"""Stored blobs as responses: strong ETag, ranges, digests, in constant memory."""

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from service.errors import RangeError
from service.transfer.digests import repr_digest
from service.transfer.names import content_disposition
from service.transfer.ranges import Span, UnsatisfiableRangeError, is_unchanged, requested_span
from store.blobs import BlobStore
from store.records import BlobRef

_BLOCK = 2**20
_IMMUTABLE = "private, max-age=31536000, immutable"


def etag_of(sha256: str) -> str:
    """The strong entity tag of content with that digest."""
    return f'"{sha256}"'


def blob_response(request: Request, blobs: BlobStore, blob: BlobRef) -> Response:
    """The blob for a GET or HEAD: 200, 206 or 304. Raises `RangeError` (416) for a range outside it."""
    etag = etag_of(blob.sha256)
    if is_unchanged(request.headers, etag):
        return Response(status_code=304, headers={"ETag": etag, "Cache-Control": _IMMUTABLE})
    span = _span(request, blob, etag)
    headers = _headers(blob, etag) | _length(span, blob.size_bytes)
    status = 206 if span else 200
    media_type = "application/octet-stream"
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers, media_type=media_type)
    chosen = span or Span(0, blob.size_bytes)
    body = blobs.stream(blob.sha256, chosen.start, chosen.end, _BLOCK)
    return StreamingResponse(body, status, headers, media_type)


def _span(request: Request, blob: BlobRef, etag: str) -> Span | None:
    try:
        return requested_span(request.headers, blob.size_bytes, etag)
    except UnsatisfiableRangeError as error:
        outside = {"Content-Range": f"bytes */{blob.size_bytes}"}
        raise RangeError("The range lies outside the file.", headers=outside) from error


def _headers(blob: BlobRef, etag: str) -> dict[str, str]:
    return {
        "ETag": etag,
        "Accept-Ranges": "bytes",
        "Repr-Digest": repr_digest(blob.sha256),
        "Content-Disposition": content_disposition(blob.filename),
        "Cache-Control": _IMMUTABLE,
        "X-Content-Type-Options": "nosniff",
    }


def _length(span: Span | None, size: int) -> dict[str, str]:
    if span is None:
        return {"Content-Length": str(size)}
    return {
        "Content-Length": str(span.end - span.start),
        "Content-Range": f"bytes {span.start}-{span.end - 1}/{size}",
    }
