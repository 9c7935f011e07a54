"""`--local`: the engine's own command line, once for real and otherwise as a stand-in that misbehaves."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from client.cli import local
from client.cli.app import app
from tests.client import answers
from tests.client.models import save_data, save_mlp, sparsity

WRITES = """
import json, pathlib, sys
out = pathlib.Path(sys.argv[1]); out.mkdir()
(out / "p.onnx").write_bytes(b"pruned")
(out / "r.json").write_text({report!r})
(out / "r.html").write_text("page")
print(json.dumps({result!r}))
"""


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["prune", "--local", *map(str, arguments)])


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return save_mlp(Path("m.onnx"))


def test_the_real_engine(model: Path) -> None:
    save_data(Path("d.npz"))
    done = run(
        model, "--sparsity", "0.5", "--data", "d.npz", "--report", "r.json", "--min-accuracy", "0", "--json"
    )
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["job"] is None
    assert found["gates"][0]["met"]
    assert sparsity(Path(found["output"])) == pytest.approx(0.5, abs=0.002)
    assert json.loads(Path("r.json").read_text())["achieved"] == pytest.approx(0.5, abs=0.002)


def _engine(monkeypatch: pytest.MonkeyPatch, code: str) -> list[Any]:
    seen: list[Any] = []

    def arguments(order: Any, model: Path, out: Path) -> list[str]:
        seen.append(([path.name for path in model.parent.iterdir()], real(order, model, out)))
        return [sys.executable, "-c", code, str(out)]

    real = local._arguments
    monkeypatch.setattr(local, "_arguments", arguments)
    return seen


def _result(**more: Any) -> str:
    result = {"model": "p.onnx", "report": "r.json", "page": "r.html", "summary": answers.SUMMARY} | more
    return WRITES.format(report=json.dumps(answers.report()), result=result)


def test_files_and_options_reach_the_engine(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("w.data").write_bytes(b"w")
    seen = _engine(monkeypatch, _result())
    done = run(
        model,
        "--external-data",
        "w.data",
        "--input",
        "x=1,4",
        "--preset",
        "magnitude",
        "--report",
        "r.html",
        "-o",
        ".",
    )
    assert done.exit_code == 0, done.output
    ((beside, arguments),) = seen
    assert set(beside) == {"m.onnx", "w.data"}
    assert json.loads(arguments[arguments.index("--recipe") + 1]) == {"preset": "magnitude"}
    assert json.loads(arguments[arguments.index("--inputs") + 1]) == {"x": [1, 4]}
    assert Path("m.pruned.onnx").read_bytes() == b"pruned"
    assert Path("r.html").read_text() == "page"


@pytest.mark.parametrize(
    ("code", "expected", "said"),
    [
        (_result(model=None, error={"code": "invalid_model", "message": "torn", "hint": "h"}), 1, "torn"),
        (_result(model=None, error={"code": "needs_inputs", "message": "which?"}), 2, "which?"),
        (_result(model=None), 1, "no model"),
        ("import sys; sys.stderr.write('one\\ntwo'); sys.exit(5)", 1, "exit code 5"),
        ("import os; os.kill(os.getpid(), 11)", 1, "signal 11"),
        ("print('not json')", 1, "exit code 0"),
        ("import time; time.sleep(60)", 124, "it was stopped"),
    ],
)
def test_what_can_go_wrong(
    model: Path, monkeypatch: pytest.MonkeyPatch, code: str, expected: int, said: str
) -> None:
    _engine(monkeypatch, code)
    done = run(model, "--sparsity", "0.5", "--timeout", "1" if expected == 124 else "60")
    assert done.exit_code == expected, done.output
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert not Path("m.pruned.onnx").exists()


def test_a_gate_on_a_report_that_cannot_be_read(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _engine(monkeypatch, _result(report=None))
    assert run(model, "--min-accuracy", "0.99").exit_code == 3
    assert Path("m.pruned.onnx").exists()


def test_an_output_without_a_place_costs_no_work(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = _engine(monkeypatch, _result())
    assert run(model, "-o", "none/out.onnx").exit_code == 2
    assert seen == []
