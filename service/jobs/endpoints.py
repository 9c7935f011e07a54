"""`/v1/jobs`: submit, list, look at, follow, cancel, and fetch what came of it."""

from typing import Annotated, Any

from anyio.to_thread import run_sync
from fastapi import APIRouter, Body, Header, Query, Request, Response
from fastapi.sse import EventSourceResponse

from api_schemas.events import EventList
from api_schemas.ids import JobId
from api_schemas.jobs import Job, JobRequest, JobStatus
from api_schemas.pages import Page
from api_schemas.report import Report
from service.context import Context, ContextDep
from service.jobs.examples import JOB_EXAMPLES
from service.jobs.following import EventStream, all_events, wait_for_end
from service.jobs.service import JobService, shown
from service.json_values import JsonRoute
from service.paging import Cursor, Limit
from service.problems import problems
from service.transfer.accept import prefers
from service.transfer.outgoing import blob_response, etag_of

router = APIRouter(prefix="/jobs", tags=["jobs"], route_class=JsonRoute)

RETRY_AFTER = "2"
IdempotencyHeader = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        description="Repeating a request with the same key and body gives the job that the first one made.",
    ),
]
_TEXT = {"schema": {"type": "string"}}
ACCEPTED: dict[str, Any] = {
    "description": "The job is queued.",
    "headers": {
        "Location": {**_TEXT, "description": "The job."},
        "Retry-After": {**_TEXT, "description": "Seconds until it is worth looking."},
    },
}
#: The page is ours but shows names from the user's file: it gets no origin, no script, no network.
REPORT_CSP = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:"


@router.post("", status_code=202, responses={202: ACCEPTED, **problems(400, 404, 413, 422)})
def submit_job(
    request: Annotated[JobRequest, Body(openapi_examples=JOB_EXAMPLES)],
    response: Response,
    context: ContextDep,
    key: IdempotencyHeader = None,
) -> Job:
    """Queue a pruning job.

    Whatever can be told without a worker is told at once: unknown methods and parameters, missing data,
    labels or shapes, layers that the model does not have.
    """
    job, replayed = JobService(context).submit(request, key)
    accepted_headers(response, job, replayed)
    return job


def accepted_headers(response: Response, job: Job, replayed: bool) -> None:
    """What a 202 says beside its body."""
    response.headers["Location"] = job.links.self
    response.headers["Retry-After"] = RETRY_AFTER
    if replayed:
        response.headers["Idempotency-Replayed"] = "true"


@router.get("", responses=problems(422))
def list_jobs(
    context: ContextDep, status: JobStatus | None = None, limit: Limit = 50, cursor: Cursor = None
) -> Page[Job]:
    """Jobs, newest first."""
    return JobService(context).page(status, limit, cursor)


@router.get("/{job_id}", responses=problems(404, 422))
async def get_job(
    job_id: JobId,
    context: ContextDep,
    wait: Annotated[float, Query(ge=0, le=60, description="Seconds to wait for the job's end.")] = 0,
) -> Job:
    """One job. With `wait`, the answer comes when the job ends or the time is over, whichever is first."""
    service = JobService(context)
    return shown(await wait_for_end(context, lambda: service.record(job_id), wait))


@router.post("/{job_id}/cancel", status_code=202, responses=problems(404, 409, 422))
def cancel_job(job_id: JobId, context: ContextDep) -> Job:
    """Ask for the end of a job: a queued one is cancelled at once, a running one within seconds."""
    return JobService(context).cancel(job_id)


@router.get(
    "/{job_id}/events",
    response_model=EventList,
    responses={
        200: {
            "description": "Server-Sent Events until the job has ended, or the list so far.",
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
        },
        **problems(404, 422),
    },
)
async def job_events(
    job_id: JobId,
    request: Request,
    context: ContextDep,
    last_event_id: Annotated[int, Header(ge=0, le=2**53, description="Replay starts after this one.")] = 0,
) -> Response:
    """The events of a job: a stream with ids and replay, or with `Accept: application/json` a list."""
    await run_sync(JobService(context).record, job_id)
    if prefers(request.headers.get("accept"), "application/json", "text/event-stream"):
        items = await run_sync(all_events, context, job_id, last_event_id)
        return Response(EventList(items=items).model_dump_json(), media_type="application/json")
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return EventSourceResponse(EventStream(context, job_id, last_event_id).chunks(), headers=headers)


@router.get(
    "/{job_id}/report",
    response_model=Report,
    responses={
        200: {
            "description": "The report: JSON, or a self-contained page for `Accept: text/html`.",
            "content": {"text/html": {"schema": {"type": "string"}}},
        },
        **problems(404, 409, 422),
    },
)
def job_report(job_id: JobId, request: Request, context: ContextDep) -> Response:
    """The report of a succeeded job; 409 before its end, and for jobs that ended without a result."""
    if prefers(request.headers.get("accept"), "text/html", "application/json"):
        return _report(context, job_id, "page", "text/html; charset=utf-8")
    return _report(context, job_id, "report", "application/json")


def _report(context: Context, job_id: str, name: str, media_type: str) -> Response:
    blob = JobService(context).artefact(job_id, name)
    headers = {
        "ETag": etag_of(blob.sha256),
        "Vary": "Accept",
        "Content-Security-Policy": REPORT_CSP,
        "X-Content-Type-Options": "nosniff",
    }
    return Response(context.store.blobs.read(blob.sha256), 200, headers, media_type)


_FILE = {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}
_MODEL_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"description": "The pruned file.", **_FILE},
    206: {"description": "The part that `Range` asked for.", **_FILE},
    304: {"description": "`If-None-Match` names this very file."},
    **problems(404, 409, 416, 422),
}


@router.get("/{job_id}/model", response_class=Response, responses=_MODEL_RESPONSES)
def download_model(job_id: JobId, request: Request, context: ContextDep) -> Response:
    """The pruned model in the format it came in.

    `ETag` is the file's SHA-256; `Range` and `If-Range` resume a broken download; `Repr-Digest` verifies it.
    """
    return blob_response(request, context.store.blobs, JobService(context).artefact(job_id, "model"))


@router.head("/{job_id}/model", response_class=Response, responses=_MODEL_RESPONSES)
def head_model(job_id: JobId, request: Request, context: ContextDep) -> Response:
    """The headers of the download."""
    return blob_response(request, context.store.blobs, JobService(context).artefact(job_id, "model"))
