"""Requests and replies as plain data, free of any HTTP library's transport."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from json import JSONDecodeError, loads
from typing import Any, TypeVar, final

from httpx2 import Headers
from pydantic import BaseModel, ValidationError

from api_schemas.errors import ErrorCode, FieldError
from client.errors import ApiError, ProtocolError, api_error_class
from client.uploads import Upload

Schema = TypeVar("Schema", bound=BaseModel)

READ_SECONDS = 60.0
_CODES = {
    401: ErrorCode.UNAUTHORIZED,
    403: ErrorCode.UNAUTHORIZED,
    404: ErrorCode.NOT_FOUND,
    409: ErrorCode.CONFLICT,
    413: ErrorCode.PAYLOAD_TOO_LARGE,
    429: ErrorCode.RATE_LIMITED,
}
_LONGEST_SNIPPET = 200


@final
@dataclass(frozen=True)
class Call:
    """One request. `read_seconds` bounds the silence between two pieces of the answer."""

    method: str
    path: str
    params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    json: Any = None
    upload: Upload | None = None
    read_seconds: float = READ_SECONDS


@final
@dataclass(frozen=True)
class Reply:
    """One answer; `body` is empty for a reply whose body is being streamed.

    `sent_sha256` is the digest of what was sent, for requests whose body was one file.
    """

    status: int
    headers: Headers
    body: bytes = b""
    sent_sha256: str | None = None

    def check(self) -> None:
        """Raise the `ApiError` or `ProtocolError` that this reply stands for, unless it is a 2xx."""
        if self.status >= 400:
            raise problem(self)
        if not 200 <= self.status < 300:
            where = self.headers.get("location")
            raise ProtocolError(
                f"the server answered {self.status}" + (f", pointing to {where}" if where else ""),
                hint="redirects are not followed; set the server's address to where it really is",
            )

    def parse(self, schema: type[Schema]) -> Schema:
        """The body as `schema`. Raises `ProtocolError` when it is something else."""
        try:
            return schema.model_validate_json(self.body)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(step) for step in first["loc"]) or "body"
            raise ProtocolError(
                f"the answer is not the {schema.__name__} of the contract: {place}: {first['msg']}",
                hint="is this address a Lookahead server, and of a version like the client's?",
            ) from error


def problem(reply: Reply) -> ApiError:
    """The error of a reply with status 400 or more, whether or not its body is a problem document."""
    document = _document(reply)
    code = document.get("code") or _CODES.get(reply.status, ErrorCode.INTERNAL).value
    message = document.get("detail") or document.get("title") or _snippet(reply)
    return api_error_class(reply.status)(
        str(message),
        code=str(code),
        status=reply.status,
        hint=document.get("hint"),
        retry_after=retry_after(reply.headers),
        errors=_field_errors(document),
    )


def _document(reply: Reply) -> dict[str, Any]:
    try:
        document = loads(reply.body)
    except (JSONDecodeError, UnicodeDecodeError):
        return {}
    return document if isinstance(document, dict) else {}


def _snippet(reply: Reply) -> str:
    text = reply.body.decode("utf-8", "replace").strip()
    plain = "" if text.startswith("<") else " ".join(text.split())[:_LONGEST_SNIPPET]
    return f"HTTP {reply.status}" + (f": {plain}" if plain else "")


def _field_errors(document: dict[str, Any]) -> list[FieldError]:
    try:
        return [FieldError.model_validate(entry) for entry in document.get("errors") or []]
    except (ValidationError, TypeError):
        return []


def retry_after(headers: Headers) -> float | None:
    """Seconds named by `Retry-After`, given as a number or as a date (RFC 9110 §10.2.3); None without one."""
    value = headers.get("retry-after")
    if value is None:
        return None
    if value.strip().isdigit():
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())
