"""Server-Sent Events out of raw pieces.

httpx2's own `EventSource` passes over heartbeats in silence; a wait with a deadline has to see them,
because they are what lets it look at its clock.
"""

from dataclasses import dataclass
from typing import final

from client.errors import ProtocolError

_MOST_BYTES = 4 << 20


@final
@dataclass(frozen=True)
class Message:
    """One dispatched message; `id` is the last one seen on the stream, empty before the first."""

    event: str
    data: str
    id: str


@final
class EventStream:
    """A decoder fed with bytes as they come (WHATWG HTML, 9.2.6)."""

    def __init__(self) -> None:
        self._buffer = b""
        self._last_id = ""
        self._clear()

    def _clear(self) -> None:
        self._event = ""
        self._data: list[str] = []
        self._size = 0

    def feed(self, chunk: bytes) -> list[Message]:
        """The messages completed by this piece. Raises `ProtocolError` for one without end."""
        pieces = (self._buffer + chunk).split(b"\n")
        self._buffer = pieces.pop()
        messages = [message for line in pieces if (message := self._line(line.removesuffix(b"\r")))]
        if self._size + len(self._buffer) > _MOST_BYTES:
            raise ProtocolError(f"a server-sent event is larger than {_MOST_BYTES} bytes")
        return messages

    def _line(self, line: bytes) -> Message | None:
        if not line:
            return self._dispatch()
        name, _, value = line.decode("utf-8", "replace").partition(":")
        value = value.removeprefix(" ")
        self._size += len(line)
        if name == "event":
            self._event = value
        elif name == "data":
            self._data.append(value)
        elif name == "id" and "\0" not in value:
            self._last_id = value
        return None

    def _dispatch(self) -> Message | None:
        data, event = self._data, self._event
        self._clear()
        return Message(event or "message", "\n".join(data), self._last_id) if data else None
