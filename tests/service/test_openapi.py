"""The OpenAPI document is true: schemathesis looks for answers that it does not describe."""

import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from hypothesis.stateful import run_state_machine_as_test
from schemathesis.config import SchemathesisConfig
from schemathesis.generation import GenerationMode
from schemathesis.openapi.loaders import from_asgi
from starlette.types import ASGIApp, Receive, Scope, Send

from api_schemas.errors import ErrorCode
from service.app import create_app
from service.settings import ServiceSettings
from store.records import JobKind, Outcome
from tests.service.catalogue import small_catalogue
from tests.service.conftest import MakeClient
from tests.service.workers import Hand

#: No schema can say which bytes are a model and which preset exists: such input is rightly refused.
_REFUSALS = ["2xx", "400", "404", "409", "413", "415", "422", "503"]
_CONFIG: dict[str, Any] = {
    "checks": {"positive_data_acceptance": {"expected-statuses": _REFUSALS}},
    "generation": {"max-examples": 12, "deterministic": True},
}


def without_lifespan(app: ASGIApp) -> ASGIApp:
    """Schemathesis opens a client per call; the application must not start and stop with each."""

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await app(scope, receive, send)
            return
        while (await receive())["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})

    return serve


def work(hand: Hand, stop: threading.Event) -> None:
    """Ends every job at once, so that streams end too."""
    while not stop.is_set():
        claim = hand.store.jobs.claim("robot")
        if claim is None:
            stop.wait(0.02)
        elif claim.job.kind is JobKind.PRUNE:
            hand.finish(claim)
        else:
            plan = {} if claim.job.kind is JobKind.PLAN else None
            hand.store.jobs.finish(claim, Outcome(plan=plan))


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    folder: Path = tmp_path_factory.mktemp("openapi")
    app = create_app(
        ServiceSettings(data_dir=folder / "data", poll_seconds=0.01, reserve_bytes=0, validate_seconds=5),
        catalogue=small_catalogue,
    )
    stop = threading.Event()
    hand = Hand(app.state.context.store, folder)
    thread = threading.Thread(target=work, args=(hand, stop))
    thread.start()
    config = SchemathesisConfig.from_dict(_CONFIG)
    yield from_asgi("/openapi.json", without_lifespan(app), config=config)
    stop.set()
    thread.join()
    app.state.context.store.close()


CONTRACT = (
    "POST /v1/models", "GET /v1/models", "GET /v1/models/{model_id}", "DELETE /v1/models/{model_id}",
    "POST /v1/datasets", "GET /v1/datasets", "GET /v1/datasets/{dataset_id}",
    "DELETE /v1/datasets/{dataset_id}",
    "POST /v1/jobs", "GET /v1/jobs", "GET /v1/jobs/{job_id}", "POST /v1/jobs/{job_id}/cancel",
    "GET /v1/jobs/{job_id}/events", "GET /v1/jobs/{job_id}/report", "GET /v1/jobs/{job_id}/model",
    "HEAD /v1/jobs/{job_id}/model", "POST /v1/jobs/validate", "POST /v1/prune",
    "GET /v1/methods", "GET /v1/presets", "GET /livez", "GET /readyz", "GET /metrics",
)  # fmt: skip
_settings = settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
@pytest.mark.parametrize("label", CONTRACT)
def test_every_answer_is_documented(api: Any, label: str, mode: GenerationMode) -> None:
    """Without schemathesis's own pytest plugin, which does not go with this pytest."""
    method, path = label.split()
    operation = api[path][method.lower()]

    @_settings
    @given(case=operation.as_strategy(generation_mode=mode))
    def run(case: Any) -> None:
        case.call_and_validate()

    try:
        run()
    except Unsatisfiable:
        assert mode is GenerationMode.NEGATIVE  # nothing about this call can be wrong


def test_chains_of_calls_are_documented_too(api: Any) -> None:
    """Uploads feed jobs, jobs feed events and reports: links that schemathesis finds in the document."""
    machine = api.as_state_machine()
    chain = settings(_settings, max_examples=15, stateful_step_count=8)
    run_state_machine_as_test(machine, settings=chain)


@pytest.fixture
def document(make_client: MakeClient) -> dict[str, Any]:
    found: dict[str, Any] = make_client().get("/openapi.json").json()
    return found


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield path, method, operation


def test_the_contract_is_there_whole(document: dict[str, Any]) -> None:
    found = {f"{method.upper()} {path}" for path, method, _ in operations(document)}
    assert found == set(CONTRACT)


def test_it_is_openapi_3_1_with_distinct_ids_and_words(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1")
    ids = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(set(ids)) == len(ids)
    assert all(operation.get("description") for _, _, operation in operations(document))


def test_every_error_is_a_problem_document(document: dict[str, Any]) -> None:
    for path, _, operation in operations(document):
        for status, response in operation["responses"].items():
            if status >= "400" and not (path == "/readyz" and status == "503"):
                assert list(response["content"]) == ["application/problem+json"], (path, status)
    codes = document["components"]["schemas"]["ErrorCode"]["enum"]
    assert set(codes) == {code.value for code in ErrorCode}
    assert all(f"`{code.value}`" in document["info"]["description"] for code in ErrorCode)


def test_references_resolve(document: dict[str, Any]) -> None:
    import json

    used = set(re.findall(r"#/components/schemas/([\w-]+)", json.dumps(document)))
    assert used <= set(document["components"]["schemas"])
    assert "HTTPValidationError" not in used


def test_keys_are_documented_where_they_are_asked_for(make_client: MakeClient) -> None:
    document = make_client(api_keys=("k",)).get("/openapi.json").json()
    for path, _, operation in operations(document):
        assert ("security" in operation) is path.startswith("/v1")
        assert ("401" in operation["responses"]) is path.startswith("/v1")


def test_examples_are_valid(document: dict[str, Any]) -> None:
    from api_schemas.jobs import JobRequest
    from service.jobs.examples import JOB_EXAMPLES

    content = document["paths"]["/v1/jobs"]["post"]["requestBody"]["content"]["application/json"]
    assert set(content["examples"]) == set(JOB_EXAMPLES)
    for example in content["examples"].values():
        JobRequest.model_validate(example["value"])
