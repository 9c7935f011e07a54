"""Retries: what, how often, how long."""

import socket
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from httpx2 import Headers
from hypothesis import given
from hypothesis import strategies as st

from client import (
    ConflictError,
    InvalidRequestError,
    NotFoundError,
    RateLimitedError,
    RetryPolicy,
    ServerError,
    UnauthorizedError,
    UnreachableError,
)
from client.errors import api_error_class
from client.wire import retry_after
from tests.client import answers
from tests.client.scripted import Answered, answer, problem, serving


@given(attempt=st.integers(0, 2000))
def test_backoff_stays_within_its_bounds(attempt: int) -> None:
    policy = RetryPolicy()
    delay = policy.backoff(min(attempt, 1000))
    assert 0.375 <= delay <= 8.0
    assert delay <= 0.5 * 2 ** min(attempt, 10)


@given(attempt=st.integers(0, 10), status=st.integers(400, 599), after=st.none() | st.floats(0, 1e6))
def test_no_more_than_two_retries_and_never_a_hopeless_one(
    attempt: int, status: int, after: float | None
) -> None:
    error = api_error_class(status)("m", code="c", status=status, retry_after=after)
    delay = RetryPolicy().delay(attempt, error)
    hopeful = status in {408, 425, 429, 502, 503, 504} or after is not None
    if attempt >= 2 or not hopeful or (after is not None and after > 60):
        assert delay is None
    else:
        assert delay is not None and (after is None or delay == after)


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_passing_trouble_is_sat_out_with_one_idempotency_key(call: Any, tmp_path: Path, status: int) -> None:
    file = tmp_path / "m.onnx"
    file.write_bytes(b"abc" * 1000)
    troubles = [problem(status, "internal"), problem(status, "internal")]
    with serving(lambda asked: troubles.pop() if troubles else answer(answers.job(), 202)) as server:
        call(server.url, "prune", file, sparsity=0.5)
    keys = {asked.headers["idempotency-key"] for asked in server.asked}
    assert len(server.asked) == 3
    assert len(keys) == 1
    assert all(b"abc" * 1000 in asked.body for asked in server.asked)  # a retry sends the whole file again


def test_two_calls_have_two_keys(call: Any) -> None:
    with serving(lambda asked: answer(answers.job(), 202)) as server:
        call(server.url, "cancel", answers.JOB_ID)
        call(server.url, "cancel", answers.JOB_ID)
    assert len({asked.headers["idempotency-key"] for asked in server.asked}) == 2


def test_retry_after_is_kept(call: Any) -> None:
    troubles = [problem(429, "rate_limited", Retry_After="1")]
    began = time.monotonic()
    with serving(lambda asked: troubles.pop() if troubles else answer(answers.job())) as server:
        call(server.url, "job", answers.JOB_ID)
    assert time.monotonic() - began >= 1
    assert len(server.asked) == 2


def test_a_long_retry_after_is_handed_to_the_caller(call: Any) -> None:
    with (
        serving(lambda asked: problem(429, "rate_limited", Retry_After="3600")) as server,
        pytest.raises(RateLimitedError) as caught,
    ):
        call(server.url, "job", answers.JOB_ID)
    assert caught.value.retry_after == 3600
    assert len(server.asked) == 1


def test_a_cut_connection_is_tried_again(call: Any) -> None:
    replies = [Answered(200, {"Content-Length": "500"}, b"{", cut=1), answer(answers.job())]
    with serving(lambda asked: replies.pop(0)) as server:
        assert call(server.url, "job", answers.JOB_ID).id == answers.JOB_ID
    assert len(server.asked) == 2


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, InvalidRequestError),
        (401, UnauthorizedError),
        (403, UnauthorizedError),
        (404, NotFoundError),
        (409, ConflictError),
        (413, InvalidRequestError),
        (415, InvalidRequestError),
        (422, InvalidRequestError),
        (500, ServerError),
    ],
)
def test_refusals_are_raised_at_once(call: Any, status: int, kind: type[Exception]) -> None:
    with (
        serving(lambda asked: problem(status, "some_new_code", "because")) as server,
        pytest.raises(kind, match="because") as caught,
    ):
        call(server.url, "job", answers.JOB_ID)
    assert len(server.asked) == 1
    assert (caught.value.code, caught.value.hint) == ("some_new_code", "do better")


def test_field_errors_come_along(call: Any) -> None:
    body = b'{"detail": "d", "code": "invalid_recipe", "errors": [{"pointer": "/a", "message": "m"}]}'
    with (
        serving(lambda asked: Answered(422, {}, body)) as server,
        pytest.raises(InvalidRequestError) as caught,
    ):
        call(server.url, "job", answers.JOB_ID)
    assert [(field.pointer, field.message) for field in caught.value.errors] == [("/a", "m")]


@pytest.mark.parametrize("body", [b"<html>bad gateway</html>", b"", b"\xff\xfe", b'["x"]', b'{"errors": 3}'])
def test_errors_that_are_no_problem_documents(call: Any, body: bytes) -> None:
    with serving(lambda asked: Answered(401, {}, body)) as server, pytest.raises(UnauthorizedError) as caught:
        call(server.url, "job", answers.JOB_ID)
    assert caught.value.code == "unauthorized"
    assert caught.value.message
    assert "<" not in caught.value.message


def test_nobody_there(call: Any) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{held.getsockname()[1]}"
        with pytest.raises(UnreachableError) as caught:
            call(url, "job", answers.JOB_ID)
    assert url in caught.value.message
    assert "lookahead serve" in (caught.value.hint or "")


@given(seconds=st.integers(0, 10**6))
def test_retry_after_as_number(seconds: int) -> None:
    assert retry_after(Headers({"Retry-After": str(seconds)})) == seconds


@given(seconds=st.integers(-(10**6), 10**6))
def test_retry_after_as_date(seconds: int) -> None:
    moment = datetime.now(UTC) + timedelta(seconds=seconds)
    found = retry_after(Headers({"Retry-After": format_datetime(moment, usegmt=True)}))
    assert found == pytest.approx(max(0, seconds), abs=5)


@pytest.mark.parametrize("text", ["", "soon", "-1", "1.5", "Mon, 99 Nov 2026"])
def test_retry_after_nonsense(text: str) -> None:
    assert retry_after(Headers({"Retry-After": text})) is None
