"""What the client calls is what the service offers, by the service's own OpenAPI document."""

import inspect
import re
from pathlib import Path
from typing import Any

import pytest

from api_schemas.jobs import JobOptions, JobRequest, JobStatus
from client import endpoints
from client.uploads import ModelFiles
from client.wire import Call
from service.app import create_app
from service.settings import ServiceSettings
from tests.client import answers

OPTIONS: dict[str, Any] = {"recipe": {"preset": "lookahead", "target": {"sparsity": 0.8}}}
REQUEST = JobRequest.model_validate(OPTIONS | {"model_id": answers.MODEL_ID})
ONE, TWO = ModelFiles(Path("a.onnx")), ModelFiles(Path("a.onnx"), (("b", Path("b")),))
CALLS = {
    "upload_model": endpoints.upload_model(ONE),
    "upload_model_parts": endpoints.upload_model(TWO),
    "upload_dataset": endpoints.upload_dataset(Path("d.npz")),
    "prune": endpoints.prune(TWO, Path("d.npz"), JobOptions.model_validate(OPTIONS), None),
    "model": endpoints.model(answers.MODEL_ID),
    "models": endpoints.models("cursor", 5),
    "delete_model": endpoints.delete_model(answers.MODEL_ID),
    "submit": endpoints.submit(REQUEST),
    "validate": endpoints.validate(REQUEST),
    "job": endpoints.job(answers.JOB_ID, 5),
    "jobs": endpoints.jobs(JobStatus.FAILED, "cursor", 5),
    "cancel": endpoints.cancel(answers.JOB_ID),
    "events": endpoints.events(answers.JOB_ID, 3),
    "event_stream": endpoints.event_stream(answers.JOB_ID, 3),
    "report": endpoints.report(answers.JOB_ID),
    "report_page": endpoints.report_page(answers.JOB_ID),
    "download": endpoints.download(answers.JOB_ID, {}),
    "methods": endpoints.methods(),
    "presets": endpoints.presets(),
}


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return create_app(ServiceSettings(data_dir=tmp_path_factory.mktemp("data"))).openapi()


def _operation(document: dict[str, Any], call: Call) -> dict[str, Any]:
    for template, operations in document["paths"].items():
        pattern = re.sub(r"\\\{[^}]*\\\}", "[^/]+", re.escape(template))
        if re.fullmatch(pattern, call.path) and "{" not in call.path and call.method.lower() in operations:
            found: dict[str, Any] = operations[call.method.lower()]
            return found
    raise AssertionError(f"the service has no {call.method} {call.path}")


def test_every_endpoint_is_tried_here() -> None:
    functions = {name for name, member in vars(endpoints).items() if inspect.isfunction(member)}
    own = {name for name in functions if getattr(endpoints, name).__module__ == endpoints.__name__}
    assert {name for name in own if name[0] != "_"} == set(CALLS) - {"upload_model_parts"}


@pytest.mark.parametrize("name", CALLS)
def test_paths_parameters_and_bodies(document: dict[str, Any], name: str) -> None:
    call = CALLS[name]
    operation = _operation(document, call)
    known = {found["name"] for found in operation.get("parameters", []) if found["in"] == "query"}
    assert set(call.params) <= known
    content = operation.get("requestBody", {}).get("content", {})
    if call.json is not None:
        assert "application/json" in content
    elif call.upload is None:
        assert not content
    elif call.upload.raw is not None:
        assert call.headers["Content-Type"] in content
    else:
        schema = content["multipart/form-data"]["schema"]
        if "$ref" in schema:
            schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        names = {part for part, _, _ in call.upload.parts} | set(call.upload.fields)
        assert names <= set(schema["properties"])
