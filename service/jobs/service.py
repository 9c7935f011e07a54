"""Jobs: what a request becomes, and how a row is shown."""

import hashlib
import json
from typing import Any, final

from api_schemas.jobs import Job, JobOptions, JobRequest, JobStatus, Links
from api_schemas.pages import Page
from api_schemas.recipe import Recipe
from service.context import Context
from service.errors import InvalidRequestError, MissingError, StateError
from service.jobs.checks import Files, check_job, resolve_recipe
from service.webhooks.addresses import RefusedAddressError, check_url
from store.errors import NotFoundError
from store.records import BlobRef, IdempotencyKey, JobKind, JobRecord, NewJob


@final
class JobService:
    """Submits, shows and cancels jobs. Every method blocks: call from a thread."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._store = context.store

    def submit(self, request: JobRequest, key: str | None) -> tuple[Job, bool]:
        """The queued job, and whether the idempotency key had made it before."""
        idempotency = idempotency_key("/v1/jobs", key, request.model_dump(mode="json"))
        if idempotency is not None and (earlier := self._store.jobs.replay(idempotency)) is not None:
            return shown(earlier), True
        files = self.files_of(request)
        return self.queue(self.prepare(request, files, JobKind.PRUNE), idempotency)

    def files_of(self, request: JobRequest) -> Files:
        """The rows of the model and dataset that the request names. Raises the store's `NotFoundError`."""
        model = self._store.models.get(request.model_id)
        dataset = self._store.datasets.get(request.dataset_id) if request.dataset_id else None
        return Files(model, dataset)

    def prepare(self, options: JobOptions, files: Files, kind: JobKind) -> NewJob:
        """The job that the options come to, after every check that needs no worker."""
        catalogue = self._context.catalogue()
        recipe = self.check_options(options)
        check_job(recipe, options.inputs, files, catalogue)
        return NewJob(
            kind=kind,
            model_id=files.model.id,
            dataset_id=files.dataset.id if files.dataset else None,
            recipe=recipe,
            inputs=options.inputs,
            metadata=options.metadata,
            webhook_url=options.webhook.url if options.webhook and kind is JobKind.PRUNE else None,
            max_attempts=self._context.settings.max_attempts,
        )

    def check_options(self, options: JobOptions) -> Recipe:
        """The resolved recipe, after the checks that need not even the files."""
        if options.webhook is not None:
            self._check_webhook(options.webhook.url)
        return resolve_recipe(options, self._context.catalogue())

    def _check_webhook(self, url: str) -> None:
        try:
            check_url(url, allow_private=self._context.settings.webhook_allow_private)
        except RefusedAddressError as error:
            raise InvalidRequestError.at("/webhook/url", str(error)) from error

    def queue(self, new: NewJob, idempotency: IdempotencyKey | None) -> tuple[Job, bool]:
        """Commit the job and ring for it."""
        submission = self._store.jobs.submit(new, idempotency)
        if not submission.replayed:
            self._context.doorbell.ring(submission.job.id)
        return shown(submission.job), submission.replayed

    def record(self, job_id: str) -> JobRecord:
        """The row. Raises `MissingError` for helper jobs too: users never see inspections and plans."""
        try:
            job = self._store.jobs.get(job_id)
        except NotFoundError:
            job = None
        if job is None or job.kind is not JobKind.PRUNE:
            raise MissingError(f"There is no job {job_id}.")
        return job

    def page(self, status: JobStatus | None, limit: int, cursor: str | None) -> Page[Job]:
        """One page, newest first."""
        try:
            found = self._store.jobs.list(status=status, limit=limit, cursor=cursor)
        except ValueError as error:
            raise InvalidRequestError.at("/cursor", "this is not a cursor of ours") from error
        return Page[Job](items=[shown(record) for record in found.items], next_cursor=found.next_cursor)

    def cancel(self, job_id: str) -> Job:
        """Ask for the end of the job. Raises the store's `ConflictError` when it has ended."""
        self.record(job_id)
        return shown(self._store.jobs.cancel(job_id))

    def artefact(self, job_id: str, name: str) -> BlobRef:
        """`model`, `report` or `page` of a succeeded job. Raises `StateError` (409) otherwise."""
        job = self.record(job_id)
        found: BlobRef | None = getattr(job, name)
        if job.status is not JobStatus.SUCCEEDED:
            raise StateError(_why_nothing(job), hint=job.error.hint if job.error else None)
        if found is None:
            raise MissingError(f"The job has no {name}.")
        return found


def _why_nothing(job: JobRecord) -> str:
    if not job.status.finished:
        return f"The job is {job.status.value}; its result comes when it has succeeded."
    if job.status is JobStatus.CANCELLED:
        return "The job has been cancelled; it has no result."
    reason = f": {job.error.code.value}: {job.error.message}" if job.error else "."
    return f"The job has {job.status.value}{reason}"


def idempotency_key(route: str, key: str | None, body: Any) -> IdempotencyKey | None:
    """The key with a fingerprint of the body, in which the order of fields does not count."""
    if key is None:
        return None
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":"))
    return IdempotencyKey(route, key, hashlib.sha256(canonical.encode()).hexdigest())


def shown(job: JobRecord) -> Job:
    """A row as the API shows it."""
    assert job.recipe is not None  # noqa: S101 (only prune jobs are shown, and they have one)
    return Job(
        id=job.id,
        status=job.status,
        stage=job.stage,
        progress=job.progress,
        created_at=job.created_at,
        started_at=job.started_at,
        finished_at=job.finished_at,
        attempts=job.attempts,
        model_id=job.model_id,
        dataset_id=job.dataset_id,
        recipe=job.recipe,
        metadata=dict(job.metadata),
        checkpoint_at=job.checkpoint_at,
        error=job.error,
        summary=job.summary,
        links=_links(job),
    )


def _links(job: JobRecord) -> Links:
    base = f"/v1/jobs/{job.id}"
    return Links(
        self=base,
        events=f"{base}/events",
        cancel=f"{base}/cancel",
        report=f"{base}/report" if job.report else None,
        model=f"{base}/model" if job.model else None,
    )
