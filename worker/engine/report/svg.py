"""The few drawings of the report page, as inline SVG. Colours come from the page's style sheet by class."""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

from markupsafe import Markup

from api_schemas.report import Histogram
from worker.engine.report.figures import significant, superscript

_NOTHING = Markup("")


@final
@dataclass(frozen=True)
class Column:
    """One layer in the chart: shares between 0 and 1; `label` is what a pointer resting on it reads."""

    label: str
    before: float
    after: float
    requested: float | None


@final
@dataclass(frozen=True)
class Axis:
    """A linear map from data to pixels; values outside are put on the nearer end."""

    low: float
    high: float
    length: float
    offset: float = 0.0

    def __call__(self, value: float) -> float:
        """Pixels for a value."""
        share = (value - self.low) / (self.high - self.low)
        return self.offset + self.length * min(1.0, max(0.0, share))


def pixels(value: float) -> str:
    """A coordinate as short as two decimals allow."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _rectangle(css: str, x: float, y: float, width: float, height: float, title: str = "") -> Markup:
    inner = Markup("<title>{}</title>").format(title) if title else _NOTHING
    return Markup('<rect class="{}" x="{}" y="{}" width="{}" height="{}">{}</rect>').format(
        css, pixels(x), pixels(y), pixels(width), pixels(height), inner
    )


def line(css: str, x1: float, y1: float, x2: float, y2: float) -> Markup:
    """A straight line of one class."""
    return Markup('<line class="{}" x1="{}" y1="{}" x2="{}" y2="{}"/>').format(
        css, pixels(x1), pixels(y1), pixels(x2), pixels(y2)
    )


def label(text: str, x: float, y: float, anchor: str = "middle") -> Markup:
    """Text at a place."""
    return Markup('<text x="{}" y="{}" text-anchor="{}">{}</text>').format(pixels(x), pixels(y), anchor, text)


def drawing(css: str, width: int, height: int, description: str, parts: Sequence[Markup]) -> Markup:
    """A picture of so many pixels, with what it shows in words."""
    return Markup(
        '<svg class="{}" viewBox="0 0 {} {}" width="{}" height="{}" role="img" aria-label="{}">{}</svg>'
    ).format(css, width, height, width, height, description, Markup("").join(parts))


def sparsity_bar(before: float, after: float, requested: float | None) -> Markup:
    """A bar for a table cell: zeros after in colour, zeros before in grey inside it, the request a tick."""
    width, height = 120, 12
    share = Axis(0, 1, width)
    parts = [_rectangle("track", 0, 2, width, 8), _rectangle("after", 0, 2, share(after), 8)]
    if before > 0:
        parts.append(_rectangle("before", 0, 4, share(before), 4))
    if requested is not None:
        parts.append(line("tick", share(requested), 0, share(requested), height))
    return drawing("bar", width, height, f"{before:.2%} of weights zero before, {after:.2%} after", parts)


def sparsity_chart(columns: Sequence[Column]) -> Markup:
    """Share of zeros per layer in the order of the graph: one column each, numbered as in the table."""
    width, height, left, top, bottom = 960, 220, 44, 10, 24
    share = Axis(0, 1, -(height - top - bottom), height - bottom)
    parts = [_grid_line(value, share, left, width) for value in (0.0, 0.25, 0.5, 0.75, 1.0)]
    step = min(150.0, (width - left) / max(1, len(columns)))
    for index, column in enumerate(columns):
        parts.extend(_column(column, left + index * step, step, share))
    every = _label_step(len(columns), step)
    numbers = range(0, len(columns), every)
    parts.extend(label(str(index + 1), left + (index + 0.5) * step, height - 6) for index in numbers)
    return drawing("chart", width, height, "Share of zero weights per layer, before and after", parts)


def _grid_line(value: float, share: Axis, left: float, width: float) -> Markup:
    y = share(value)
    return line("grid", left, y, width, y) + label(f"{value:.0%}", left - 8, y + 4, "end")


_WIDEST_COLUMN = 64.0


def _column(column: Column, x: float, step: float, share: Axis) -> list[Markup]:
    gap = max(min(6.0, step * 0.2), step - _WIDEST_COLUMN)
    floor, width, overhang = share(0), step - gap, min(4.0, gap / 2)
    parts = [
        _rectangle(
            "after", x + gap / 2, share(column.after), width, floor - share(column.after), column.label
        )
    ]
    if column.before > 0:
        inset = width * 0.3
        parts.append(
            _rectangle(
                "before",
                x + gap / 2 + inset,
                share(column.before),
                width - 2 * inset,
                floor - share(column.before),
            )
        )
    if column.requested is not None:
        y = share(column.requested)
        parts.append(line("tick", x + gap / 2 - overhang, y, x + gap / 2 + width + overhang, y))
    return parts


def _label_step(columns: int, step: float) -> int:
    """Every how many columns a number has room: 1, 2, 5, 10, 20, 50, …"""
    nice = [factor * 10**power for power in (0, 1, 2, 3) for factor in (1, 2, 5)]
    return next((every for every in nice if every * step >= 28), max(1, columns))


def drawable(histogram: Histogram | None) -> bool:
    """Whether a histogram is whole: finite rising edges around every count, and something counted."""
    if histogram is None or len(histogram.edges) != len(histogram.counts) + 1 or not any(histogram.counts):
        return False
    edges = histogram.edges
    return all(map(math.isfinite, edges)) and all(a < b for a, b in itertools.pairwise(edges))


_WIDTH, _HEIGHT, _FLOOR, _TOP = 230, 96, 78, 6


def _heights(most: int) -> Callable[[float], float]:
    """Pixels for a count. Square roots, for on a linear scale the few weights kept cannot be seen."""
    linear = Axis(0, math.sqrt(most), -(_FLOOR - _TOP), _FLOOR)
    return lambda count: linear(math.sqrt(count))


def _bars(
    css: str,
    histogram: Histogram,
    x: Axis,
    y: Callable[[float], float],
    begin: float = 0,
    end: float = _WIDTH,
) -> Markup:
    """The bars between two pixels as one path: small in the file, and a single shape for the printer."""
    steps = list[str]()
    for left, right, value in zip(histogram.edges, histogram.edges[1:], histogram.counts, strict=False):
        low, high = (min(end, max(begin, x(edge))) for edge in (left, right))
        if high > low and value > 0:
            steps.append(f"M{pixels(low)} {_FLOOR}V{pixels(y(value))}H{pixels(high)}V{_FLOOR}Z")
    return Markup('<path class="{}" d="{}"/>').format(css, "".join(steps)) if steps else _NOTHING


def _edge_labels(low: float, high: float, *, log10: bool) -> list[Markup]:
    def spell(value: float) -> str:
        return f"10{superscript(round(value))}" if log10 and value == round(value) else _spell(value, log10)

    return [
        line("axis", 0, _FLOOR, _WIDTH, _FLOOR),
        label(spell(low), 0, _HEIGHT - 4, "start"),
        label(spell(high), _WIDTH, _HEIGHT - 4, "end"),
    ]


def _spell(value: float, log10: bool) -> str:
    if not log10:
        return significant(value, 2)
    return significant(10.0**value, 2) if -300 < value < 300 else f"10^{significant(value)}"


@final
@dataclass(frozen=True)
class WeightDrawing:
    """A histogram of weights; `clipped` bars of the later one are taller than the picture."""

    svg: Markup
    clipped: bool


def weight_histogram(before: Histogram | None, after: Histogram | None) -> WeightDrawing | None:
    """Weights before in grey and after in colour, on one scale: that of the weights before.

    The bar that holds the new zeros would dwarf the rest, so it is cut at the top and `clipped` says so.
    """
    shown = [item for item in (before, after) if item is not None and drawable(item)]
    if not shown:
        return None
    low, high = min(item.edges[0] for item in shown), max(item.edges[-1] for item in shown)
    x, most = Axis(low, high, _WIDTH), max(shown[0].counts)
    y = _heights(most)
    parts = [_bars("before" if item is before else "after", item, x, y) for item in shown]
    clipped = max(shown[-1].counts) > most
    if low < 0 < high:
        parts.append(label("0", x(0), _HEIGHT - 4))
    parts.extend(_edge_labels(low, high, log10=shown[0].log10))
    return WeightDrawing(
        drawing("small", _WIDTH, _HEIGHT, "Histogram of weights before and after", parts), clipped
    )


def score_histogram(scores: Histogram | None, threshold: float | None) -> Markup | None:
    """Scores with the threshold marked; `threshold` is a score, also where the edges are exponents of ten.

    What lies below the threshold is grey: those weights are gone.
    """
    if scores is None or not drawable(scores):
        return None
    x = Axis(scores.edges[0], scores.edges[-1], _WIDTH)
    y = _heights(max(scores.counts))
    position = _position(threshold, log10=scores.log10)
    parts = list[Markup]()
    if position is None:
        parts.append(_bars("after", scores, x, y))
    else:
        cut = x(position)
        parts.append(_bars("before", scores, x, y, 0, cut) + _bars("after", scores, x, y, cut, _WIDTH))
        parts.append(line("threshold", cut, 0, cut, _FLOOR))
    parts.extend(_edge_labels(scores.edges[0], scores.edges[-1], log10=scores.log10))
    return drawing("small", _WIDTH, _HEIGHT, "Histogram of scores with the threshold", parts)


def _position(threshold: float | None, *, log10: bool) -> float | None:
    if threshold is None or not math.isfinite(threshold):
        return None
    if not log10:
        return threshold
    return math.log10(threshold) if threshold > 0 else -math.inf
