"""Every error as `application/problem+json`: the handlers, and the OpenAPI responses that document them."""

import logging
import uuid
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from api_schemas.errors import ERRORS, ErrorCode, FieldError, Problem, http_status, plain_message
from service.errors import ServiceError
from store.errors import ConflictError, IdempotencyMismatchError, NotFoundError, UnavailableError

PROBLEM_JSON = "application/problem+json"
_log = logging.getLogger("lookahead.service")
_CODE_OF_STATUS = {
    401: ErrorCode.UNAUTHORIZED,
    403: ErrorCode.UNAUTHORIZED,
    404: ErrorCode.NOT_FOUND,
    409: ErrorCode.CONFLICT,
    413: ErrorCode.PAYLOAD_TOO_LARGE,
    415: ErrorCode.UNSUPPORTED_FORMAT,
    429: ErrorCode.RATE_LIMITED,
}
_MOST_FIELD_ERRORS = 50


def problem(
    request: Request,
    code: ErrorCode,
    detail: str,
    *,
    status: int | None = None,
    hint: str | None = None,
    errors: Sequence[FieldError] = (),
    headers: Mapping[str, str] | None = None,
    instance: str | None = None,
) -> Response:
    """The problem document of a refusal, as a response."""
    own = http_status(code)
    status = status or own
    body = Problem(
        type=f"urn:lookahead:problem:{code}",
        title=ERRORS[code][1] if status == own else HTTPStatus(status).phrase,
        status=status,
        detail=_printable(detail),
        code=code,
        instance=instance or _printable(request.url.path),
        hint=hint,
        errors=list(errors),
    )
    return Response(body.model_dump_json(), status, dict(headers or {}), PROBLEM_JSON)


def _printable(text: str) -> str:
    """The text with lone surrogates replaced, so that it can be sent as UTF-8."""
    return text.encode("utf-8", "replace").decode("utf-8")


def install_problem_handlers(app: FastAPI) -> None:
    """Answer every error of the application with a problem document."""
    app.add_exception_handler(ServiceError, _service_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(NotFoundError, _store_not_found)
    app.add_exception_handler(ConflictError, _store_conflict)
    app.add_exception_handler(IdempotencyMismatchError, _store_mismatch)
    app.add_exception_handler(UnavailableError, _store_unavailable)
    app.add_exception_handler(ClientDisconnect, _disconnected)
    app.add_exception_handler(Exception, _unexpected)


async def _service_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ServiceError)  # noqa: S101 (tells mypy what the registration says)
    return problem(
        request,
        error.problem_code,
        error.detail,
        status=error.http_status,
        hint=error.hint,
        errors=error.errors,
        headers=error.headers,
    )


async def _validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101
    found = error.errors()
    if found and all(item["loc"][:1] == ("path",) for item in found):
        return problem(request, ErrorCode.NOT_FOUND, "No such thing: the id has not the form of one.")
    if any(item["type"] == "json_invalid" for item in found):
        return problem(request, ErrorCode.INVALID_RECIPE, "The body is not valid JSON.", status=400)
    errors = [field_error(item) for item in found[:_MOST_FIELD_ERRORS]]
    first = summed_up(errors[0]) if errors else "The request does not fit its schema."
    return problem(request, ErrorCode.INVALID_RECIPE, first, errors=errors)


def summed_up(error: FieldError) -> str:
    """Where and what, for a `detail`."""
    return f"{error.pointer or 'The body'}: {error.message}"


def field_error(item: Mapping[str, Any]) -> FieldError:
    """A pydantic error as a JSON pointer and a message."""
    where = [str(step) for step in item["loc"]]
    steps = where[1:] if where[:1] == ["body"] else where
    return FieldError(pointer=json_pointer(steps), message=_printable(plain_message(item)))


def json_pointer(steps: Sequence[str | int]) -> str:
    """The steps as a JSON pointer (RFC 6901)."""
    escaped = (_printable(str(step)).replace("~", "~0").replace("/", "~1") for step in steps)
    return "".join(f"/{step}" for step in escaped)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101
    fallback = ErrorCode.INTERNAL if error.status_code >= 500 else ErrorCode.INVALID_RECIPE
    code = _CODE_OF_STATUS.get(error.status_code, fallback)
    detail, headers = str(error.detail), dict(error.headers or {})
    if error.status_code == 404:
        detail = ERRORS[ErrorCode.NOT_FOUND][2]
    if error.status_code == 405:
        # The router names only the methods of the first route that fits the path.
        headers["Allow"] = ", ".join(sorted(request.app.state.routes.methods(request.url.path)))
        detail = f"This address does not take {request.method}; it takes {headers['Allow']}."
    return problem(request, code, detail, status=error.status_code, headers=headers)


async def _store_not_found(request: Request, error: Exception) -> Response:
    return problem(request, ErrorCode.NOT_FOUND, str(error) or ERRORS[ErrorCode.NOT_FOUND][2])


async def _store_conflict(request: Request, error: Exception) -> Response:
    return problem(request, ErrorCode.CONFLICT, str(error) or ERRORS[ErrorCode.CONFLICT][2])


async def _store_mismatch(request: Request, _error: Exception) -> Response:
    return problem(request, ErrorCode.IDEMPOTENCY_MISMATCH, ERRORS[ErrorCode.IDEMPOTENCY_MISMATCH][2])


async def _store_unavailable(request: Request, _error: Exception) -> Response:
    detail = "The database does not answer. Nothing was changed; try again."
    return problem(request, ErrorCode.INTERNAL, detail, status=503, headers={"Retry-After": "5"})


async def _disconnected(request: Request, _error: Exception) -> Response:
    """The client went away in mid-upload; nobody reads this answer, but logs and metrics do."""
    return problem(request, ErrorCode.INVALID_RECIPE, "The connection ended before the body did.", status=400)


async def _unexpected(request: Request, error: Exception) -> Response:
    instance = f"urn:uuid:{uuid.uuid4()}"
    _log.error("unexpected error, instance %s", instance, exc_info=error)
    return problem(request, ErrorCode.INTERNAL, ERRORS[ErrorCode.INTERNAL][2], instance=instance)


_MEANING = {
    400: "The body or a header cannot be read.",
    401: "No valid API key.",
    403: "Sent by a browser on behalf of another site.",
    404: "There is nothing here under that address.",
    405: "The address does not take that method.",
    408: "The upload stalled.",
    409: "The state of the thing does not allow this.",
    413: "Too large.",
    415: "The file is of no kind that we read.",
    416: "The range lies outside the file.",
    422: "The request does not fit its schema, the method or the model.",
    429: "Too many requests; `Retry-After` says for how long to wait.",
    500: "A fault of ours.",
    503: "No answer in time, or a part of the service is away.",
    507: "No room left on the disk.",
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI `responses` entries: these statuses are answered with problem documents."""
    return {status: _documented(status) for status in statuses}


def _documented(status: int) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Problem"}
    return {"description": _MEANING[status], "content": {PROBLEM_JSON: {"schema": schema}}}
