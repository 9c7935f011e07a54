"""The report and the pruned file: negotiation, ranges, digests, and 409 before there is any."""

import base64
import hashlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from api_schemas.errors import ErrorCode
from tests.service.jobs.requests import body
from tests.service.workers import PAGE, PRUNED, REPORT, Hand

DIGEST = hashlib.sha256(PRUNED).hexdigest()


@pytest.fixture
def job_id(client: TestClient, hand: Hand, model_id: str) -> str:
    hand.inspect()
    found: str = client.post("/v1/jobs", json=body(model_id)).json()["id"]
    return found


@pytest.fixture
def done(hand: Hand, job_id: str) -> str:
    hand.finish(hand.start())
    return job_id


def test_the_job_links_to_what_there_is(client: TestClient, done: str) -> None:
    job = client.get(f"/v1/jobs/{done}").json()
    assert (job["status"], job["summary"]["sparsity"]) == ("succeeded", 0.8)
    assert client.get(job["links"]["report"]).json() == REPORT
    assert client.get(job["links"]["model"]).content == PRUNED


def test_the_page_is_sandboxed(client: TestClient, done: str) -> None:
    answer = client.get(f"/v1/jobs/{done}/report", headers={"Accept": "text/html,*/*;q=0.1"})
    assert answer.content == PAGE
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("sandbox;")
    assert "allow-scripts" not in policy
    assert answer.headers["vary"] == "Accept"


def test_the_file_comes_with_its_digest_and_name(client: TestClient, done: str) -> None:
    answer = client.get(f"/v1/jobs/{done}/model")
    assert answer.content == PRUNED
    assert answer.headers["etag"] == f'"{DIGEST}"'
    value = answer.headers["repr-digest"].removeprefix("sha-256=:").removesuffix(":")
    assert base64.b64decode(value).hex() == DIGEST
    assert answer.headers["content-length"] == str(len(PRUNED))
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["content-disposition"].startswith('attachment; filename="net.onnx"')


def test_head_says_the_same_without_the_body(client: TestClient, done: str) -> None:
    got, head = client.get(f"/v1/jobs/{done}/model"), client.head(f"/v1/jobs/{done}/model")
    assert (head.status_code, head.content) == (200, b"")
    assert dict(head.headers) == dict(got.headers)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(first=st.integers(0, len(PRUNED) - 1), length=st.integers(1, len(PRUNED)))
def test_ranges(client: TestClient, done: str, first: int, length: int) -> None:
    answer = client.get(f"/v1/jobs/{done}/model", headers={"Range": f"bytes={first}-{first + length - 1}"})
    expected = PRUNED[first : first + length]
    assert (answer.status_code, answer.content) == (206, expected)
    assert answer.headers["content-range"] == f"bytes {first}-{first + len(expected) - 1}/{len(PRUNED)}"
    assert answer.headers["etag"] == f'"{DIGEST}"'


def test_a_range_outside_is_416(client: TestClient, done: str) -> None:
    answer = client.get(f"/v1/jobs/{done}/model", headers={"Range": f"bytes={len(PRUNED)}-"})
    assert (answer.status_code, answer.json()["status"]) == (416, 416)
    assert answer.headers["content-range"] == f"bytes */{len(PRUNED)}"


def test_a_stale_if_range_gives_the_whole(client: TestClient, done: str) -> None:
    headers = {"Range": "bytes=5-", "If-Range": '"stale"'}
    assert client.get(f"/v1/jobs/{done}/model", headers=headers).content == PRUNED
    headers["If-Range"] = f'"{DIGEST}"'
    assert client.get(f"/v1/jobs/{done}/model", headers=headers).content == PRUNED[5:]


def test_not_modified(client: TestClient, done: str) -> None:
    answer = client.get(f"/v1/jobs/{done}/model", headers={"If-None-Match": f'"{DIGEST}"'})
    assert (answer.status_code, answer.content) == (304, b"")
    assert answer.headers["etag"] == f'"{DIGEST}"'


@pytest.mark.parametrize("what", ["report", "model"])
def test_nothing_to_fetch_before_the_end(client: TestClient, hand: Hand, job_id: str, what: str) -> None:
    answer = client.get(f"/v1/jobs/{job_id}/{what}")
    assert (answer.status_code, answer.json()["code"]) == (409, "conflict")
    assert "queued" in answer.json()["detail"]
    hand.start()
    assert "running" in client.get(f"/v1/jobs/{job_id}/{what}").json()["detail"]


@pytest.mark.parametrize("what", ["report", "model"])
def test_a_failed_job_tells_why_there_is_nothing(
    client: TestClient, hand: Hand, job_id: str, what: str
) -> None:
    hand.fail(hand.start(), ErrorCode.OUT_OF_MEMORY)
    answer = client.get(f"/v1/jobs/{job_id}/{what}")
    assert (answer.status_code, answer.json()["code"]) == (409, "conflict")
    assert "out_of_memory: Too slow." in answer.json()["detail"]
    assert answer.json()["hint"] == "Wait."
    assert client.get(f"/v1/jobs/{job_id}").json()["error"]["code"] == "out_of_memory"


def test_a_hostile_file_name_stays_one_header(client: TestClient, hand: Hand, job_id: str) -> None:
    hand.finish(hand.start(), filename='a"b\r\nX-Evil: 1;é.onnx')
    answer = client.get(f"/v1/jobs/{job_id}/model")
    assert answer.content == PRUNED
    assert "x-evil" not in answer.headers


def test_a_cancelled_job_says_once_that_it_was_cancelled(
    client: TestClient, hand: Hand, model_id: str
) -> None:
    hand.inspect()
    job = client.post("/v1/jobs", json=body(model_id)).json()["id"]
    client.post(f"/v1/jobs/{job}/cancel")
    answer = client.get(f"/v1/jobs/{job}/model")
    assert (answer.status_code, answer.json()["code"]) == (409, "conflict")
    assert answer.json()["detail"] == "The job has been cancelled; it has no result."
