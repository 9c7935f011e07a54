"""`lookahead jobs | show | wait | cancel | report | download`: jobs that are already at the server."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from api_schemas.jobs import Job, JobStatus
from client.cli import options, screen
from client.cli.exits import ExitCode, show_error
from client.cli.progress import reporter
from client.cli.pruning import save_report
from client.cli.summary import show_summary
from client.errors import JobFailedError
from client.sync_client import Lookahead


def jobs(
    status: Annotated[JobStatus | None, typer.Option(help="Only jobs in this state.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most so many.")] = 20,
    cursor: Annotated[str | None, typer.Option(help="Go on from the `next_cursor` of --json.")] = None,
    server: options.Server = None,
    json: options.Json = False,
) -> None:
    """List jobs, newest first."""
    with Lookahead(server) as client:
        page = client.jobs(status=status, cursor=cursor, limit=limit)
    if json:
        screen.write_json(page)
        return
    rows = [(job.id, job.status.value, _stage(job), _asked(job), _when(job.created_at)) for job in page.items]
    screen.table(("job", "status", "stage", "asked", "created"), rows)
    if page.next_cursor:
        screen.note(f"more: lookahead jobs --cursor {page.next_cursor}")


def show(job: options.JobIdArgument, server: options.Server = None, json: options.Json = False) -> None:
    """Show one job."""
    with Lookahead(server) as client:
        found = client.job(job)
    if json:
        screen.write_json(found)
    else:
        _show(found)


def wait(
    job: Annotated[list[str], typer.Argument(metavar="JOB…", help="Ids of the jobs.")],
    timeout: options.Timeout = None,
    server: options.Server = None,
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """Wait until jobs have ended; exit 1 when one did not succeed, 124 when time is up."""
    try:
        with Lookahead(server) as client, reporter(quiet=quiet) as progress:
            finished = client.wait(job, timeout=timeout, on_event=progress.event)
    except KeyboardInterrupt:
        screen.note(f"left to run: {', '.join(job)}; `lookahead wait` resumes, `lookahead cancel` stops one")
        raise
    if json:
        items = [ended.model_dump(mode="json") for ended in finished]
        screen.write_json(finished[0] if len(finished) == 1 else {"items": items})
    else:
        for ended in finished:
            screen.write(f"{ended.id}  {ended.status.value}")
    unhappy = [ended for ended in finished if ended.status is not JobStatus.SUCCEEDED]
    for ended in unhappy:
        show_error(JobFailedError(ended))
    if unhappy:
        raise typer.Exit(ExitCode.JOB_FAILED)


def cancel(job: options.JobIdArgument, server: options.Server = None, json: options.Json = False) -> None:
    """Ask for a job to be stopped."""
    with Lookahead(server) as client:
        found = client.cancel(job)
    if json:
        screen.write_json(found)
    else:
        asked = "" if found.status.finished else ", asked to stop"
        screen.write(f"{found.id}  {found.status.value}{asked}")


def report(
    job: options.JobIdArgument,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="A file: .html gets the page, else JSON.")
    ] = None,
    html: Annotated[bool, typer.Option("--html", help="The page on standard output.")] = False,
    server: options.Server = None,
    json: options.Json = False,
) -> None:
    """Print the report of a job: the figures, the page with --html, all of it with --json."""
    with Lookahead(server) as client:
        if output is not None:
            save_report(client, job, output)
            screen.write_json({"path": str(output)}) if json else screen.write(str(output))
        elif html:
            screen.write(client.report_page(job))
        elif json:
            screen.write_json(client.report(job))
        else:
            _show_report(client, job)


def _show_report(client: Lookahead, job_id: str) -> None:
    found = client.report(job_id)
    show_summary(found.summary, None, found.job_id, [])
    rows = [
        (
            layer.name,
            layer.op,
            "×".join(map(str, layer.shape)),
            layer.parameters,
            f"{layer.sparsity_after:.2%}",
        )
        for layer in found.layers
    ]
    screen.table(("layer", "operator", "shape", "weights", "sparsity"), rows, right=(3, 4))
    if found.refusals:
        screen.table(("left alone", "because"), [(skip.layer, skip.reason) for skip in found.refusals])


def download(
    job: options.JobIdArgument,
    output: Annotated[
        Path, typer.Option("-o", "--output", help="A file, or a directory that takes the server's name.")
    ] = Path(),
    server: options.Server = None,
    quiet: options.Quiet = False,
    json: options.Json = False,
) -> None:
    """Fetch the pruned model; goes on where a broken download stopped, and checks the sha256."""
    with Lookahead(server) as client, reporter(quiet=quiet) as progress:
        progress.step("downloading")
        path = client.download(job, output, on_bytes=progress.bytes_moved)
    if json:
        screen.write_json({"path": str(path), "size_bytes": path.stat().st_size})
    else:
        screen.write(str(path))


def _show(job: Job) -> None:
    rows: list[tuple[str, object]] = [
        ("job", job.id),
        ("status", job.status.value),
        ("stage", job.stage.value if job.stage and not job.status.finished else None),
        ("progress", _progress(job)),
        ("checkpoint", _when(job.checkpoint_at) if job.checkpoint_at else None),
        ("asked", _asked(job)),
        ("model", job.model_id),
        ("data", job.dataset_id),
        ("created", _when(job.created_at)),
        ("started", _when(job.started_at) if job.started_at else None),
        ("finished", _when(job.finished_at) if job.finished_at else None),
        ("attempts", job.attempts or None),
    ]
    if job.error:
        rows += [("error", f"[{job.error.code.value}] {job.error.message}"), ("hint", job.error.hint)]
    screen.pairs(rows)
    if job.summary:
        show_summary(job.summary, None, None, [])


def _asked(job: Job) -> str:
    recipe = job.recipe
    name = recipe.preset or recipe.criterion.name
    target = f" {recipe.target.unit} {getattr(recipe.target, recipe.target.unit):g}" if recipe.target else ""
    return f"{name}{target}"


def _progress(job: Job) -> str | None:
    total = job.progress.total
    if job.status is not JobStatus.RUNNING or not total:
        return None
    return f"{job.progress.done}/{total} {job.progress.unit or ''}".rstrip()


def _stage(job: Job) -> str:
    if job.status is not JobStatus.RUNNING or job.stage is None:
        return ""
    total = f" {job.progress.done}/{job.progress.total}" if job.progress.total else ""
    return f"{job.stage.value}{total}"


def _when(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")
