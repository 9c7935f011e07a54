"""Stable error codes and the RFC 9457 problem document that carries them."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from api_schemas.base import Answer


class ErrorCode(StrEnum):
    """What went wrong, in a word that never changes."""

    UNSUPPORTED_FORMAT = "unsupported_format"
    INVALID_MODEL = "invalid_model"
    INVALID_RECIPE = "invalid_recipe"
    NEEDS_DATASET = "needs_dataset"
    NEEDS_INPUTS = "needs_inputs"
    NEEDS_LABELS = "needs_labels"
    INVALID_DATASET = "invalid_dataset"
    PICKLED_DATA = "pickled_data"
    WRONG_DTYPE = "wrong_dtype"
    NOT_FINITE = "not_finite"
    TOO_FEW_ROWS = "too_few_rows"
    LABELS_OUT_OF_RANGE = "labels_out_of_range"
    NOT_FOUND = "not_found"
    CONFLICT = "conflict"
    IDEMPOTENCY_MISMATCH = "idempotency_mismatch"
    PAYLOAD_TOO_LARGE = "payload_too_large"
    UNAUTHORIZED = "unauthorized"
    RATE_LIMITED = "rate_limited"
    OUT_OF_MEMORY = "out_of_memory"
    TIME_LIMIT = "time_limit"
    SANDBOX_VIOLATION = "sandbox_violation"
    WORKER_LOST = "worker_lost"
    CANCELLED = "cancelled"
    INTERNAL = "internal"


#: code -> (HTTP status when a request fails with it, title, what it means)
ERRORS: dict[ErrorCode, tuple[int, str, str]] = {
    ErrorCode.UNSUPPORTED_FORMAT: (415, "Unsupported format", "The file is of no kind that we read."),
    ErrorCode.INVALID_MODEL: (
        422,
        "Invalid model",
        "The file cannot be used as a model, or holds nothing to prune.",
    ),
    ErrorCode.INVALID_RECIPE: (
        422,
        "Invalid request",
        "The request does not fit its schema, the method or the model.",
    ),
    ErrorCode.NEEDS_DATASET: (422, "Data needed", "The method looks at data, and none that fits was given."),
    ErrorCode.NEEDS_INPUTS: (
        422,
        "Input shapes needed",
        "The file does not say its input shapes; give `inputs`.",
    ),
    ErrorCode.NEEDS_LABELS: (422, "Labels needed", "The method needs a dataset with `targets`."),
    ErrorCode.INVALID_DATASET: (
        422,
        "Invalid dataset",
        "The dataset is damaged, contradicts itself, or holds what is not read.",
    ),
    ErrorCode.PICKLED_DATA: (
        422,
        "Pickled data",
        "The dataset holds Python objects; they are never unpickled.",
    ),
    ErrorCode.WRONG_DTYPE: (
        422,
        "Wrong kind of numbers",
        "An array holds another kind of numbers than the model's input takes.",
    ),
    ErrorCode.NOT_FINITE: (
        422,
        "Numbers that are none",
        "The dataset holds NaN, infinity, or numbers too large for the model's input.",
    ),
    ErrorCode.TOO_FEW_ROWS: (422, "Too few rows", "The dataset has too few rows for what is asked."),
    ErrorCode.LABELS_OUT_OF_RANGE: (
        422,
        "Labels out of range",
        "Some labels name classes that the model does not have.",
    ),
    ErrorCode.NOT_FOUND: (404, "Not found", "There is nothing here under that address."),
    ErrorCode.CONFLICT: (
        409,
        "Conflict",
        "The request does not fit the present state of the thing it names.",
    ),
    ErrorCode.IDEMPOTENCY_MISMATCH: (
        422,
        "Idempotency key reused",
        "The key was used before with another body.",
    ),
    ErrorCode.PAYLOAD_TOO_LARGE: (
        413,
        "Too large",
        "The upload is over the limit, here or in its logical size.",
    ),
    ErrorCode.UNAUTHORIZED: (401, "Unauthorized", "No valid API key came with the request."),
    ErrorCode.RATE_LIMITED: (429, "Too many requests", "Slow down; `Retry-After` says for how long."),
    ErrorCode.OUT_OF_MEMORY: (500, "Out of memory", "The job needed more memory than a worker gives."),
    ErrorCode.TIME_LIMIT: (500, "Time limit", "The job or one of its stages ran out of time."),
    ErrorCode.SANDBOX_VIOLATION: (
        500,
        "Sandbox violation",
        "The file tried something that a model has no need to do.",
    ),
    ErrorCode.WORKER_LOST: (500, "Worker lost", "The process that ran the job died, as often as we retry."),
    ErrorCode.CANCELLED: (409, "Cancelled", "The job was cancelled before it was done."),
    ErrorCode.INTERNAL: (500, "Internal error", "A fault of ours. The instance id finds it in our logs."),
}


def http_status(code: ErrorCode) -> int:
    """The HTTP status that goes with a code where nothing more exact is known (405, say)."""
    return ERRORS[code][0]


class FieldError(Answer):
    """One thing wrong with a request body; `pointer` is a JSON pointer (RFC 6901)."""

    pointer: str
    message: str


class Problem(Answer):
    """RFC 9457 problem document: the body of every error, whatever its status."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    code: ErrorCode
    instance: str | None = None
    hint: str | None = None
    errors: list[FieldError] = []


class JobError(Answer):
    """Why a job ended without a result."""

    code: ErrorCode
    message: str
    hint: str | None = None


def plain_message(item: Mapping[str, Any]) -> str:
    """What pydantic says of one error, without the name of the exception that a validator of ours raised."""
    return str(item["msg"]).removeprefix("Value error, ")
