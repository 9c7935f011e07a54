"""`POST /v1/prune`: model, data and recipe in one request."""

from pathlib import Path
from typing import Any

from anyio.to_thread import run_sync
from fastapi import APIRouter, Request, Response
from pydantic import ValidationError

from api_schemas.errors import FieldError, plain_message
from api_schemas.jobs import Job, JobOptions
from service.context import Context, ContextDep
from service.datasets.service import DatasetService
from service.errors import BadRequestError, InvalidRequestError
from service.jobs.checks import Files
from service.jobs.endpoints import ACCEPTED, IdempotencyHeader, accepted_headers
from service.jobs.service import JobService, idempotency_key, shown
from service.json_values import parse_json
from service.models.service import ModelService, check_model, is_multipart, model_of_form
from service.problems import json_pointer, problems
from service.transfer.incoming import Received, body_chunks, staging
from service.transfer.multipart import Form, MultipartReceiver
from store.records import IdempotencyKey, JobKind

router = APIRouter(tags=["jobs"])

_BINARY = {"type": "string", "format": "binary"}
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file", "request"],
                    "additionalProperties": False,
                    "properties": {
                        "file": _BINARY,
                        "external_data": {"type": "array", "items": _BINARY, "maxItems": 500},
                        "dataset": _BINARY,
                        "request": {
                            "type": "string",
                            "contentMediaType": "application/json",
                            "description": "The body of `POST /v1/jobs` without ids.",
                            "example": '{"recipe": {"preset": "lookahead", "target": {"sparsity": 0.8}}}',
                        },
                    },
                }
            }
        },
    }
}


@router.post(
    "/prune",
    status_code=202,
    responses={202: ACCEPTED, **problems(400, 408, 413, 415, 422, 507)},
    openapi_extra=_BODY,
)
async def prune(
    request: Request, response: Response, context: ContextDep, key: IdempotencyHeader = None
) -> Job:
    """Upload a model, with data if you like, and queue its pruning in one call."""
    if not is_multipart(request):
        raise BadRequestError("multipart/form-data with the parts `file` and `request` is expected.")
    async with staging(context) as directory:
        form = await _receive(request, context, directory)
        options = parse_options(form.fields.get("request"))
        job, replayed = await run_sync(submit_files, context, options, form, directory, key)
    accepted_headers(response, job, replayed)
    return job


async def _receive(request: Request, context: Context, directory: Path) -> Form:
    receiver = MultipartReceiver(
        directory,
        files=("file", "external_data", "dataset"),
        fields=("request",),
        max_field_bytes=context.settings.max_json_bytes,
    )
    chunks = body_chunks(request, context, directory)
    return await receiver.receive(request.headers["content-type"], chunks)


def submit_files(
    context: Context, options: JobOptions, form: Form, directory: Path, key: str | None
) -> tuple[Job, bool]:
    """Check everything that can be checked, then store the files and queue the job. Blocks."""
    service = JobService(context)
    service.check_options(options)
    uploaded = form.one("file")
    dataset = form.at_most_one("dataset")
    idempotency = _idempotency(key, options, form)
    if idempotency is not None and (earlier := context.store.jobs.replay(idempotency)) is not None:
        return shown(earlier), True
    model = model_of_form(form, directory) if form.all("external_data") else uploaded
    files = _store(context, model, dataset)
    return service.queue(service.prepare(options, files, JobKind.PRUNE), idempotency)


def _store(context: Context, model: Received, dataset: Received | None) -> Files:
    """Both are checked before either is kept, so a refused call leaves neither behind."""
    check_model(model, context)
    stored = DatasetService(context).add(dataset) if dataset else None
    return Files(ModelService(context).add(model), stored)


def parse_options(text: str | None) -> JobOptions:
    """The `request` part. Raises `InvalidRequestError` with pointers into it."""
    if text is None:
        raise InvalidRequestError.at("/request", "the part `request` is missing")
    try:
        return JobOptions.model_validate(parse_json(text))
    except ValidationError as error:
        errors = [
            FieldError(pointer=json_pointer(["request", *item["loc"]]), message=plain_message(item))
            for item in error.errors()[:50]
        ]
        raise InvalidRequestError(f"{errors[0].pointer}: {errors[0].message}", errors=errors) from error


def _idempotency(key: str | None, options: JobOptions, form: Form) -> IdempotencyKey | None:
    digests = [[name, received.filename, received.sha256] for name, received in form.files]
    return idempotency_key("/v1/prune", key, [options.model_dump(mode="json"), digests])
