"""Messages survive any cutting of the stream; what is no message is refused."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api_schemas.errors import ErrorCode, JobError
from api_schemas.events import ChildEvent, EventType
from api_schemas.jobs import ChildResult
from worker.errors import BrokenProtocolError
from worker.protocol import MOST_EVENT_BYTES, ChildMessage, MessageReader

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
events = st.builds(
    lambda type_, key, value: ChildMessage(event=ChildEvent(type=type_, data={key: value})),
    st.sampled_from(EventType),
    texts,
    texts | st.integers(-(2**53), 2**53),
)
results = st.builds(
    lambda text: ChildMessage(result=ChildResult(error=JobError(code=ErrorCode.INTERNAL, message=text))),
    texts,
)


@given(st.lists(events | results | st.builds(ChildMessage, ready=texts), max_size=8), st.data())
def test_any_cutting_gives_the_same_messages(messages: list[ChildMessage], data: st.DataObject) -> None:
    stream = b"".join(message.line() for message in messages)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=10)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    reader = MessageReader()
    assert [message for piece in pieces for message in reader.feed(piece)] == messages


@given(st.binary(max_size=200))
def test_anything_else_is_refused_or_incomplete(noise: bytes) -> None:
    try:
        heard = MessageReader().feed(noise)
    except BrokenProtocolError:
        return
    for message in heard:
        assert json.loads(message.line()) is not None


@pytest.mark.parametrize(
    "line", [b"{}x\n", b"\n", b"[]\n", b'{"event": {"type": "launch"}}\n', b"[" * 100_000 + b"\n"]
)
def test_broken_lines(line: bytes) -> None:
    with pytest.raises(BrokenProtocolError):
        MessageReader().feed(line)


def test_a_large_event_is_refused() -> None:
    message = ChildMessage(event=ChildEvent(type=EventType.WARNING, data={"message": "x" * MOST_EVENT_BYTES}))
    with pytest.raises(BrokenProtocolError):
        MessageReader().feed(message.line())
