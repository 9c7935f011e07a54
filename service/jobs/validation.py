"""`POST /v1/jobs/validate`: what a job would do, found by a worker on the real file without changing it."""

from typing import Annotated, final

from anyio.to_thread import run_sync
from fastapi import APIRouter, Body

from api_schemas.errors import ErrorCode, JobError
from api_schemas.jobs import JobRequest, JobStatus, Plan, Validation
from service.context import Context, ContextDep
from service.errors import NoAnswerError
from service.jobs.examples import JOB_EXAMPLES
from service.jobs.following import wait_for_end
from service.jobs.service import JobService
from service.json_values import JsonRoute
from service.problems import problems
from store.errors import ConflictError
from store.records import JobKind, JobRecord

router = APIRouter(prefix="/jobs", tags=["jobs"], route_class=JsonRoute)


@router.post("/validate", responses=problems(400, 404, 413, 422, 503))
async def validate_job(
    request: Annotated[JobRequest, Body(openapi_examples=JOB_EXAMPLES)], context: ContextDep
) -> Validation:
    """What a job with this body would do: the resolved recipe, the layers it would touch, the refusals.

    Nothing is queued for you. What is wrong with the request itself is answered as `POST /v1/jobs` would;
    what only shows in the file comes back with `valid: false`. 503 when no worker answers within a minute.
    """
    return await Validator(context).validate(request)


@final
class Validator:
    """Runs a plan job and waits for it."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._jobs = context.store.jobs

    async def validate(self, request: JobRequest) -> Validation:
        """The answer of a worker. Raises `NoAnswerError` (503) when none comes in time."""
        queued = await run_sync(self._queue, request)
        job = await wait_for_end(
            self._context, lambda: self._jobs.get(queued.id), self._context.settings.validate_seconds
        )
        if not job.status.finished:
            await run_sync(self._withdraw, job.id)
            raise NoAnswerError(
                "No worker answered in time; all are busy or none is running.", headers={"Retry-After": "30"}
            )
        return _answer(job)

    def _queue(self, request: JobRequest) -> JobRecord:
        service = JobService(self._context)
        new = service.prepare(request, service.files_of(request), JobKind.PLAN)
        job = self._jobs.submit(new).job
        self._context.doorbell.ring(job.id)
        return job

    def _withdraw(self, job_id: str) -> None:
        try:
            self._jobs.cancel(job_id)
        except ConflictError:
            return  # it ended in this very moment, and nobody waits for it any more


def _answer(job: JobRecord) -> Validation:
    assert job.recipe is not None  # noqa: S101 (a plan job has one)
    if job.status is JobStatus.SUCCEEDED:
        plan = Plan.model_validate(job.plan or {})
        return Validation(valid=True, recipe=job.recipe, **plan.model_dump())
    fallback = JobError(code=ErrorCode.INTERNAL, message="The plan could not be made.")
    return Validation(valid=False, recipe=job.recipe, error=job.error or fallback)
