"""Conditional requests and byte ranges (RFC 9110 §13, §14) for content that never changes."""

import re
from dataclasses import dataclass
from typing import final

from starlette.datastructures import Headers

_RANGE = re.compile(r"\s*bytes\s*=\s*(\d*)\s*-\s*(\d*)\s*", re.IGNORECASE | re.ASCII)
_LONGEST_NUMBER = 19


@final
@dataclass(frozen=True)
class Span:
    """Bytes `start` up to but not including `end`."""

    start: int
    end: int


@final
class UnsatisfiableRangeError(Exception):
    """No byte of the content lies in the range."""


def requested_span(headers: Headers, size: int, etag: str) -> Span | None:
    """The part asked for, or None for the whole.

    A malformed range, several ranges at once and a stale `If-Range` mean the whole, as the RFC allows.
    Raises `UnsatisfiableRangeError` when the range lies outside the content.
    """
    if headers.get("if-range", etag).strip() != etag:
        return None
    match = _RANGE.fullmatch(headers.get("range", ""))
    if match is None or max(map(len, match.groups())) > _LONGEST_NUMBER:
        return None
    first, last = match.groups()
    if first:
        return _from_first(int(first), int(last) if last else size - 1, size)
    return _suffix(int(last), size) if last else None


def _from_first(first: int, last: int, size: int) -> Span | None:
    if first >= size:
        raise UnsatisfiableRangeError
    return Span(first, min(last + 1, size)) if last >= first else None


def _suffix(length: int, size: int) -> Span:
    if length == 0 or size == 0:
        raise UnsatisfiableRangeError
    return Span(max(0, size - length), size)


def is_unchanged(headers: Headers, etag: str) -> bool:
    """True when `If-None-Match` names this content, compared weakly."""
    candidates = [item.strip().removeprefix("W/") for item in headers.get("if-none-match", "").split(",")]
    return "*" in candidates or etag in candidates
