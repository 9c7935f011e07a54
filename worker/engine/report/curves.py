"""Figures over figures as inline SVG: what a search tried, what a sweep found, how a loss fell."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

from markupsafe import Markup

from worker.engine.report.svg import Axis, drawing, label, line, pixels

#: Width of a letter, rather too much than too little.
_LETTER = 7.0
_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 640, 260, 74, 16, 26, 44


@final
@dataclass(frozen=True)
class Mark:
    """A point: on the line or beside it, the chosen one or not, and what a pointer resting on it reads.

    `note` stands beside it in the picture.
    """

    x: float
    y: float
    title: str
    joined: bool = True
    chosen: bool = False
    note: str = ""


@final
@dataclass(frozen=True)
class Scale:
    """An axis' name and how its numbers are written."""

    name: str
    spell: Callable[[float], str]


def curve(marks: Sequence[Mark], across: Scale, up: Scale, goal: float | None = None) -> Markup | None:
    """Marks over two linear axes, the joined ones on a line; `goal` is a line across. None without two marks
    that are finite numbers."""
    shown = [mark for mark in marks if math.isfinite(mark.x) and math.isfinite(mark.y)]
    if len(shown) < 2:
        return None
    x = _axis([mark.x for mark in shown], _LEFT, _WIDTH - _RIGHT)
    y = _axis([mark.y for mark in shown] + ([] if goal is None else [goal]), _HEIGHT - _BOTTOM, _TOP)
    parts = [*_frame(x, y, across, up)]
    if goal is not None:
        parts.append(line("threshold", _LEFT, y(goal), _WIDTH - _RIGHT, y(goal)))
    parts.append(_path([(x(mark.x), y(mark.y)) for mark in shown if mark.joined]))
    parts.extend(_dot(mark, x(mark.x), y(mark.y)) for mark in shown)
    parts.extend(_note(mark.note, x(mark.x), y(mark.y)) for mark in shown if mark.note)
    return drawing("chart plot", _WIDTH, _HEIGHT, f"{up.name} over {across.name}", parts)


@final
@dataclass(frozen=True)
class Line:
    """Points on a line of its own; `css` gives it its look."""

    points: Sequence[tuple[float, float]]
    css: str = "curve"


def lines(drawn: Sequence[Line], across: Scale, up: Scale) -> Markup | None:
    """Several lines over the same two linear axes. None where no line has two points that are finite."""
    finite = [[place for place in item.points if all(map(math.isfinite, place))] for item in drawn]
    shown = [place for places in finite if len(places) > 1 for place in places]
    if not shown:
        return None
    x = _axis([place[0] for place in shown], _LEFT, _WIDTH - _RIGHT)
    y = _axis([place[1] for place in shown], _HEIGHT - _BOTTOM, _TOP)
    parts = [*_frame(x, y, across, up)]
    for item, places in zip(drawn, finite, strict=True):
        parts.append(_path([(x(one), y(other)) for one, other in places], item.css))
    return drawing("chart plot", _WIDTH, _HEIGHT, f"{up.name} over {across.name}", parts)


def _axis(values: Sequence[float], start: float, end: float) -> Axis:
    low, high = min(values), max(values)
    margin = 0.04 * (high - low) or 0.06 * abs(high) or 1.0
    return Axis(low - margin, high + margin, end - start, start)


def round_values(low: float, high: float) -> list[float]:
    """Two to six round numbers between two: multiples of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [count * step for count in range(first, last + 1)]


def _frame(x: Axis, y: Axis, across: Scale, up: Scale) -> list[Markup]:
    parts = list[Markup]()
    for value in round_values(y.low, y.high):
        parts.append(line("grid", _LEFT, y(value), _WIDTH - _RIGHT, y(value)))
        parts.append(label(up.spell(value), _LEFT - 8, y(value) + 4, "end"))
    for value in round_values(x.low, x.high):
        parts.append(label(across.spell(value), x(value), _HEIGHT - _BOTTOM + 18))
    parts.append(label(up.name, 0, _TOP - 14, "start"))
    parts.append(label(across.name, (_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 6))
    return parts


def _path(places: Sequence[tuple[float, float]], css: str = "curve") -> Markup:
    steps = " ".join(f"{pixels(x)},{pixels(y)}" for x, y in places)
    drawn = Markup('<polyline class="{}" points="{}"/>').format(css, steps)
    return drawn if len(places) > 1 else Markup("")


def _note(text: str, x: float, y: float) -> Markup:
    """Below its point and to the right, where a front that rises does not run; at the edge to the left."""
    fits = x + 9 + _LETTER * len(text) < _WIDTH
    below = min(y + 16, _HEIGHT - _BOTTOM - 5)
    return label(text, x + (11 if fits else -11), below, "start" if fits else "end")


def _dot(mark: Mark, x: float, y: float) -> Markup:
    css = "dot chosen" if mark.chosen else "dot" if mark.joined else "dot beside"
    return Markup('<circle class="{}" cx="{}" cy="{}" r="{}"><title>{}</title></circle>').format(
        css, pixels(x), pixels(y), 6 if mark.chosen else 4, mark.title
    )
