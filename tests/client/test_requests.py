"""What goes over the wire for each method."""

import hashlib
import json
from email.parser import BytesParser
from pathlib import Path
from typing import Any

import pytest

from api_schemas.jobs import JobStatus
from client import DigestMismatchError, LocalFileError, ProtocolError
from tests.client import answers
from tests.client.scripted import Answered, Asked, answer, problem, serving


def _parts(asked: Asked) -> list[tuple[str, str | None, bytes]]:
    head = b"Content-Type: " + asked.headers["content-type"].encode() + b"\r\n\r\n"
    message = BytesParser().parsebytes(head + asked.body)
    return [
        (
            str(part.get_param("name", header="content-disposition")),
            part.get_filename(),
            part.get_payload(decode=True),
        )
        for part in message.get_payload()
    ]


SIMPLE: list[tuple[str, tuple[Any, ...], dict[str, Any], str, str, Any]] = [
    ("model", (answers.MODEL_ID,), {}, "GET", f"/v1/models/{answers.MODEL_ID}", answers.model()),
    ("models", (), {}, "GET", "/v1/models", {"items": [answers.model()], "next_cursor": "c"}),
    ("job", (answers.JOB_ID,), {}, "GET", f"/v1/jobs/{answers.JOB_ID}", answers.job()),
    ("jobs", (), {"status": JobStatus.FAILED}, "GET", "/v1/jobs", {"items": [answers.job("failed")]}),
    ("cancel", (answers.JOB_ID,), {}, "POST", f"/v1/jobs/{answers.JOB_ID}/cancel", answers.job("cancelled")),
    ("report", (answers.JOB_ID,), {}, "GET", f"/v1/jobs/{answers.JOB_ID}/report", answers.report()),
    ("methods", (), {}, "GET", "/v1/methods", {"items": []}),
    ("presets", (), {}, "GET", "/v1/presets", {"items": []}),
]


@pytest.mark.parametrize(
    ("method", "args", "more", "verb", "path", "body"), SIMPLE, ids=[s[0] for s in SIMPLE]
)
def test_simple_calls(
    call: Any, method: str, args: tuple[Any, ...], more: dict[str, Any], verb: str, path: str, body: Any
) -> None:
    with serving(lambda asked: answer(body)) as server:
        found = call(server.url, method, *args, **more)
    (asked,) = server.asked
    assert (asked.method, asked.path) == (verb, path)
    assert asked.headers["authorization"] == "Bearer key"
    assert ("idempotency-key" in asked.headers) == (verb == "POST")
    shown = (
        found.model_dump(mode="json", exclude_unset=True)
        if hasattr(found, "model_dump")
        else {"items": found}
    )
    assert shown == body


def test_status_filter_and_cursor_travel(call: Any) -> None:
    with serving(lambda asked: answer({"items": []})) as server:
        call(server.url, "jobs", status=JobStatus.RUNNING, cursor="abc", limit=7)
    assert server.asked[0].query == {"status": "running", "cursor": "abc", "limit": "7"}


def test_delete_takes_204(call: Any) -> None:
    with serving(lambda asked: Answered(204)) as server:
        assert call(server.url, "delete_model", answers.MODEL_ID) is None
    assert server.paths("DELETE") == [f"/v1/models/{answers.MODEL_ID}"]


def test_an_id_cannot_leave_its_path_segment(call: Any) -> None:
    with serving(lambda asked: answer(answers.job())) as server:
        call(server.url, "job", "../models?x=1")
    assert server.paths() == ["/v1/jobs/..%2Fmodels%3Fx%3D1"]


def test_raw_upload(call: Any, tmp_path: Path) -> None:
    content = bytes(range(256)) * 20_000  # several chunks
    file = tmp_path / "ein Modell.onnx"
    file.write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    moved: list[tuple[int, int]] = []
    with serving(lambda asked: answer(answers.model(digest), 201)) as server:
        found = call(
            server.url, "upload_model", file, on_bytes=lambda done, total: moved.append((done, total))
        )
    (asked,) = server.asked
    assert found.sha256 == digest
    assert asked.body == content
    assert asked.headers["content-length"] == str(len(content))
    assert asked.headers["content-type"] == "application/octet-stream"
    assert asked.query == {"filename": "ein Modell.onnx"}
    assert moved[-1] == (len(content), len(content))
    assert [done for done, _ in moved] == sorted(done for done, _ in moved)


