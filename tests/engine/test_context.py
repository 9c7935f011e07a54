"""What a job tells of itself while it works."""

from pathlib import Path

from api_schemas.events import ChildEvent, EventType
from api_schemas.jobs import Stage
from worker.engine.checkpoint import Checkpoints
from worker.engine.context import Context, quietly


def heard(tmp_path: Path) -> tuple[Context, list[ChildEvent]]:
    events: list[ChildEvent] = []
    return Context(tmp_path, emit=events.append), events


def of(events: list[ChildEvent], type_: EventType) -> list[dict[str, object]]:
    return [event.data for event in events if event.type is type_]


def test_many_steps_make_few_events_and_the_first_and_last_are_among_them(tmp_path: Path) -> None:
    context, events = heard(tmp_path)
    with context.stage(Stage.RECOVERING):
        for step in range(1, 50_001):
            context.metric("loss", 1 / step, step)
            context.progress(step, 50_000, "steps")
    for data in (of(events, EventType.METRIC), of(events, EventType.PROGRESS)):
        assert 2 <= len(data) < 1_000
    assert of(events, EventType.METRIC)[0] == {"name": "loss", "value": 1.0, "step": 1}
    assert of(events, EventType.METRIC)[-1] == {"name": "loss", "value": 1 / 50_000, "step": 50_000}
    assert of(events, EventType.PROGRESS)[-1] == {"done": 50_000, "total": 50_000, "unit": "steps"}


def test_nothing_is_told_twice(tmp_path: Path) -> None:
    context, events = heard(tmp_path)
    with context.stage(Stage.RECOVERING):
        for step in range(3):
            context.metric("loss", 1.0, step)
    with context.stage(Stage.VERIFYING):
        pass
    assert [data["step"] for data in of(events, EventType.METRIC)] == [0, 2]


def test_a_reading_is_due_once_and_then_not_for_a_while(tmp_path: Path) -> None:
    context, _ = heard(tmp_path)
    assert context.metric_due("loss")
    context.metric("loss", 1.0, 1)
    assert not context.metric_due("loss") and context.metric_due("accuracy")


def test_every_stage_has_checkpoints_of_its_own(tmp_path: Path) -> None:
    context = Context(tmp_path, checkpoints=Checkpoints(tmp_path / "saved"))
    with context.stage(Stage.RECOVERING):
        context.checkpoints.save({"step": 1}, forced=True)
    with context.stage(Stage.RECOVERING):
        assert context.checkpoints.load() is None


def test_what_is_tried_out_leaves_no_trace(tmp_path: Path) -> None:
    context, events = heard(tmp_path)
    context.checkpoints = Checkpoints(tmp_path / "saved", emit=events.append)
    trial = quietly(context)
    with trial.stage(Stage.RECOVERING):
        trial.metric("loss", 1.0, 1)
        trial.warn("odd")
        trial.checkpoints.save({"step": 1}, forced=True)
    assert (events, context.warnings, context.times) == ([], [], [])
    assert context.checkpoints.load() is None
