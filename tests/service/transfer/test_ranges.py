"""Ranges and conditions against a direct reading of RFC 9110."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers

from service.transfer.ranges import Span, UnsatisfiableRangeError, is_unchanged, requested_span

ETAG = '"abc"'


def span(value: str, size: int = 1000, **headers: str) -> Span | None:
    return requested_span(Headers({"range": value, **headers}), size, ETAG)


@given(size=st.integers(1, 500), first=st.integers(0, 600), last=st.integers(0, 600))
def test_a_range_selects_the_bytes_that_slicing_selects(size: int, first: int, last: int) -> None:
    content = bytes(index % 251 for index in range(size))
    if last < first:
        if first < size:
            assert span(f"bytes={first}-{last}", size) is None
        return
    if first >= size:
        with pytest.raises(UnsatisfiableRangeError):
            span(f"bytes={first}-{last}", size)
        return
    found = span(f"bytes={first}-{last}", size)
    assert found is not None
    assert content[found.start : found.end] == content[first : last + 1]


@given(size=st.integers(1, 500), length=st.integers(1, 600))
def test_a_suffix_selects_the_last_bytes(size: int, length: int) -> None:
    assert span(f"bytes=-{length}", size) == Span(max(0, size - length), size)


def test_an_open_range_goes_to_the_end() -> None:
    assert span("bytes=990-") == Span(990, 1000)


@pytest.mark.parametrize(
    "value",
    ["", "bytes=", "bytes=-", "bytes=a-b", "items=0-1", "bytes=0-1,5-6", "bytes=²-3", f"bytes={'9' * 5000}-"],
)
def test_what_cannot_be_read_means_the_whole(value: str) -> None:
    assert span(value) is None


@pytest.mark.parametrize("value", ["bytes=1000-", "bytes=-0"])
def test_outside(value: str) -> None:
    with pytest.raises(UnsatisfiableRangeError):
        span(value)


def test_no_byte_of_an_empty_file_can_be_had() -> None:
    with pytest.raises(UnsatisfiableRangeError):
        span("bytes=-5", 0)


@pytest.mark.parametrize("condition", ['"other"', 'W/"abc"', "Wed, 21 Oct 2026 07:28:00 GMT"])
def test_if_range_with_anything_but_our_tag_means_the_whole(condition: str) -> None:
    assert span("bytes=0-1", **{"if-range": condition}) is None


def test_if_range_with_our_tag() -> None:
    assert span("bytes=0-1", **{"if-range": ETAG}) == Span(0, 2)


@pytest.mark.parametrize(
    ("value", "unchanged"),
    [(ETAG, True), (f"W/{ETAG}", True), ("*", True), ('"x", "abc"', True), ('"x"', False), ("", False)],
)
def test_if_none_match(value: str, unchanged: bool) -> None:
    assert is_unchanged(Headers({"if-none-match": value}), ETAG) is unchanged
