"""The webhook outbox: taken by one sender at a time, kept until delivered or given up."""

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from store.clock import from_now, now
from store.records import WebhookDelivery
from store.tables import WebhookRow

#: A sender that dies with deliveries in hand delays them by this; receivers see the same id again.
_HAND_SECONDS = 60


def due(session: Session, limit: int) -> tuple[WebhookDelivery, ...]:
    """Take the deliveries that are due; nobody else gets them for a minute."""
    candidates = (
        select(WebhookRow.id)
        .where(WebhookRow.due_at <= now())
        .order_by(WebhookRow.due_at, WebhookRow.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    ids = tuple(session.scalars(candidates))
    if not ids:
        return ()
    taken = update(WebhookRow).where(WebhookRow.id.in_(ids))
    values = {"due_at": from_now(_HAND_SECONDS), "attempts": WebhookRow.attempts + 1}
    session.execute(taken.values(values).execution_options(synchronize_session=False))
    rows = session.scalars(select(WebhookRow).where(WebhookRow.id.in_(ids)).order_by(WebhookRow.created_at))
    return tuple(to_record(row) for row in rows)


def done(session: Session, delivery_id: str) -> None:
    """Delivered, or given up."""
    session.execute(delete(WebhookRow).where(WebhookRow.id == delivery_id))


def failed(session: Session, delivery_id: str, retry_in_seconds: float) -> None:
    """Not delivered; due again later."""
    later = update(WebhookRow).where(WebhookRow.id == delivery_id)
    session.execute(later.values(due_at=from_now(retry_in_seconds)))


def to_record(row: WebhookRow) -> WebhookDelivery:
    """The row, detached."""
    return WebhookDelivery(
        id=row.id,
        job_id=row.job_id,
        url=row.url,
        payload=row.payload,
        attempts=row.attempts,
        created_at=row.created_at,
    )
