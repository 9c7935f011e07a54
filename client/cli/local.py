"""`lookahead prune --local`: the engine's own command line in a subprocess, no server in between.

The client imports nothing of the engine, so it installs without torch and survives whatever the engine does.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from shutil import copyfile
from typing import Any, final

from pydantic import ValidationError

from api_schemas.jobs import ChildResult, Summary
from api_schemas.recipe import RecipeRequest
from api_schemas.report import AccuracyReport, Report
from client.cli.exits import EngineError
from client.errors import LocalFileError, WaitTimeoutError
from client.uploads import model_files, readable

_LAST_LINES = 5


@final
@dataclass(frozen=True)
class LocalRun:
    """What to run."""

    file: Path
    recipe: RecipeRequest
    data: Path | None
    inputs: Mapping[str, Any]
    external_data: list[Path]
    timeout: float | None


@final
@dataclass(frozen=True)
class LocalResult:
    """What came of it."""

    summary: Summary | None
    accuracy: AccuracyReport | None
    result: dict[str, Any]


def prune_locally(run: LocalRun, output: Path, report: Path | None) -> LocalResult:
    """Run the engine and move its files into place. Raises `EngineError` with the engine's own code."""
    _require_engine()
    with tempfile.TemporaryDirectory(prefix="lookahead-") as name:
        scratch = Path(name)
        result = _run(_arguments(run, _gather(run, scratch), scratch / "out"), run.timeout)
        if result.error is not None or result.model is None:
            error = result.error
            if error is None:
                raise EngineError("the engine gave no model")
            raise EngineError(error.message, hint=error.hint, code=error.code.value)
        facts = _report(scratch / "out" / result.report) if result.report else None
        _keep(scratch / "out" / result.model, output)
        page = report is not None and report.suffix.lower() in (".html", ".htm")
        wanted = result.page if page else result.report
        if report is not None and wanted:
            _keep(scratch / "out" / wanted, report)
    accuracy = facts.accuracy if facts else None
    return LocalResult(result.summary, accuracy, result.model_dump(mode="json", exclude_none=True))


def _require_engine() -> None:
    if find_spec("worker") is None or find_spec("torch") is None:
        raise EngineError(
            "the engine is not installed here",
            code="usage",
            hint="pip install 'lookahead-compression[worker]', or leave --local away and use a server",
        )


def _gather(run: LocalRun, scratch: Path) -> Path:
    """The model where its external data lie beside it."""
    files = model_files(run.file, run.external_data)
    if not files.external or run.file.is_dir():
        return files.main
    for name, path in (*files.external, (files.main.name, files.main)):
        copyfile(path, scratch / name)
    return scratch / files.main.name


def _arguments(run: LocalRun, model: Path, out: Path) -> list[str]:
    arguments = [sys.executable, "-m", "worker.engine", "prune", str(model), "--out", str(out), "--json"]
    arguments += ["--recipe", run.recipe.model_dump_json(exclude_unset=True)]
    if run.data is not None:
        arguments += ["--data", str(readable(run.data))]
    if run.inputs:
        arguments += ["--inputs", json.dumps(run.inputs)]
    return arguments


def _run(arguments: list[str], timeout: float | None) -> ChildResult:
    try:
        done = subprocess.run(arguments, capture_output=True, timeout=timeout, check=False)
    except subprocess.TimeoutExpired as error:
        raise WaitTimeoutError(["the local run"], timeout or 0, hint="it was stopped") from error
    try:
        return ChildResult.model_validate_json(done.stdout)
    except ValidationError as error:
        last = done.stderr.decode("utf-8", "replace").strip().splitlines()[-_LAST_LINES:]
        cause = f"signal {-done.returncode}" if done.returncode < 0 else f"exit code {done.returncode}"
        raise EngineError(f"the engine ended with {cause}", code="internal", hint="\n".join(last)) from error


def _report(path: Path) -> Report | None:
    try:
        return Report.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


def _keep(source: Path, destination: Path) -> None:
    """Copy across file systems, then appear in one step."""
    part = destination.with_name(f"{destination.name}.part")
    try:
        copyfile(source, part)
        part.replace(destination)
    except OSError as error:
        raise LocalFileError(f"cannot write {destination}: {error.strerror or error}") from error
