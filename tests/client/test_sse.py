"""The event-stream decoder against httpx2's own."""

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.errors import ProtocolError
from client.sse import EventStream

LINES = st.sampled_from(
    ["", "", ": heartbeat", "data: a", "data:b", "data:  c", "data", "id: 7", "id:", "event: stage", "event"]  # noqa: RUF005
    + ["retry: 10", "nonsense", "unknown: x", "data: ü€", "id: a\0b"]
)


def _oracle(text: str) -> list[tuple[str, str, str]]:
    response = httpx2.Response(
        200,
        headers={"content-type": "text/event-stream; charset=utf-8"},
        content=text.encode(),
        request=httpx2.Request("GET", "http://x"),
    )
    return [(found.event, found.data, found.id) for found in httpx2.EventSource(response) if found.data]


@given(lines=st.lists(LINES, max_size=40), newline=st.sampled_from(["\n", "\r\n"]), data=st.data())
def test_any_chunking_gives_what_httpx2_finds(lines: list[str], newline: str, data: st.DataObject) -> None:
    text = newline.join(lines) + newline
    raw, stream, found = text.encode(), EventStream(), []
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=8)))
    for start, end in zip([0, *cuts], [*cuts, len(raw)], strict=True):
        found += [(message.event, message.data, message.id) for message in stream.feed(raw[start:end])]
    assert [message for message in found if message[1]] == _oracle(text)


def test_an_endless_event_is_refused() -> None:
    stream = EventStream()
    with pytest.raises(ProtocolError, match="larger"):
        for _ in range(6):
            stream.feed(b"x" * (1 << 20))
