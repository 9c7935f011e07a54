"""Python client of the Lookahead service: `Lookahead` blocks, `AsyncLookahead` awaits, all else is alike."""

from client.async_client import AsyncLookahead
from client.errors import (
    ApiError,
    ConflictError,
    DigestMismatchError,
    InvalidRequestError,
    JobFailedError,
    LocalFileError,
    LookaheadError,
    NotFoundError,
    ProtocolError,
    RateLimitedError,
    ServerError,
    UnauthorizedError,
    UnreachableError,
    WaitTimeoutError,
)
from client.retry import RetryPolicy
from client.sync_client import Lookahead

__all__ = [
    "ApiError",
    "AsyncLookahead",
    "ConflictError",
    "DigestMismatchError",
    "InvalidRequestError",
    "JobFailedError",
    "LocalFileError",
    "Lookahead",
    "LookaheadError",
    "NotFoundError",
    "ProtocolError",
    "RateLimitedError",
    "RetryPolicy",
    "ServerError",
    "UnauthorizedError",
    "UnreachableError",
    "WaitTimeoutError",
]
