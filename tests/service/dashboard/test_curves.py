"""The curves of a job's page: every reading in its place, and nothing in a name that a browser would obey."""

import re
from datetime import UTC, datetime

import pytest
from starlette.testclient import TestClient

from api_schemas.events import ChildEvent, Event, EventType
from service.dashboard.curves import HEIGHT, WIDTH, Curve, curves
from service.dashboard.words import short
from tests.service.dashboard.test_dashboard import check, page
from tests.service.files import onnx_bytes
from tests.service.jobs.requests import body
from tests.service.workers import Hand


@pytest.fixture
def job_id(client: TestClient, hand: Hand) -> str:
    """A queued job."""
    model = client.post("/v1/models", content=onnx_bytes()).json()
    hand.inspect()
    found: str = client.post("/v1/jobs", json=body(model["id"])).json()["id"]
    return found


def readings(*found: tuple[str, float | None, float]) -> list[Event]:
    """METRIC events of (name, step, value)."""
    return [
        Event(
            id=number,
            type=EventType.METRIC,
            at=datetime(2026, 11, 20, tzinfo=UTC),
            data={"name": name, "value": value} | ({} if step is None else {"step": step}),
        )
        for number, (name, step, value) in enumerate(found, 1)
    ]


def points(line: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in (pair.split(",") for pair in line.split())]


def test_readings_become_curves_by_name_in_the_order_they_came() -> None:
    found = curves(readings(("loss", 1, 0.9), ("accuracy", 1, 0.1), ("loss", 2, 0.5), ("odd", None, 1.0)))
    assert [curve.name for curve in found] == ["loss", "accuracy"]
    assert found[0].runs == (((1.0, 0.9), (2.0, 0.5)),)
    assert (found[0].latest, found[0].range, found[0].last_step) == ((2.0, 0.5), (0.5, 0.9), 2.0)


def test_steps_that_begin_again_are_another_run() -> None:
    (curve,) = curves(readings(("loss", 1, 3), ("loss", 5, 2), ("loss", 4, 2.5), ("loss", 6, 1)))
    assert curve.runs == (((1, 3), (5, 2)), ((4, 2.5), (6, 1)))


def test_higher_values_are_higher_and_later_steps_further_right() -> None:
    (line,) = Curve("loss", (((1, 4.0), (2, 1.0), (3, 2.0)),)).lines
    (x1, y1), (x2, y2), (x3, y3) = points(line)
    assert x1 < x2 < x3 and y1 < y3 < y2
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in points(line))


def test_a_flat_curve_is_in_the_middle() -> None:
    (line,) = Curve("rate", (((7, 0.1),),)).lines
    assert points(line) == [(WIDTH / 2, HEIGHT / 2)]


def test_long_runs_are_thinned_and_keep_their_end() -> None:
    run = tuple((float(step), 1.0 / (step + 1)) for step in range(4_001))
    (line,) = Curve("loss", (run,)).lines
    drawn = points(line)
    assert 300 <= len(drawn) <= 400
    assert drawn[-1] == (WIDTH - 3.0, HEIGHT - 3.0)


def measured(hand: Hand, *events: ChildEvent) -> None:
    hand.store.jobs.record(hand.start(), events)


def metric(name: str, step: int, value: float) -> ChildEvent:
    return ChildEvent(type=EventType.METRIC, data={"name": name, "value": value, "step": step})


def test_the_page_shows_them_and_its_script_gets_the_same(
    client: TestClient,
    hand: Hand,
    job_id: str,
) -> None:
    saved = ChildEvent(type=EventType.CHECKPOINT, data={"action": "saved", "size_bytes": 5})
    measured(hand, metric("loss", 1, 0.75), metric("loss", 2, 0.25), saved)
    text = page(client, f"/ui/jobs/{job_id}")
    (address,) = re.findall(r'data-curves="([^"]+)"', text)
    part = client.get(address).text
    assert part.strip() in text and "0.25 at step 2" in part
    assert len(re.findall("<polyline", part)) == 1
    check(part)
    assert "metric" not in text.partition('id="events"')[2], "readings are drawn, not listed"
    assert 'data-last="6"' in text and '<li value="6">' in text
    assert "checkpoint" in text.partition('id="events"')[2]


def test_names_are_escaped(client: TestClient, hand: Hand, job_id: str) -> None:
    measured(hand, metric("<img src=x>\"'", 1, 0.5))
    for path in (f"/ui/jobs/{job_id}", f"/ui/jobs/{job_id}/curves"):
        text = page(client, path)
        assert "<img" not in text and "&lt;img" in text


def test_a_job_without_readings_has_no_curves(client: TestClient, hand: Hand, job_id: str) -> None:
    assert client.get(f"/ui/jobs/{job_id}/curves").text.strip() == ""
    assert client.get("/ui/jobs/job_00000000000000000000000000/curves").status_code == 404


@pytest.mark.parametrize(
    ("value", "text"),
    [(3, "3"), (12_000.0, "12,000"), (0.123456, "0.1235"), (1e-7, "1e-07"), (2.5e12, "2.5e+12")],
)
def test_figures_are_short(value: float, text: str) -> None:
    assert short(value) == text
