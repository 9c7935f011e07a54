"""What the client raises.

::

    LookaheadError                  code, message, hint
    ├── UnreachableError            no answer: refused, cut, timed out                  unreachable
    ├── ProtocolError               an answer that the contract does not know           bad_answer
    ├── LocalFileError              a file on this machine is missing or unusable       local_file
    ├── DigestMismatchError         the bytes are not those the server promised         digest_mismatch
    ├── WaitTimeoutError            the jobs run on; only the waiting ended             wait_timeout
    ├── JobFailedError              a result was asked of a job that has none           the job's code
    └── ApiError                    a problem document; status, retry_after, errors     the document's code
        ├── UnauthorizedError       401, 403
        ├── NotFoundError           404
        ├── ConflictError           409
        ├── RateLimitedError        429
        ├── InvalidRequestError     any other 4xx
        └── ServerError             5xx
"""

from collections.abc import Sequence
from typing import final

from api_schemas.errors import FieldError
from api_schemas.jobs import Job, JobStatus


class LookaheadError(Exception):
    """Something went wrong."""

    code = "error"

    def __init__(
        self, message: str | None = None, *, hint: str | None = None, code: str | None = None
    ) -> None:
        self.message = message or (self.__doc__ or "").strip()
        self.hint = hint
        self.code = code or type(self).code
        super().__init__(self.message)


@final
class UnreachableError(LookaheadError):
    """The server could not be reached, or went away in the middle."""

    code = "unreachable"


@final
class ProtocolError(LookaheadError):
    """The server answered with something that is not of the contract."""

    code = "bad_answer"


@final
class LocalFileError(LookaheadError):
    """A file on this machine is missing or cannot be used."""

    code = "local_file"


@final
class DigestMismatchError(LookaheadError):
    """The bytes that arrived are not the bytes that were promised."""

    code = "digest_mismatch"


@final
class WaitTimeoutError(LookaheadError, TimeoutError):
    """The wait is over before the job is; the job runs on."""

    code = "wait_timeout"

    def __init__(self, job_ids: Sequence[str], seconds: float, hint: str | None = None) -> None:
        self.job_ids = tuple(job_ids)
        super().__init__(
            f"not finished after {seconds:g} s: {', '.join(self.job_ids)}",
            hint=hint or "the job runs on at the server; wait for it again, or cancel it",
        )


@final
class JobFailedError(LookaheadError):
    """The job ended without a result."""

    def __init__(self, job: Job) -> None:
        self.job = job
        cancelled = job.status is JobStatus.CANCELLED
        code = job.error.code.value if job.error else "cancelled" if cancelled else "internal"
        message = job.error.message if job.error else f"the job was {job.status.value}"
        super().__init__(message, hint=job.error.hint if job.error else None, code=code)


class ApiError(LookaheadError):
    """The server refused the request (abstract: one of its subclasses is raised)."""

    def __init__(
        self,
        message: str,
        *,
        code: str,
        status: int,
        hint: str | None = None,
        retry_after: float | None = None,
        errors: Sequence[FieldError] = (),
    ) -> None:
        super().__init__(message, hint=hint, code=code)
        self.status = status
        self.retry_after = retry_after
        self.errors = tuple(errors)


@final
class UnauthorizedError(ApiError):
    """No valid API key, or one that may not do this."""


@final
class NotFoundError(ApiError):
    """There is nothing under that id or address."""


@final
class ConflictError(ApiError):
    """The request does not fit the present state of the thing it names."""


@final
class RateLimitedError(ApiError):
    """Too many requests; `retry_after` says for how many seconds to stay away."""


@final
class InvalidRequestError(ApiError):
    """The request itself is at fault; `errors` names the fields where the server knows them."""


@final
class ServerError(ApiError):
    """The server's own fault."""


def api_error_class(status: int) -> type[ApiError]:
    """The class for an HTTP status of 400 and above."""
    exact: dict[int, type[ApiError]] = {
        401: UnauthorizedError,
        403: UnauthorizedError,
        404: NotFoundError,
        409: ConflictError,
        429: RateLimitedError,
    }
    return exact.get(status, ServerError if status >= 500 else InvalidRequestError)