@pytest.mark.parametrize(
    ("method", "body"), [("upload_model", answers.model), ("upload_dataset", answers.dataset)]
)
def test_a_file_stored_as_another_is_refused(call: Any, tmp_path: Path, method: str, body: Any) -> None:
    file = tmp_path / "m.onnx"
    file.write_bytes(b"abc")
    with serving(lambda asked: answer(body("1" * 64), 201)) as server, pytest.raises(DigestMismatchError):
        call(server.url, method, file)


def test_external_data_goes_as_parts(call: Any, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"graph")
    (tmp_path / "w.data").write_bytes(b"weights\r\n--x")
    (tmp_path / ".hidden").write_bytes(b"no")
    with serving(lambda asked: answer(answers.model(), 201)) as server:
        call(server.url, "upload_model", tmp_path)
        call(server.url, "upload_model", tmp_path / "m.onnx", external_data=[tmp_path / "w.data"])
    for asked in server.asked:
        assert _parts(asked) == [("file", "m.onnx", b"graph"), ("external_data", "w.data", b"weights\r\n--x")]


def test_one_call_prune(call: Any, tmp_path: Path) -> None:
    (tmp_path / "m.pt").write_bytes(b"model")
    (tmp_path / "d.npz").write_bytes(b"data")
    with serving(lambda asked: answer(answers.job(), 202)) as server:
        found = call(
            server.url,
            "prune",
            tmp_path / "m.pt",
            preset="lookahead",
            sparsity=0.8,
            dataset=tmp_path / "d.npz",
            inputs={"x": [1, 3]},
            metadata={"a": "b"},
            webhook="https://example.test/hook",
        )
    parts = {name: (filename, body) for name, filename, body in _parts(server.asked[0])}
    assert found.id == answers.JOB_ID
    assert parts["file"] == ("m.pt", b"model")
    assert parts["dataset"] == ("d.npz", b"data")
    assert json.loads(parts["request"][1]) == {
        "recipe": {"preset": "lookahead", "target": {"sparsity": 0.8}},
        "inputs": {"x": [1, 3]},
        "metadata": {"a": "b"},
        "webhook": {"url": "https://example.test/hook"},
    }


@pytest.mark.parametrize("method", ["submit", "validate"])
def test_submit_and_validate_send_the_same(call: Any, method: str) -> None:
    validation = {"valid": True, "recipe": answers.PARTS}
    with serving(lambda asked: answer(validation if method == "validate" else answers.job(), 202)) as server:
        call(
            server.url,
            method,
            answers.MODEL_ID,
            recipe={"criterion": {"name": "taylor", "order": 2}},
            sparsity=0.5,
        )
    assert server.asked[0].json() == {
        "model_id": answers.MODEL_ID,
        "recipe": {"criterion": {"name": "taylor", "order": 2}, "target": {"sparsity": 0.5}},
    }


def test_inspect_waits_for_the_inspection(call: Any) -> None:
    states = iter([answers.model(), answers.model(inspected=True, parameters=9, layers=[])])
    with serving(lambda asked: answer(next(states))) as server:
        assert call(server.url, "inspect", answers.MODEL_ID, timeout=20).parameters == 9
    assert len(server.asked) == 2


def test_missing_files_are_named_before_anything_is_sent(call: Any, tmp_path: Path) -> None:
    with serving(lambda asked: problem(500, "internal")) as server:
        for path in (tmp_path / "none.onnx", tmp_path):
            with pytest.raises(LocalFileError, match=path.name):
                call(server.url, "upload_model", path)
        (tmp_path / "m.onnx").touch()
        (tmp_path / "sub").mkdir()
        with pytest.raises(LocalFileError, match="directories"):
            call(server.url, "upload_model", tmp_path)
    assert server.asked == []


@pytest.mark.parametrize("body", [b"<html>", b'{"id": 3}', b"[]"])
def test_answers_outside_the_contract(call: Any, body: bytes) -> None:
    with (
        serving(lambda asked: Answered(200, {}, body)) as server,
        pytest.raises(ProtocolError, match="contract"),
    ):
        call(server.url, "job", answers.JOB_ID)


def test_redirects_are_not_followed(call: Any) -> None:
    elsewhere = Answered(307, {"Location": "http://elsewhere.test/"})
    with serving(lambda asked: elsewhere) as server, pytest.raises(ProtocolError, match=r"elsewhere\.test"):
        call(server.url, "job", answers.JOB_ID)
