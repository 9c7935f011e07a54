"""The dashboard under `/`: plain pages rendered here, one style sheet, one script, nothing from elsewhere."""

from pathlib import Path
from typing import Any

from anyio.to_thread import run_sync
from fastapi import APIRouter, FastAPI, Request
from fastapi.staticfiles import StaticFiles
from fastapi.templating import Jinja2Templates
from starlette.responses import RedirectResponse, Response

from api_schemas.errors import ERRORS
from api_schemas.events import EventType
from api_schemas.ids import JobId
from api_schemas.jobs import Job, JobStatus
from service.context import Context, ContextDep
from service.dashboard.curves import curves
from service.dashboard.forms import read_options
from service.dashboard.reference import operations, shapes
from service.dashboard.words import FILTERS
from service.errors import ServiceError
from service.jobs.following import all_events
from service.jobs.prune import submit_files
from service.jobs.service import JobService, shown
from service.models.service import ModelService
from service.paging import Cursor
from service.transfer.incoming import body_chunks, staging
from service.transfer.multipart import Form, MultipartReceiver
from store.records import JobRecord

router = APIRouter(include_in_schema=False)
#: Open to all, like the document that it shows.
reference_router = APIRouter(include_in_schema=False)

_HERE = Path(__file__).parent
_PAGE = 50
_MOST_EVENTS = 200
_CSP = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _CSP,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
_templates = Jinja2Templates(directory=_HERE / "templates")
_templates.env.filters.update(FILTERS)


def static_files() -> StaticFiles:
    """The style sheet and the script."""
    return StaticFiles(directory=_HERE / "static")


def _page(request: Request, name: str, values: dict[str, Any], status: int = 200) -> Response:
    return _templates.TemplateResponse(request, name, values, status_code=status, headers=_HEADERS)


@router.get("/")
def jobs_page(
    request: Request, context: ContextDep, status: JobStatus | None = None, cursor: Cursor = None
) -> Response:
    """Jobs, newest first, with the file that each works on."""
    service = JobService(context)
    page = service.page(status, _PAGE, cursor)
    models = {job.model_id for job in page.items}
    values = {
        "jobs": page.items,
        "next_cursor": page.next_cursor,
        "status": status,
        "statuses": list(JobStatus),
        "names": {model_id: _model_name(context, model_id) for model_id in models},
    }
    return _page(request, "jobs.html", values)


def _model_name(context: Context, model_id: str) -> str | None:
    try:
        return ModelService(context).get(model_id).filename
    except Exception:  # a deleted model leaves its jobs behind; the page shows the id
        return None


@router.get("/ui/jobs/{job_id}")
def job_page(job_id: JobId, request: Request, context: ContextDep) -> Response:
    """One job, live while it runs."""
    record: JobRecord = JobService(context).record(job_id)
    job: Job = shown(record)
    events = all_events(context, job_id, 0)
    values = {
        "job": job,
        "filename": _model_name(context, job.model_id),
        "has_page": record.page is not None,
        "last": events[-1].id if events else 0,
        "events": [event for event in events if event.type is not EventType.METRIC][-_MOST_EVENTS:],
        "curves": curves(events),
    }
    return _page(request, "job.html", values)


@router.get("/ui/jobs/{job_id}/curves")
def curves_part(job_id: JobId, request: Request, context: ContextDep) -> Response:
    """The part of a job's page that its script asks for again while the curves grow."""
    return _page(request, "curves.html", {"curves": curves(all_events(context, job_id, 0))})


@router.get("/ui/new")
def new_job_page(request: Request, context: ContextDep) -> Response:
    """The upload form."""
    return _form_page(request, context)


def _form_page(request: Request, context: Context, error: ServiceError | None = None) -> Response:
    try:
        presets = context.catalogue().presets
    except ServiceError as missing:
        presets, error = [], error or missing
    status = error.http_status if error else 200
    return _page(request, "new.html", {"presets": presets, "error": error}, status)


@router.post("/ui/jobs")
async def submit_form(request: Request, context: ContextDep) -> Response:
    """What the upload form sends; leads to the job's page, or back to the form with the reason."""
    try:
        job = await _submit(request, context)
    except ServiceError as error:
        return await run_sync(_form_page, request, context, error)
    return RedirectResponse(f"/ui/jobs/{job.id}", 303)


async def _submit(request: Request, context: Context) -> Job:
    async with staging(context) as directory:
        receiver = MultipartReceiver(
            directory,
            files=("file", "external_data", "dataset"),
            fields=("preset", "sparsity", "inputs", "exclude"),
            max_field_bytes=2**16,
        )
        chunks = body_chunks(request, context, directory)
        form = await receiver.receive(request.headers.get("content-type", ""), chunks)
        options = read_options(form.fields)
        job, _ = await run_sync(submit_files, context, options, _chosen(form), directory, None)
    return job


def _chosen(form: Form) -> Form:
    """The form without the empty parts that a browser sends for files that were not chosen."""
    files = tuple((name, file) for name, file in form.files if file.filename or file.size_bytes)
    return Form(files, form.fields)


@reference_router.get("/docs")
def reference_page(request: Request, context: ContextDep) -> Response:
    """The OpenAPI document, for reading."""
    app: FastAPI = request.app
    document = app.openapi()
    values = {
        "version": document["info"]["version"],
        "needs_key": bool(context.settings.api_keys),
        "operations": operations(document),
        "shapes": shapes(document),
        "errors": ERRORS,
    }
    return _page(request, "reference.html", values)


@router.get("/ui/methods")
def methods_page(request: Request, context: ContextDep) -> Response:
    """The catalogue: parts by axis, and presets."""
    catalogue = context.catalogue()
    axes = list(dict.fromkeys(method.axis for method in catalogue.methods))
    by_axis = {axis: [method for method in catalogue.methods if method.axis == axis] for axis in axes}
    return _page(request, "methods.html", {"by_axis": by_axis, "presets": catalogue.presets})
