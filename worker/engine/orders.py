"""Orders from outside: one job as a `ChildOrder` in its folder, answered by a `ChildResult`.

This is all that the sandboxed child and the command line know of the engine.
"""

import hashlib
import logging
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Final

from api_schemas.errors import ErrorCode, JobError
from api_schemas.jobs import ChildOrder, ChildResult
from worker.engine import pipeline, sweep
from worker.engine.checkpoint import Checkpoints
from worker.engine.context import Context, Emit, silent
from worker.engine.errors import EngineError, InvalidRecipeError
from worker.engine.learning.distributed import joined_through
from worker.engine.pipeline import Source
from worker.engine.report.html import render

_LOG = logging.getLogger(__name__)
REPORT: Final = "report.json"
PAGE: Final = "report.html"


def run_order(order: ChildOrder, directory: Path, emit: Emit) -> ChildResult:
    """Do what the order says. Every failure but running out of memory comes back in the result. Of several
    processes with one order the first alone tells how it goes, and saves."""
    spoken = emit if order.world is None or order.world.rank == 0 else silent
    try:
        with joined_through(order.world):
            return _RUN[order.kind](order, directory, spoken)
    except EngineError as error:
        _LOG.info("refused: %s", error)
        return ChildResult(error=error.as_job_error())
    except MemoryError:
        raise
    except Exception:
        _LOG.exception("the engine failed")
        message = "the engine failed in a way that it should not; the worker's log has the details"
        return ChildResult(error=JobError(code=ErrorCode.INTERNAL, message=message))


def _prune(order: ChildOrder, directory: Path, emit: Emit) -> ChildResult:
    if order.recipe is None:
        raise InvalidRecipeError("the order has no recipe")
    output = directory / "output"
    saved, report = sweep.prune(
        _source(order, directory), order.recipe, output, _context(order, directory, emit)
    )
    (output / REPORT).write_text(report.model_dump_json(indent=2))
    (output / PAGE).write_text(render(report), encoding="utf-8")
    return ChildResult(model=saved.name, report=REPORT, page=PAGE, summary=report.summary)


def _inspect(order: ChildOrder, directory: Path, emit: Emit) -> ChildResult:
    found = pipeline.inspect(_source(order, directory), _context(order, directory, emit))
    return ChildResult(inspection=found.model_dump(mode="json"))


def _plan(order: ChildOrder, directory: Path, emit: Emit) -> ChildResult:
    if order.recipe is None:
        raise InvalidRecipeError("the order has no recipe")
    return ChildResult(
        plan=pipeline.plan(_source(order, directory), order.recipe, _context(order, directory, emit))
    )


_RUN = {"prune": _prune, "inspect": _inspect, "plan": _plan}


def _source(order: ChildOrder, directory: Path) -> Source:
    data = None if order.dataset is None else directory / order.dataset
    return Source(directory / order.model, order.filename, data, order.inputs)


def _context(order: ChildOrder, directory: Path, emit: Emit) -> Context:
    scratch = directory / "scratch"
    scratch.mkdir(exist_ok=True)
    return Context(
        scratch=scratch,
        emit=emit,
        seed=0 if order.recipe is None else order.recipe.seed,
        device=order.device or "cpu",
        threads=order.threads or 1,
        sandbox=order.sandbox,
        job_id=order.job_id,
        checkpoints=_checkpoints(order, directory, emit),
    )


def _checkpoints(order: ChildOrder, directory: Path, emit: Emit) -> Checkpoints:
    given = order.checkpoints
    if given is None:
        return Checkpoints()

    @cache
    def identity() -> Mapping[str, str]:
        return _identity(order, directory)

    checkpoints = Checkpoints(
        directory / given.folder if order.world is None or order.world.rank == 0 else None,
        saved=None if given.saved is None else directory / given.saved,
        identity=identity,
        emit=emit,
        interval_seconds=given.interval_seconds,
        most_bytes=given.most_bytes,
    )
    if given.hurry is not None and checkpoints.saves:
        checkpoints.hurry_on(given.hurry)
    return checkpoints


def _identity(order: ChildOrder, directory: Path) -> Mapping[str, str]:
    """What a checkpoint has to agree on with the work it is used for."""
    files = {"model": order.model} | ({} if order.dataset is None else {"dataset": order.dataset})
    asked = order.model_dump_json(include={"job_id", "kind", "recipe", "inputs"})
    digests = {name: _digest(directory / path) for name, path in files.items()}
    return {
        "order": hashlib.sha256(asked.encode()).hexdigest(),
        **digests,
        **{package: version(package) for package in ("lookahead-compression", "torch")},
    }


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
