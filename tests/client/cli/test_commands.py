"""Each command in process, against a scripted server."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from client.cli.app import app
from tests.client import answers
from tests.client.scripted import Answered, Asked, answer, problem, serving, stream

MODEL = b"pruned model"
DIGEST = hashlib.sha256(MODEL).hexdigest()
METHOD = {"axis": "criterion", "name": "magnitude", "description": "Large is\ngood.\n\nMore."}
METHOD |= {"parameters": {"properties": {"name": {}, "power": {}}}}


class Service:
    """Takes a job and has it end at once, as `final`."""

    def __init__(self, final: str = "succeeded", **report: Any) -> None:
        self.final = final
        self.report = report

    def __call__(self, asked: Asked) -> Answered:
        place = asked.path.removeprefix("/v1/")
        if place == "prune":
            return answer(answers.job(), 202)
        if place == f"jobs/{answers.JOB_ID}":
            return answer(answers.job(self.final))
        if place.endswith("/cancel"):
            return (
                problem(409, "conflict")
                if self.final == "succeeded"
                else answer(answers.job(self.final), 202)
            )
        if place.endswith("/events"):
            events = [answers.event(1, stage="scoring"), answers.event(2, "status", status=self.final)]
            if asked.headers["accept"] == "application/json":
                return answer(
                    {"items": [e for e in events if e["id"] > int(asked.headers.get("last-event-id", 0))]}
                )
            return stream(*(f"id: {event['id']}\ndata: {json.dumps(event)}\n\n" for event in events))
        if self.final != "succeeded":
            return problem(409, "conflict")
        if place.endswith("/report"):
            html = asked.headers["accept"] == "text/html"
            return Answered(200, {}, b"<p>page</p>") if html else answer(answers.report(**self.report))
        if place.endswith("/model"):
            return Answered(200, {"ETag": f'"{DIGEST}"'}, MODEL)
        return problem(404, "not_found")


def run(url: str, *arguments: str | Path) -> Result:
    return CliRunner(env={"LOOKAHEAD_SERVER": url}).invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.onnx").write_bytes(b"model")
    return Path("m.onnx")


def test_prune(model: Path) -> None:
    with serving(Service()) as server:
        done = run(server.url, "prune", model, "--sparsity", "0.8", "--report", "r.html")
    assert done.exit_code == 0, done.output
    assert Path("m.pruned.onnx").read_bytes() == MODEL
    assert Path("r.html").read_text() == "<p>page</p>"
    assert "80.00%" in done.stdout
    assert "m.pruned.onnx" in done.stdout
    assert done.stderr.splitlines() == [
        "uploading",
        f"job {answers.JOB_ID}",
        "scoring",
        "succeeded",
        "downloading",
    ]


def test_prune_in_json_and_quiet(model: Path) -> None:
    with serving(Service()) as server:
        done = run(
            server.url,
            "prune",
            model,
            "--sparsity",
            "0.8",
            "--json",
            "-q",
            "-o",
            "out",
            "--min-accuracy",
            "0.9",
        )
    found = json.loads(done.stdout)
    assert (done.exit_code, done.stderr) == (0, "")
    assert found["job"]["id"] == answers.JOB_ID
    assert found["output"] == "out"
    gate = {"gate": "min_accuracy", "limit": 0.9, "value": 0.95, "met": True, "reason": None}
    assert found["gates"] == [gate]


def test_prune_detached(model: Path) -> None:
    with serving(Service()) as server:
        done = run(server.url, "prune", model, "--sparsity", "0.8", "--detach", "-q")
    assert (done.exit_code, done.stdout) == (0, f"{answers.JOB_ID}\n")
    assert server.paths() == ["/v1/prune"]
    assert f"lookahead download {answers.JOB_ID}" in done.stderr


@pytest.mark.parametrize("json_wanted", [False, True])
def test_prune_that_fails(model: Path, json_wanted: bool) -> None:
    with serving(Service("failed")) as server:
        done = run(server.url, "prune", model, "-q", *(["--json"] if json_wanted else []))
    assert done.exit_code == 1
    assert not Path("m.pruned.onnx").exists()
    if json_wanted:
        error = {"code": "invalid_model", "message": "nothing to prune", "hint": "give it weights"}
        assert json.loads(done.stderr) == {"error": error}
        assert json.loads(done.stdout)["job"]["status"] == "failed"
    else:
        assert done.stderr == "error [invalid_model] nothing to prune\n  hint: give it weights\n"
        assert done.stdout == ""


@pytest.mark.parametrize(
    ("gate", "code"),
    [
        (["--min-accuracy", "0.95"], 0),
        (["--min-accuracy", "0.951"], 3),
        (["--max-accuracy-drop", "3.1"], 0),
        (["--max-accuracy-drop", "2.9"], 3),
        (["--max-size-ratio", "0.99"], 3),
        (["--max-compressed-ratio", "0.4"], 0),
        (["--max-compressed-ratio", "0.3", "--min-accuracy", "0.1"], 3),
    ],
)
def test_gates(model: Path, gate: list[str], code: int) -> None:
    with serving(Service()) as server:
        done = run(server.url, "prune", model, "-q", *gate)
    assert done.exit_code == code, done.output
    assert ("[gate]" in done.stderr) == (code == 3)
    assert Path("m.pruned.onnx").exists()


def test_time_is_up(model: Path) -> None:
    with serving(Service("running")) as server:
        done = run(server.url, "prune", model, "-q", "--timeout", "0")
    assert done.exit_code == 124
    assert f"lookahead wait {answers.JOB_ID}" in done.stderr
    assert not any(path.endswith("cancel") for path in server.paths())


@pytest.mark.parametrize(
    "arguments",
    [
        ["prune"],
        ["prune", "none.onnx"],
        ["prune", "m.onnx", "--sparsity", "80"],
        ["prune", "m.onnx", "--sparsity", "1"],
        ["prune", "m.onnx", "--input", "x"],
        ["prune", "m.onnx", "--set", "nonsense.a=1"],
        ["prune", "m.onnx", "--detach", "--min-accuracy", "0.5"],
        ["prune", "m.onnx", "--detach", "--local"],
        ["show"],
        ["methods", "nonsense"],
        ["nonsense"],
        ["jobs", "--status", "nonsense"],
    ],
)
def test_usage_errors(model: Path, arguments: list[str]) -> None:
    with serving(Service()) as server:
        done = run(server.url, *arguments)
    assert done.exit_code == 2, done.output
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert server.asked == []


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (problem(401, "unauthorized"), 4),
        (problem(500, "internal"), 4),
        (problem(500, "time_limit"), 4),
        (problem(507, "payload_too_large"), 4),
        (problem(413, "payload_too_large"), 1),
        (problem(429, "rate_limited", Retry_After="999"), 4),
        (problem(404, "not_found"), 2),
        (problem(422, "invalid_recipe"), 2),
        (problem(422, "needs_dataset"), 2),
        (problem(422, "invalid_model"), 1),
        (problem(415, "unsupported_format"), 1),
        (Answered(200, {}, b"<html>"), 4),
    ],
)
def test_exit_codes_of_refusals(model: Path, reply: Answered, code: int) -> None:
    with serving(lambda asked: reply) as server:
        done = run(server.url, "prune", model, "--sparsity", "0.5")
    assert done.exit_code == code, done.output
    assert "error [" in done.stderr


def test_field_errors_are_listed(model: Path) -> None:
    body = (
        b'{"detail": "d", "code": "invalid_recipe", "errors": [{"pointer": "/recipe/x", "message": "odd"}]}'
    )
    with serving(lambda asked: Answered(422, {}, body)) as server:
        assert "  /recipe/x: odd" in run(server.url, "prune", model).stderr
        error = json.loads(run(server.url, "prune", model, "--json", "-q").stderr)["error"]
    assert error["errors"] == [{"pointer": "/recipe/x", "message": "odd"}]


def test_nobody_there(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("client.retry.RetryPolicy.backoff", lambda self, attempt: 0.0)
    done = run("http://127.0.0.1:9", "jobs")
    assert done.exit_code == 4
    assert "[unreachable]" in done.stderr


def test_jobs() -> None:
    page = {"items": [answers.job("failed"), answers.job("running", stage="scoring")], "next_cursor": "abc"}
    with serving(lambda asked: answer(page)) as server:
        shown = run(server.url, "jobs", "--status", "failed", "--limit", "2")
        raw = run(server.url, "jobs", "--json")
    assert server.asked[0].query == {"status": "failed", "limit": "2"}
    assert "lookahead sparsity 0.8" in shown.stdout
    assert "scoring" in shown.stdout
    assert "--cursor abc" in shown.stderr
    assert json.loads(raw.stdout)["next_cursor"] == "abc"


def test_show() -> None:
    with serving(Service("failed")) as server:
        done = run(server.url, "show", answers.JOB_ID)
        raw = run(server.url, "show", answers.JOB_ID, "--json")
    assert done.exit_code == 0
    assert "[invalid_model] nothing to prune" in done.stdout
    assert json.loads(raw.stdout)["status"] == "failed"


def test_show_how_far_a_job_is() -> None:
    far = {"stage": "recovering", "progress": {"done": 120, "total": 400, "unit": "steps"}}
    running = answers.job("running", checkpoint_at=answers.NOW, **far)
    with serving(lambda asked: answer(running)) as server:
        shown = run(server.url, "show", answers.JOB_ID).stdout.splitlines()
    told = dict(line.split(maxsplit=1) for line in shown)
    assert told["stage"] == "recovering" and told["progress"] == "120/400 steps"
    assert told["checkpoint"] == told["created"]


@pytest.mark.parametrize(("final", "code"), [("succeeded", 0), ("failed", 1), ("cancelled", 1)])
def test_wait(final: str, code: int) -> None:
    with serving(Service(final)) as server:
        done = run(server.url, "wait", answers.JOB_ID, "-q")
        raw = run(server.url, "wait", answers.JOB_ID, answers.JOB_ID, "-q", "--json")
    assert done.exit_code == raw.exit_code == code
    assert done.stdout == f"{answers.JOB_ID}  {final}\n"
    assert [job["status"] for job in json.loads(raw.stdout)["items"]] == [final, final]


def test_cancel() -> None:
    with serving(Service("running")) as server:
        assert "asked to stop" in run(server.url, "cancel", answers.JOB_ID).stdout
    with serving(Service("succeeded")) as server:
        assert run(server.url, "cancel", answers.JOB_ID).exit_code == 2


def test_report(tmp_path: Path) -> None:
    with serving(Service()) as server:
        text = run(server.url, "report", answers.JOB_ID)
        assert json.loads(run(server.url, "report", answers.JOB_ID, "--json").stdout)["achieved"] == 0.8
        assert run(server.url, "report", answers.JOB_ID, "--html").stdout == "<p>page</p>\n"
        run(server.url, "report", answers.JOB_ID, "-o", tmp_path / "r.json")
    assert "conv1" in text.stdout and "80.09%" in text.stdout and "excluded" in text.stdout
    assert json.loads((tmp_path / "r.json").read_text())["job_id"] == answers.JOB_ID
    with serving(Service("failed")) as server:
        assert run(server.url, "report", answers.JOB_ID).exit_code == 1


def test_download(tmp_path: Path) -> None:
    with serving(Service()) as server:
        done = run(server.url, "download", answers.JOB_ID, "-o", tmp_path / "x.onnx", "-q", "--json")
    assert json.loads(done.stdout) == {"path": str(tmp_path / "x.onnx"), "size_bytes": len(MODEL)}


def test_methods_and_presets() -> None:
    preset = {"name": "lookahead", "description": "Best.", "recipe": {"criterion": {"name": "lookahead"}}}
    with serving(lambda asked: answer({"items": [METHOD if "methods" in asked.path else preset]})) as server:
        methods, presets = run(server.url, "methods", "criterion"), run(server.url, "presets")
        assert json.loads(run(server.url, "methods", "recovery", "--json").stdout) == {"items": []}
        assert json.loads(run(server.url, "presets", "--json").stdout)["items"] == [preset]
    assert (
        methods.stdout.split()
        == "axis name parameters what it does criterion magnitude power Large is good.".split()
    )
    assert "Best." in presets.stdout


def test_inspect(model: Path) -> None:
    digest = hashlib.sha256(b"model").hexdigest()
    layer = {"name": "evil\x1b[31m", "op": "Conv", "weight": "w", "shape": [2, 3], "parameters": 6}
    layer |= {"prunable": False, "reason": "too small"}
    seen = answers.model(digest, inspected=True, layers=[layer], inputs=[{"name": "x", "dtype": "float32"}])
    with serving(lambda asked: answer(seen, 201)) as server:
        done = run(server.url, "inspect", model)
        by_id = run(server.url, "inspect", answers.MODEL_ID, "--json")
    assert done.exit_code == 0
    assert "too small" in done.stdout and "2×3" in done.stdout
    assert "\x1b" not in done.stdout
    assert server.paths("POST") == ["/v1/models"]
    assert json.loads(by_id.stdout)["id"] == answers.MODEL_ID
    broken = answers.model(inspection_error={"code": "invalid_model", "message": "torn"})
    with serving(lambda asked: answer(broken)) as server:
        assert run(server.url, "inspect", answers.MODEL_ID).exit_code == 1


def test_validate(model: Path) -> None:
    digest = hashlib.sha256(b"model").hexdigest()
    plan: dict[str, Any] = {
        "valid": True,
        "recipe": answers.PARTS,
        "layers": [{"name": "conv1", "op": "Conv", "shape": [2], "parameters": 2, "sparsity": 0.5}],
        "refusals": [{"layer": "head", "reason": "asked for"}],
    }

    def script(asked: Asked) -> Answered:
        return answer(answers.model(digest), 201) if asked.path == "/v1/models" else answer(plan)

    with serving(script) as server:
        done = run(server.url, "validate", model, "--sparsity", "0.5", "--data", answers.DATASET_ID)
    assert done.exit_code == 0, done.output
    assert "50.00%" in done.stdout and "asked for" in done.stdout
    sent = server.asked[-1].json()
    assert (sent["model_id"], sent["dataset_id"]) == (answers.MODEL_ID, answers.DATASET_ID)
    plan |= {"valid": False, "error": {"code": "needs_dataset", "message": "data!"}}
    with serving(script) as server:
        bad = run(server.url, "validate", answers.MODEL_ID, "--json", "-q")
    assert bad.exit_code == 1
    assert json.loads(bad.stderr)["error"]["code"] == "needs_dataset"


def test_faults_of_our_own_end_in_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr("client.cli.jobs.Lookahead", broken)
    done = run("http://127.0.0.1:9", "jobs")
    assert done.exit_code == 1
    assert done.stderr.startswith("error [internal] ZeroDivisionError: oops\n  hint: ")
    assert "Traceback" not in done.stderr
