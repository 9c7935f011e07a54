"""`POST /v1/prune`: one form instead of three requests, and the same checks."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from api_schemas.jobs import Job
from tests.service.conftest import RecordingDoorbell
from tests.service.files import digits, onnx_bytes

OPTIONS = {"recipe": {"preset": "lookahead", "target": {"sparsity": 0.8}}}


def prune(client: TestClient, options: Any = OPTIONS, key: str | None = None, **files: bytes) -> Any:
    parts: dict[str, Any] = {name: (f"{name}.bin", data) for name, data in files.items()}
    data = {"request": options if isinstance(options, str) else json.dumps(options)}
    headers = {"Idempotency-Key": key} if key else {}
    return client.post("/v1/prune", files=parts, data=data, headers=headers)


def nothing_was_made(client: TestClient) -> bool:
    return all(client.get(f"/v1/{kind}").json()["items"] == [] for kind in ("models", "datasets", "jobs"))


def test_one_call_makes_model_dataset_and_job(client: TestClient, doorbell: RecordingDoorbell) -> None:
    answer = prune(client, {**OPTIONS, "metadata": {"a": "b"}}, file=onnx_bytes(), dataset=digits())
    job = Job.model_validate(answer.json())
    assert answer.status_code == 202, answer.text
    assert answer.headers["location"] == f"/v1/jobs/{job.id}"
    assert client.get(f"/v1/models/{job.model_id}").json()["filename"] == "file.bin"
    assert client.get(f"/v1/datasets/{job.dataset_id}").json()["rows"] == 6
    assert job.metadata == {"a": "b"}
    assert job.id in doorbell.rung


def test_external_data_goes_along(client: TestClient) -> None:
    job = prune(client, file=onnx_bytes(), external_data=b"weights").json()
    assert client.get(f"/v1/models/{job['model_id']}").json()["filename"] == "file.bin.zip"


@pytest.mark.parametrize(
    ("options", "status", "pointer"),
    [
        ("{", 400, None),
        ("[]", 422, "/request"),
        ({}, 422, "/request/recipe"),
        ({"recipe": {"preset": "nonsense"}}, 422, "/recipe/preset"),
        ({"recipe": {"preset": "lookahead", "typo": 1}}, 422, "/request/recipe/typo"),
        ({**OPTIONS, "model_id": "mdl_x"}, 422, "/request/model_id"),
    ],
)
def test_a_bad_request_part_stores_nothing(
    client: TestClient, options: Any, status: int, pointer: str | None
) -> None:
    answer = prune(client, options, file=onnx_bytes())
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (status, "invalid_recipe")
    assert [error["pointer"] for error in problem["errors"]] == ([pointer] if pointer else [])
    assert nothing_was_made(client)


@pytest.mark.parametrize(
    ("files", "status"),
    [
        ({"file": b"no model"}, 415),
        ({"file": onnx_bytes(), "dataset": b"no data"}, 415),
        ({"file": b"no model", "dataset": digits()}, 415),
        ({"dataset": digits()}, 422),
        ({"file": onnx_bytes(), "extra": b""}, 422),
    ],
)
def test_bad_files(
    client: TestClient, staging_files: Callable[[], list[Path]], files: dict[str, bytes], status: int
) -> None:
    assert prune(client, **files).status_code == status
    assert nothing_was_made(client)
    assert staging_files() == []


def test_a_missing_request_part(client: TestClient) -> None:
    answer = client.post("/v1/prune", files={"file": ("m", onnx_bytes())})
    assert answer.json()["errors"][0]["pointer"] == "/request"


def test_only_forms_are_taken(client: TestClient) -> None:
    assert client.post("/v1/prune", content=onnx_bytes()).status_code == 400


def test_a_key_makes_one_job_of_equal_forms(client: TestClient) -> None:
    first = prune(client, key="k", file=onnx_bytes(), dataset=digits())
    again = prune(client, key="k", file=onnx_bytes(), dataset=digits())
    assert again.json() == first.json()
    assert again.headers["idempotency-replayed"] == "true"
    assert len(client.get("/v1/models").json()["items"]) == 1
    other = prune(client, key="k", file=onnx_bytes(b"other"), dataset=digits())
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_mismatch")
