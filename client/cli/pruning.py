"""`lookahead prune`: one file in, one pruned file out, here or at a server."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import typer

from api_schemas.jobs import Job, JobStatus, Summary
from api_schemas.recipe import RecipeRequest
from api_schemas.report import AccuracyReport
from client.cli import options, screen
from client.cli.exits import ExitCode, UsageError, show_error
from client.cli.gates import Gates, Verdict, judge
from client.cli.inputs import parse_inputs
from client.cli.local import LocalRun, prune_locally
from client.cli.progress import Reporter, reporter
from client.cli.recipes import RecipeOptions, build_recipe
from client.cli.summary import show_summary
from client.errors import JobFailedError, WaitTimeoutError
from client.sync_client import Lookahead


@final
@dataclass(frozen=True)
class Order:
    """Everything a prune command asks for."""

    file: Path
    recipe: RecipeRequest
    data: Path | None
    inputs: dict[str, Any]
    external_data: list[Path]
    output: Path
    report: Path | None
    gates: Gates
    timeout: float | None
    quiet: bool


def prune(
    file: options.ModelFile,
    output: options.ModelOutput = None,
    preset: options.Preset = None,
    sparsity: options.Sparsity = None,
    recipe: options.RecipeFile = None,
    sets: options.Sets = None,
    exclude: options.Exclude = None,
    layers: options.Layers = None,
    seed: options.Seed = None,
    data: options.Data = None,
    inputs: options.Inputs = None,
    external_data: options.ExternalData = None,
    report: options.ReportFile = None,
    min_accuracy: options.MinAccuracy = None,
    max_accuracy_drop: options.MaxAccuracyDrop = None,
    max_size_ratio: options.MaxSizeRatio = None,
    max_compressed_ratio: options.MaxCompressedRatio = None,
    detach: options.Detach = False,
    local: options.Local = False,
    timeout: options.Timeout = None,
    server: options.Server = None,
    quiet: options.Quiet = False,
    json: options.Json = False,  # noqa: ARG001 - its callback tells `screen`
) -> None:
    """Prune a model: upload, wait, download, check.

    lookahead prune model.onnx --preset lookahead --sparsity 0.8 --data test.npz -o smaller.onnx
    """
    order = Order(
        file=file,
        recipe=build_recipe(
            RecipeOptions(recipe, preset, sparsity, sets or [], exclude or [], layers or [], seed)
        ),
        data=data,
        inputs=parse_inputs(inputs or []),
        external_data=external_data or [],
        output=_output(file, output),
        report=report,
        gates=Gates(min_accuracy, max_accuracy_drop, max_size_ratio, max_compressed_ratio),
        timeout=timeout,
        quiet=quiet,
    )
    if detach and (local or order.gates.any or report):
        raise UsageError("--detach goes neither with --local, nor with a gate, nor with --report")
    if local:
        _prune_here(order)
        return
    with Lookahead(server) as client:
        _prune_there(client, order, detach)


def _output(file: Path, wanted: Path | None) -> Path:
    """Where the model goes. Raises `UsageError`, now rather than after the work, if nowhere."""
    name = f"{file.resolve().name}.pruned.zip" if file.is_dir() else f"{file.stem}.pruned{file.suffix}"
    place = wanted or Path(name)
    if not place.parent.is_dir():
        raise UsageError(f"there is no directory {place.parent}")
    return place / name if place.is_dir() else place


def _prune_here(order: Order) -> None:
    run = prune_locally(
        LocalRun(order.file, order.recipe, order.data, order.inputs, order.external_data, order.timeout),
        order.output,
        order.report,
    )
    _conclude(order, run.summary, run.accuracy, {"job": None, "local": run.result})


def _prune_there(client: Lookahead, order: Order, detach: bool) -> None:
    job: Job | None = None
    try:
        with reporter(quiet=order.quiet) as progress:
            job = _submit(client, order, progress)
            if not detach:
                job = client.wait(job.id, timeout=order.timeout, on_event=progress.event)
                _collect(client, order, job, progress)
    except KeyboardInterrupt:
        _say_how_to_go_on(job)
        raise
    except WaitTimeoutError:
        _say_how_to_go_on(job)
        raise
    if detach:
        _show_detached(job)
        return
    accuracy = client.report(job.id).accuracy if order.gates.any and job.summary else None
    _conclude(order, job.summary, accuracy, {"job": job.model_dump(mode="json")})


def _submit(client: Lookahead, order: Order, progress: Reporter) -> Job:
    progress.step("uploading")
    job = client.prune(
        order.file,
        recipe=order.recipe,
        dataset=order.data,
        external_data=order.external_data,
        inputs=order.inputs or None,
        on_bytes=progress.bytes_moved,
    )
    progress.say(f"job {job.id}")
    return job


def _collect(client: Lookahead, order: Order, job: Job, progress: Reporter) -> None:
    if job.status is not JobStatus.SUCCEEDED:
        if screen.json_wanted():
            screen.write_json({"job": job.model_dump(mode="json"), "output": None, "gates": []})
        raise JobFailedError(job)
    progress.step("downloading")
    client.download(job.id, order.output, on_bytes=progress.bytes_moved)
    if order.report is not None:
        save_report(client, job.id, order.report)


def save_report(client: Lookahead, job_id: str, path: Path) -> None:
    """The report as a file: the page for .html and .htm, else JSON."""
    if path.suffix.lower() in (".html", ".htm"):
        path.write_text(client.report_page(job_id), encoding="utf-8")
    else:
        path.write_text(client.report(job_id).model_dump_json(indent=2) + "\n", encoding="utf-8")


def _show_detached(job: Job) -> None:
    if screen.json_wanted():
        screen.write_json({"job": job.model_dump(mode="json"), "output": None, "gates": []})
    else:
        screen.write(job.id)
        screen.note(f"lookahead wait {job.id}, then lookahead download {job.id}")


def _say_how_to_go_on(job: Job | None) -> None:
    if job is None:
        screen.note("stopped before the job was queued")
    else:
        screen.note(
            f"{job.id} runs on: `lookahead wait {job.id}` resumes, `lookahead cancel {job.id}` stops it"
        )


def _conclude(
    order: Order, summary: Summary | None, accuracy: AccuracyReport | None, body: dict[str, Any]
) -> None:
    figures = summary or Summary()
    verdicts = judge(order.gates, figures, accuracy)
    if screen.json_wanted():
        gates = [verdict.as_json() for verdict in verdicts]
        screen.write_json(body | {"output": str(order.output), "gates": gates})
    else:
        job_id = body["job"]["id"] if body["job"] else None
        show_summary(figures, order.output, job_id, verdicts)
    _fail_on(verdicts)


def _fail_on(verdicts: list[Verdict]) -> None:
    missed = [verdict for verdict in verdicts if not verdict.met]
    for verdict in missed:
        show_error(UsageError(str(verdict), code="gate"))
    if missed:
        raise typer.Exit(ExitCode.GATE)
