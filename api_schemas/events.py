"""Job events: numbered from 1 per job, kept, replayed after `Last-Event-ID`."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from api_schemas.base import Answer


class EventType(StrEnum):
    """What happened."""

    STATUS = "status"  # data: {status, error?}
    STAGE = "stage"  # data: {stage}
    PROGRESS = "progress"  # data: {done, total, unit}
    METRIC = "metric"  # data: {name, value, step?}
    WARNING = "warning"  # data: {message}
    CHECKPOINT = "checkpoint"  # data: {action: "saved" | "resumed", size_bytes}; a child says {file}


class Event(Answer):
    """One event of one job."""

    id: int
    type: EventType
    at: datetime
    data: dict[str, Any] = {}


class ChildEvent(Answer):
    """An event as the child writes it: one JSON line, before the store has numbered it."""

    type: EventType
    data: dict[str, Any] = {}


class EventList(Answer):
    """``GET /v1/jobs/{id}/events`` as JSON."""

    items: list[Event]
