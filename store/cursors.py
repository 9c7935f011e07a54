"""Pages by key: a cursor names the last row seen, so rows added meanwhile neither repeat nor hide others."""

import base64
import binascii
import json
import re
from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Select, literal, tuple_
from sqlalchemy.orm import InstrumentedAttribute, Session

from store.clock import Instant, from_micros, to_micros
from store.records import Slice

_ID = re.compile(r"[a-z]{3}_[0-9a-z]{26}")

Row = TypeVar("Row")
Record = TypeVar("Record")


def page(
    session: Session,
    statement: Select[Row],
    key: tuple[InstrumentedAttribute[datetime], InstrumentedAttribute[str]],
    to_record: Callable[[Row], Record],
    limit: int,
    cursor: str | None,
) -> Slice[Record]:
    """At most `limit` rows, newest first, after `cursor`. Raises `ValueError` for a bad cursor or limit."""
    if limit < 1:
        raise ValueError("a page has at least one item")
    created_at, row_id = key
    if cursor is not None:
        statement = statement.where(_before(key, cursor))
    ordered = statement.order_by(created_at.desc(), row_id.desc()).limit(limit + 1)
    rows = session.scalars(ordered).all()
    more = len(rows) > limit
    next_cursor = _encode(rows[limit - 1]) if more else None
    return Slice(tuple(to_record(row) for row in rows[:limit]), next_cursor)


def _before(
    key: tuple[InstrumentedAttribute[datetime], InstrumentedAttribute[str]], cursor: str
) -> ColumnElement[bool]:
    created_at, row_id = _decode(cursor)
    return tuple_(*key) < tuple_(literal(created_at, Instant), literal(row_id))


def _encode(row: Any) -> str:
    """`row` has `created_at` and `id`."""
    return (
        base64.urlsafe_b64encode(json.dumps([to_micros(row.created_at), row.id]).encode())
        .decode()
        .rstrip("=")
    )


def _decode(cursor: str) -> tuple[datetime, str]:
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        micros, row_id = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
        instant = from_micros(int(micros))
    except (ValueError, TypeError, OverflowError, binascii.Error, RecursionError):
        raise ValueError("the cursor is not one that we gave") from None
    if not isinstance(row_id, str) or not _ID.fullmatch(row_id):
        raise ValueError("the cursor is not one that we gave")
    return instant, row_id
