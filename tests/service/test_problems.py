"""Every error is a problem document, whatever went wrong and wherever."""

from typing import Any

import pytest
from starlette.testclient import TestClient

from api_schemas.errors import ErrorCode, Problem
from service.context import Context
from store.errors import UnavailableError
from tests.service.conftest import MakeClient, context_of

MISSING = "mdl_" + "0" * 26


def problem(answer: Any) -> Problem:
    assert answer.headers["content-type"] == "application/problem+json"
    found = Problem.model_validate(answer.json())
    assert found.status == answer.status_code
    assert found.type == f"urn:lookahead:problem:{found.code}"
    return found


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (None, "The body: Field required"),
        ("[]", "The body: Input should be a valid dictionary or object to extract fields from"),
        ('{"model_id": "x"}', "/model_id: "),
        ('{"recipe": {"target": {"sparsity": 0.5, "macs": 0.5}}}', "/recipe/target: a target is exactly one"),
    ],
)
def test_refusals_read_as_sentences(client: TestClient, body: str | None, detail: str) -> None:
    answer = client.post("/v1/jobs", content=body, headers={"Content-Type": "application/json"})
    found = problem(answer)
    assert detail in " ".join(f"{error.pointer or 'The body'}: {error.message}" for error in found.errors)
    assert found.detail.startswith(("The body: ", "/"))
    assert "Value error" not in answer.text


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "not_found"),
        ("GET", "/v1/nowhere", 404, "not_found"),
        ("GET", f"/v1/models/{MISSING}", 404, "not_found"),
        ("GET", "/v1/models/%00", 404, "not_found"),
        ("GET", "/v1/models/%F0%9F%98%80", 404, "not_found"),
        ("GET", "/static/nothing.css", 404, "not_found"),
        ("GET", "/ui/jobs/nonsense", 404, "not_found"),
        ("PUT", "/v1/jobs", 405, "invalid_recipe"),
        ("POST", "/", 405, "invalid_recipe"),
        ("GET", "/v1/models?limit=x", 422, "invalid_recipe"),
        ("POST", "/v1/jobs", 422, "invalid_recipe"),
        ("POST", "/v1/prune", 400, "invalid_recipe"),
    ],
)
def test_errors_of_every_kind(client: TestClient, method: str, path: str, status: int, code: str) -> None:
    found = problem(client.request(method, path))
    assert (found.status, found.code) == (status, code)
    assert found.instance == path.split("?")[0].replace("%00", "\0").replace("%F0%9F%98%80", "😀")


@pytest.mark.parametrize(
    ("path", "allowed"),
    [("/v1/jobs", "GET, POST"), (f"/v1/models/{MISSING}", "DELETE, GET"), ("/v1/jobs/x/model", "GET, HEAD")],
)
def test_405_names_every_method_of_the_address(client: TestClient, path: str, allowed: str) -> None:
    assert client.patch(path).headers["allow"] == allowed


def test_a_fault_of_ours_tells_nothing_but_an_id(
    make_client: MakeClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    client = make_client()

    def broken(*_: Any) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(context_of(client).store.models, "get", broken)
    answer = client.get(f"/v1/models/{MISSING}")
    found = problem(answer)
    assert (found.status, found.code) == (500, ErrorCode.INTERNAL)
    assert "secret" not in answer.text
    assert found.instance is not None
    assert found.instance.startswith("urn:uuid:")
    assert found.instance in caplog.text
    assert "secret detail" in caplog.text


def test_a_database_that_is_away_is_503(
    client: TestClient, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any) -> None:
        raise UnavailableError("connection refused")

    monkeypatch.setattr(context.store.models, "get", away)
    answer = client.get(f"/v1/models/{MISSING}")
    assert (problem(answer).status, answer.headers["retry-after"]) == (503, "5")


def test_many_field_errors_are_cut(client: TestClient) -> None:
    layers = {f"layer{number}": {"sparsity": 9} for number in range(500)}
    document = {"model_id": MISSING, "recipe": {"layers": layers}}
    found = problem(client.post("/v1/jobs", json=document))
    assert len(found.errors) == 50
    assert found.errors[0].pointer == "/recipe/layers/layer0/sparsity"


def test_pointers_escape_slashes_and_tildes(client: TestClient) -> None:
    document = {"model_id": MISSING, "recipe": {"layers": {"a/b~c": {"sparsity": 9}}}}
    assert problem(client.post("/v1/jobs", json=document)).errors[0].pointer == (
        "/recipe/layers/a~1b~0c/sparsity"
    )
