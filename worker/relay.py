"""The child's events, made fit to keep: known kinds, known fields, capped text.

The child has opened a hostile file, so what it says is hostile too.
"""

import math
import unicodedata
from typing import Any, Final

from pydantic import ValidationError

from api_schemas.events import ChildEvent, EventType
from api_schemas.jobs import Progress, Stage

MOST_EVENTS: Final = 5_000
_MOST_NAME: Final = 128
_MOST_TEXT: Final = 2_000


def clean_text(text: str, most: int = _MOST_TEXT) -> str:
    """One line without control characters, cut to `most` characters."""
    kept = "".join(" " if unicodedata.category(c) in ("Cc", "Zl", "Zp") else c for c in text[: 4 * most])
    line = " ".join(part for part in kept.split(" ") if part).encode(errors="replace").decode()
    return line if len(line) <= most else line[: most - 1] + "…"


def clean_event(event: ChildEvent) -> ChildEvent | None:
    """The event with nothing in it but what its kind has, or None when it is not one a child may send."""
    data = _clean_data(event)
    return None if data is None else ChildEvent(type=event.type, data=data)


def _clean_data(event: ChildEvent) -> dict[str, Any] | None:
    match event.type:
        case EventType.STAGE:
            stage = _stage(event.data)
            return None if stage is None else {"stage": stage.value}
        case EventType.PROGRESS:
            return _progress(event.data)
        case EventType.METRIC:
            return _metric(event.data)
        case EventType.WARNING:
            return {"message": clean_text(str(event.data.get("message", "")))}
        case _:
            return None  # a child does not set the status


def _stage(data: dict[str, Any]) -> Stage | None:
    try:
        return Stage(str(data.get("stage")))
    except ValueError:
        return None


def _progress(data: dict[str, Any]) -> dict[str, Any] | None:
    try:
        progress = Progress.model_validate(data)
    except ValidationError:
        return None
    unit = None if progress.unit is None else clean_text(progress.unit, _MOST_NAME)
    if not all(0 <= number < 2**53 for number in (progress.done, progress.total or 0)):
        return None
    return {"done": progress.done, "total": progress.total, "unit": unit}


def _metric(data: dict[str, Any]) -> dict[str, Any] | None:
    name, value, step = data.get("name"), data.get("value"), data.get("step")
    if not isinstance(name, str) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    metric: dict[str, Any] = {"name": clean_text(name, _MOST_NAME), "value": float(value)}
    return {**metric, "step": step} if isinstance(step, int) and abs(step) < 2**53 else metric
