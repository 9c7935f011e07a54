"""The curves of a job's page: what it has measured step by step, as points for inline SVG."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, final

from api_schemas.events import Event, EventType

WIDTH: Final = 320
HEIGHT: Final = 96
_EDGE: Final = 3.0  # so that a line at the border is not cut in half
_MOST_POINTS: Final = 400

Point = tuple[float, float]


@final
@dataclass(frozen=True)
class Curve:
    """Readings of one name. Where steps begin again, in another round or attempt, there is another run."""

    name: str
    runs: tuple[tuple[Point, ...], ...]

    @property
    def latest(self) -> Point:
        """The last step and its value."""
        return self.runs[-1][-1]

    @property
    def range(self) -> tuple[float, float]:
        """The least and the greatest value."""
        values = [value for run in self.runs for _, value in run]
        return min(values), max(values)

    @property
    def last_step(self) -> float:
        """The largest step."""
        return max(step for run in self.runs for step, _ in run)

    @property
    def first_step(self) -> float:
        """The smallest step."""
        return min(step for run in self.runs for step, _ in run)

    @property
    def lines(self) -> list[str]:
        """Each run as the `points` of a polyline, in a drawing of `WIDTH` by `HEIGHT`."""
        low, high = self.range
        across, up = _Axis(self.first_step, self.last_step, WIDTH), _Axis(low, high, HEIGHT)
        return [
            " ".join(f"{across(step):.1f},{HEIGHT - up(value):.1f}" for step, value in _thinned(run))
            for run in self.runs
        ]


@final
@dataclass(frozen=True)
class _Axis:
    low: float
    high: float
    length: float

    def __call__(self, value: float) -> float:
        """Pixels; a line without extent is in the middle."""
        share = (value - self.low) / (self.high - self.low) if self.high > self.low else 0.5
        return _EDGE + share * (self.length - 2 * _EDGE)


def curves(events: Iterable[Event]) -> list[Curve]:
    """The curves in the order in which they began."""
    found: dict[str, list[list[Point]]] = {}
    for event in events:
        if event.type is not EventType.METRIC or "step" not in event.data:
            continue
        point = (float(event.data["step"]), float(event.data["value"]))
        runs = found.setdefault(str(event.data["name"]), [[]])
        if runs[-1] and point[0] <= runs[-1][-1][0]:
            runs.append([])
        runs[-1].append(point)
    return [Curve(name, tuple(tuple(run) for run in runs)) for name, runs in found.items()]


def _thinned(run: Sequence[Point]) -> Sequence[Point]:
    """No more points than can be seen; the last is always there."""
    every = -(-len(run) // _MOST_POINTS)
    return run[::-1][::every][::-1]
