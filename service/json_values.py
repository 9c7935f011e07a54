"""JSON bodies: parsed once more strictly than the standard library does, and capped in size.

Refused are values that no database keeps and no strict parser reads back, with a pointer to the place.
"""

import json
import math
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive

from api_schemas.errors import FieldError
from service.errors import BadRequestError, InvalidRequestError, TooLargeError
from service.problems import json_pointer

_MOST = 20
_LARGEST = 2**63
_DEEPEST = 64


def parse_json(data: bytes | str) -> object:
    """The document. Raises `BadRequestError` (400) or `InvalidRequestError` (422)."""
    try:
        document: object = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BadRequestError("The body is not valid JSON.") from error
    refuse_unstorable(document)
    return document


class JsonRoute(APIRoute):
    """A route whose body is JSON of limited size and depth; FastAPI parses it after this has looked at it."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's handler behind the checks."""
        handler = super().get_route_handler()

        async def checked(request: Request) -> Response:
            limit = request.app.state.context.settings.max_json_bytes
            capped = Request(request.scope, _capped(request.receive, limit))
            if body := await capped.body():
                parse_json(body)
            return await handler(capped)

        return checked


def _capped(receive: Receive, limit: int) -> Receive:
    received = 0

    async def counting() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > limit:
            raise TooLargeError(f"The body is larger than {limit:,} bytes.")
        return message

    return counting


def refuse_unstorable(document: object) -> None:
    """Raise `InvalidRequestError` for NUL characters, lone surrogates, NaN, infinities and giant integers."""
    found: list[FieldError] = []
    for path, value in _walk(document, ()):
        if (reason := _trouble(value)) is not None:
            found.append(FieldError(pointer=json_pointer(path), message=reason))
        if len(found) == _MOST:
            break
    if found:
        raise InvalidRequestError(f"{found[0].pointer}: {found[0].message}", errors=found)


def _walk(value: object, path: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], object]]:
    if len(path) > _DEEPEST:
        raise BadRequestError("The body is nested too deeply.")
    if isinstance(value, dict):
        for key, item in value.items():
            yield path, key
            yield from _walk(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _walk(item, (*path, index))
    else:
        yield path, value


def _trouble(value: object) -> str | None:
    if isinstance(value, str):
        if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
            return "text must not hold NUL characters or lone surrogates"
    elif isinstance(value, float) and not math.isfinite(value):
        return "a number must be finite"
    elif isinstance(value, int) and abs(value) >= _LARGEST:
        return "a number must fit 64 bits"
    return None
