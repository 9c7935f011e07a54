"""The pace on a clock of the test's own."""

import itertools

from worker.engine.pacing import Pace


class Clock:
    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        return self.time


def told(seconds: float, step: float, names: tuple[str, ...] = ("loss",)) -> list[float]:
    """When readings were told that came every `step` seconds."""
    clock, times = Clock(), []
    pace = Pace(clock)
    while clock.time < seconds:
        for name in names:
            if pace.due(name):
                pace.told(name)
                times.append(clock.time)
        clock.time += step
    return times


def test_the_first_minutes_are_told_twice_a_second() -> None:
    times = told(60, 0.01)
    assert len(times) in (119, 120)
    assert all(after - before >= 0.5 for before, after in itertools.pairwise(times))


def test_four_hours_are_a_few_thousand_events_however_many_curves_there_are() -> None:
    for names in (("loss",), ("", "loss", "accuracy", "rate")):
        times = told(4 * 3600, 0.25, names)
        assert len(times) < 4_000
        assert 4 * 3600 - times[-1] <= 61, "it speaks to the end"


def test_each_name_has_its_own_turn() -> None:
    pace = Pace(Clock())
    pace.told("loss")
    assert not pace.due("loss") and pace.due("accuracy")


def test_there_is_an_end_to_it() -> None:
    clock = Clock()
    pace = Pace(clock)
    for _ in range(4_000):
        assert pace.open
        pace.told("loss")
    clock.time = 1e9
    assert not pace.open and not pace.due("loss")
