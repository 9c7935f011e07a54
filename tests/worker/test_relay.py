"""Whatever a child says, what is kept is small, plain and of a known kind."""

import json
import math

from hypothesis import given
from hypothesis import strategies as st

from api_schemas.events import ChildEvent, EventType
from api_schemas.jobs import Progress, Stage
from worker.relay import clean_event, clean_text

leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=60)
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)
names = st.sampled_from(["stage", "done", "total", "unit", "name", "value", "step", "message", "status", "x"])
events = st.builds(
    lambda type_, data: ChildEvent(type=type_, data=data),
    st.sampled_from(EventType),
    st.dictionaries(names, values),
)
FIELDS = {
    EventType.STAGE: {"stage"},
    EventType.PROGRESS: {"done", "total", "unit"},
    EventType.METRIC: {"name", "value", "step"},
    EventType.WARNING: {"message"},
}


@given(events)
def test_only_known_fields_of_known_kinds(event: ChildEvent) -> None:
    cleaned = clean_event(event)
    if cleaned is None:
        return
    assert cleaned.type is event.type is not EventType.STATUS
    assert set(cleaned.data) <= FIELDS[cleaned.type]
    assert len(json.dumps(cleaned.data, allow_nan=False)) < 30_000
    assert clean_event(cleaned) == cleaned


@given(st.sampled_from(Stage))
def test_stages_pass(stage: Stage) -> None:
    event = ChildEvent(type=EventType.STAGE, data={"stage": stage.value})
    assert clean_event(event) == event


@given(st.integers(0, 10**6), st.none() | st.integers(0, 10**6), st.none() | st.just("layers"))
def test_progress_passes(done: int, total: int | None, unit: str | None) -> None:
    data = Progress(done=done, total=total, unit=unit).model_dump()
    event = ChildEvent(type=EventType.PROGRESS, data=data)
    assert clean_event(event) == event


@given(st.text(max_size=20), st.floats())
def test_metrics_are_finite(name: str, value: float) -> None:
    cleaned = clean_event(ChildEvent(type=EventType.METRIC, data={"name": name, "value": value}))
    assert (cleaned is not None) == math.isfinite(value)


@given(st.text(max_size=300), st.integers(1, 100))
def test_text_is_one_short_printable_line(text: str, most: int) -> None:
    line = clean_text(text, most)
    assert len(line) <= most
    assert line.splitlines() in ([], [line])
    assert not any(ord(character) < 32 or 127 <= ord(character) < 160 for character in line)
    line.encode()
