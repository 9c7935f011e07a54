"""What supervisor and child say to each other: JSON lines, one order in, messages out.

Everything that comes out of the child is untrusted: lengths are capped before anything is parsed.
"""

from typing import Final, final

from pydantic import BaseModel, ConfigDict, ValidationError

from api_schemas.events import ChildEvent
from api_schemas.jobs import ChildOrder, ChildResult
from worker.errors import BrokenProtocolError
from worker.sandbox.limits import Limits

MOST_EVENT_BYTES: Final = 64 * 1024
MOST_RESULT_BYTES: Final = 64 * 1024 * 1024  # an inspection lists every layer


@final
class ChildStart(BaseModel):
    """The one line on the child's standard input."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    order: ChildOrder
    limits: Limits


@final
class ChildMessage(BaseModel):
    """One line from the child; exactly one of the fields is set.

    `ready` carries the description of the sandbox; `refused` says why there is none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    ready: str | None = None
    refused: str | None = None
    event: ChildEvent | None = None
    result: ChildResult | None = None

    def line(self) -> bytes:
        """The message as it travels."""
        return self.model_dump_json(exclude_none=True).encode() + b"\n"


@final
class MessageReader:
    """Cuts the child's bytes into messages."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[ChildMessage]:
        """The messages completed by `data`. Raises `BrokenProtocolError`."""
        self._rest += data
        if len(self._rest) > MOST_RESULT_BYTES:
            raise BrokenProtocolError("a message without end")
        if b"\n" not in data:
            return []
        *lines, self._rest = self._rest.split(b"\n")
        return [_parse(bytes(line)) for line in lines]


def _parse(line: bytes) -> ChildMessage:
    try:
        message = ChildMessage.model_validate_json(line)
    except (ValidationError, RecursionError) as error:
        raise BrokenProtocolError("a message that is none of ours") from error
    if message.event is not None and len(line) > MOST_EVENT_BYTES:
        raise BrokenProtocolError("an event of more than 64 KiB")
    return message
