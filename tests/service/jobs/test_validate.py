"""`POST /v1/jobs/validate`: a worker's answer, or why there is none."""

import threading
import time
from typing import Any

import pytest
from starlette.testclient import TestClient

from api_schemas.errors import ErrorCode, JobError
from api_schemas.jobs import JobStatus, Validation
from service.context import Context
from store.records import JobKind, Outcome
from tests.service.conftest import MakeClient, RecordingDoorbell, context_of
from tests.service.files import onnx_bytes
from tests.service.jobs.requests import body
from tests.service.workers import Hand

PLAN: dict[str, Any] = {
    "layers": [
        {"name": "conv1", "op": "Conv", "shape": [4], "parameters": 36, "sparsity": 0.8, "pruned": 29}
    ],
    "refusals": [{"layer": "bn", "reason": "batch norm is not pruned"}],
    "sparsity": 0.8,
}


@pytest.fixture
def inspected(hand: Hand, model_id: str) -> str:
    hand.inspect()
    return model_id


def answer_later(hand: Hand, outcome: Outcome | JobError) -> threading.Thread:
    def work() -> None:
        while (claim := hand.store.jobs.claim("hand", kinds=[JobKind.PLAN])) is None:
            time.sleep(0.01)
        if isinstance(outcome, JobError):
            hand.store.jobs.fail(claim, outcome, retry=False)
        else:
            hand.store.jobs.finish(claim, outcome)

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_a_plan_comes_back(
    client: TestClient, hand: Hand, inspected: str, doorbell: RecordingDoorbell
) -> None:
    thread = answer_later(hand, Outcome(plan=PLAN))
    answer = client.post("/v1/jobs/validate", json=body(inspected))
    thread.join()
    found = Validation.model_validate(answer.json())
    assert (answer.status_code, found.valid, found.error) == (200, True, None)
    assert found.layers[0].pruned == 29
    assert found.refusals[0].reason == "batch norm is not pruned"
    assert found.recipe.criterion.name == "lookahead"
    assert client.get("/v1/jobs").json()["items"] == []
    assert len(doorbell.rung) == 2


def test_a_plan_that_fails_is_an_answer_too(client: TestClient, hand: Hand, inspected: str) -> None:
    error = JobError(code=ErrorCode.INVALID_MODEL, message="Nothing is left to prune.")
    thread = answer_later(hand, error)
    answer = client.post("/v1/jobs/validate", json=body(inspected))
    thread.join()
    assert (answer.status_code, answer.json()["valid"]) == (200, False)
    assert answer.json()["error"]["code"] == "invalid_model"


def test_what_is_wrong_with_the_request_is_told_at_once(client: TestClient, inspected: str) -> None:
    answer = client.post("/v1/jobs/validate", json=body(inspected, preset="nonsense"))
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/recipe/preset")


def test_without_a_worker_it_is_503_and_the_plan_is_withdrawn(make_client: MakeClient) -> None:
    client = make_client(validate_seconds=0.05)
    context: Context = context_of(client)
    model_id = client.post("/v1/models", content=onnx_bytes()).json()["id"]
    answer = client.post("/v1/jobs/validate", json=body(model_id))
    assert (answer.status_code, answer.json()["code"]) == (503, "time_limit")
    assert int(answer.headers["retry-after"]) > 0
    plans = context.store.jobs.list(kind=JobKind.PLAN).items
    assert [plan.status for plan in plans] == [JobStatus.CANCELLED]
