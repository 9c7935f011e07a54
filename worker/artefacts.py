"""The child's output, looked at as what it is: files from a process that has opened a hostile one."""

import os
import stat
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Final, final
from uuid import uuid4

from pydantic import ValidationError

from api_schemas.formats import sniff_model
from api_schemas.jobs import ChildResult, Plan
from api_schemas.models import Inspection, ModelFormat
from api_schemas.recipe import OutputFormat
from api_schemas.report import Report
from store.blobs import BlobStore
from store.records import BlobRef, JobKind, JobRecord, ModelRecord, Outcome
from worker.errors import RejectedOutputError
from worker.relay import clean_text

_MOST_REPORT_BYTES: Final = 64 * 1024 * 1024
_SUFFIXES: Final[Mapping[ModelFormat, tuple[str, ...]]] = {
    ModelFormat.ONNX: (".onnx", ".zip"),
    ModelFormat.TORCHSCRIPT: (".pt", ".pth", ".ts"),
    ModelFormat.PT2: (".pt2",),
}


@final
class Artefacts:
    """Checks what a child left in its output folder, and publishes it."""

    def __init__(self, blobs: BlobStore, most_bytes: int) -> None:
        self._blobs = blobs
        self._most_bytes = most_bytes

    def outcome(self, job: JobRecord, model: ModelRecord, result: ChildResult, output: Path) -> Outcome:
        """What `job` comes to, its blobs published. Raises `RejectedOutputError`, `StoreError`."""
        match job.kind:
            case JobKind.INSPECT:
                return Outcome(inspection=_inspection(result, model.format))
            case JobKind.PLAN:
                return Outcome(plan=_plan(result))
            case JobKind.PRUNE:
                return self._pruned(job, model, result, output)

    def _pruned(self, job: JobRecord, model: ModelRecord, result: ChildResult, output: Path) -> Outcome:
        model_path = self._file(output, result.model, "model", self._most_bytes)
        report_path = self._file(output, result.report, "report", _MOST_REPORT_BYTES)
        format_ = _check_format(model_path, _wanted_format(job, model))
        report = _report(report_path, job.id)
        _rewrite(report_path, report)
        stem = _stem(model.filename)
        published = self._publish(model_path, f"{stem}.pruned{_suffix(model.filename, format_, model_path)}")
        if published.sha256 != report.after.sha256:
            raise RejectedOutputError("the report is about another file than the one that was written")
        return Outcome(
            summary=report.summary,
            model=published,
            report=self._publish(report_path, f"{stem}.report.json"),
            page=self._page(output, result.page, stem),
        )

    def _page(self, output: Path, name: str | None, stem: str) -> BlobRef | None:
        if name is None:
            return None
        path = self._file(output, name, "page", _MOST_REPORT_BYTES)
        return self._publish(path, f"{stem}.report.html")

    def _publish(self, path: Path, filename: str) -> BlobRef:
        """Moved, not copied, where both are on one file system: the child is gone, so nobody has it open."""
        staged = self._blobs.staging_dir() / uuid4().hex
        try:
            path.replace(staged)
        except OSError:  # another file system
            return self._blobs.publish(path, filename)
        return self._blobs.publish(staged, filename)

    def _file(self, output: Path, name: str | None, what: str, most: int) -> Path:
        """A plain file of that name, directly in the output folder, with no other name."""
        if not name or name != PurePosixPath(name).name or "\0" in name:
            raise RejectedOutputError(f"the job left no {what}")
        path = output / name
        try:
            status = os.lstat(path)
        except (OSError, ValueError) as error:
            raise RejectedOutputError(f"the job left no {what}") from error
        if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
            raise RejectedOutputError(f"the {what} is not a plain file")
        if status.st_size > most:
            raise RejectedOutputError(f"the {what} has {status.st_size} bytes; the limit is {most}")
        return path


def _wanted_format(job: JobRecord, model: ModelRecord) -> ModelFormat:
    onnx = job.recipe is not None and job.recipe.output.format is OutputFormat.ONNX
    return ModelFormat.ONNX if onnx else model.format


def _check_format(path: Path, wanted: ModelFormat) -> ModelFormat:
    with path.open("rb") as file:
        sniffed = sniff_model(file)
    if sniffed.format is not wanted:
        raise RejectedOutputError(f"the pruned file is not {wanted}")
    return wanted


def _report(path: Path, job_id: str) -> Report:
    try:
        report = Report.model_validate_json(path.read_bytes())
    except (ValidationError, RecursionError) as error:
        raise RejectedOutputError("the report does not fit its schema") from error
    if report.job_id != job_id:
        raise RejectedOutputError("the report is about another job")
    return report


def _rewrite(path: Path, report: Report) -> None:
    """Publish what was validated, not what was written: fields that the schema does not know are gone."""
    path.write_text(report.model_dump_json())


def _inspection(result: ChildResult, format_: ModelFormat) -> Inspection:
    try:
        inspection = Inspection.model_validate(_without_nul(result.inspection))
    except ValidationError as error:
        raise RejectedOutputError("the inspection does not fit its schema") from error
    if inspection.format is not format_:
        raise RejectedOutputError(f"the inspection says {inspection.format} of a file that is {format_}")
    return inspection


def _plan(result: ChildResult) -> dict[str, Any]:
    if result.plan is None:
        raise RejectedOutputError("the job left no plan")
    plan = Plan.model_validate(_without_nul(result.plan.model_dump()))
    return plan.model_dump(mode="json")


def _without_nul(value: Any) -> Any:
    """PostgreSQL keeps no NUL in text, and no name needs one."""
    if isinstance(value, str):
        return value.replace("\0", "\ufffd")
    if isinstance(value, list):
        return [_without_nul(item) for item in value]
    if isinstance(value, dict):
        return {_without_nul(key): _without_nul(item) for key, item in value.items()}
    return value


def _stem(filename: str) -> str:
    """The upload's name without folders, suffix and anything that has a meaning in a header or a shell."""
    stem = PurePosixPath(clean_text(filename, 200).replace("\\", "/")).stem
    kept = "".join(c if c.isalnum() or c in "-_. " else "_" for c in stem).strip(" .")
    return kept or "model"


def _suffix(filename: str, format_: ModelFormat, path: Path) -> str:
    """The upload's own suffix where it fits what was written, else that of the file, else the usual one."""
    fitting = _SUFFIXES[format_]
    with path.open("rb") as file:
        if format_ is ModelFormat.ONNX:
            return ".zip" if file.read(4) == b"PK\x03\x04" else ".onnx"
    own = PurePosixPath(filename).suffix.lower()
    return own if own in fitting else fitting[0]
