"""Figures and times as people read them."""

import json
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from markupsafe import Markup, escape

from api_schemas.recipe import Recipe

#: Text between two backticks; one that is never closed is text.
_CODE = re.compile("`([^`]+)`")
_UNITS = {"macs": "MACs", "size_bytes": "size"}
_BYTES = ("B", "kB", "MB", "GB", "TB")


def size(count: float | None) -> str:
    """Bytes with a decimal unit; a dash for what was not measured."""
    if count is None:
        return "–"
    for unit in _BYTES:
        if count < 1000 or unit == _BYTES[-1]:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError("the last unit takes everything")


def number(value: float | None) -> str:
    """Thousands apart, at most three decimals; a dash for what was not measured."""
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.3f}"


def percent(share: float | None) -> str:
    """A share as a percentage; a dash for what was not measured."""
    return "–" if share is None else f"{100 * share:.2f} %"


def accuracy(value: float | None, metric: str | None) -> str:
    """A share of right answers in percent, any other metric as the number it is."""
    return percent(value) if metric is None or metric.endswith("accuracy") else number(value)


def gone(recipe: Recipe) -> str:
    """What the sparsity of a result counts."""
    return "Prunable weights removed" if recipe.apply.name == "shrink" else "Prunable weights that are zero"


def moment(at: datetime | None) -> str:
    """UTC to the second."""
    return "–" if at is None else at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def duration(start: datetime | None, end: datetime | None) -> str:
    """The time between, or a dash while one of them has not come."""
    if start is None or end is None:
        return "–"
    seconds = (end - start).total_seconds()
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def short(value: float) -> str:
    """Four figures, whole numbers whole."""
    return f"{value:,.0f}" if value == round(value) and abs(value) < 1e9 else f"{value:.4g}"


def pretty(value: Any) -> str:
    """JSON for reading."""
    return json.dumps(value, indent=2, ensure_ascii=False)


def prose(text: str) -> Markup:
    """Text with its `code` between backticks marked up, and all else escaped."""
    pieces = _CODE.split(text)
    marked = [
        Markup("<code>{}</code>").format(piece) if odd else escape(piece) for odd, piece in _turns(pieces)
    ]
    return Markup("").join(marked)


def _turns(pieces: Sequence[str]) -> list[tuple[bool, str]]:
    """What `re.split` caught comes at every second place."""
    return [(number % 2 == 1, piece) for number, piece in enumerate(pieces)]


def first_sentence(text: str) -> str:
    """Up to the first full stop that ends a sentence, without it."""
    return text.partition(". ")[0].rstrip(".")


def asked(recipe: Recipe) -> str:
    """What a job is to reach, in a cell of a table."""
    if recipe.sweep is not None:
        return f"sweep of {len(recipe.sweep.targets)}"
    target = recipe.target
    if target is None:
        return "by layer"
    value = getattr(target, target.unit)
    if target.unit == "sparsity":
        return f"{100 * value:.6g} %"
    if target.unit == "accuracy_drop":
        return f"−{value:g} points"
    return f"{_UNITS.get(target.unit, target.unit)} × {value:g}"


def paragraphs(text: str) -> Markup:
    """`prose`, each paragraph by itself."""
    return Markup("").join(Markup("<p>{}</p>").format(prose(part)) for part in text.split("\n\n") if part)


FILTERS: dict[str, Callable[..., str]] = {
    "size": size,
    "number": number,
    "percent": percent,
    "moment": moment,
    "duration": duration,
    "pretty": pretty,
    "short": short,
    "asked": asked,
    "accuracy": accuracy,
    "gone": gone,
    "first_sentence": first_sentence,
    "prose": prose,
    "paragraphs": paragraphs,
}
