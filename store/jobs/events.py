"""Events: appended under the job's row lock, so that their numbers have no gaps and no doubles."""

from collections.abc import Sequence

from sqlalchemy import insert, select, update
from sqlalchemy.orm import Session

from api_schemas.events import ChildEvent, Event
from api_schemas.jobs import Progress, Stage
from store.clock import now
from store.errors import NotFoundError
from store.jobs.changes import Values, fence, stale
from store.records import Claim
from store.tables import EventRow, JobRow

#: The largest event number there can be; what clients send may be larger than any database's integers.
_MOST = 2**31 - 1


def record(
    session: Session,
    claim: Claim,
    events: Sequence[ChildEvent],
    stage: Stage | None,
    progress: Progress | None,
) -> int:
    """Append events and note stage and progress; gives the number of the last event."""
    values: Values = {"event_count": JobRow.event_count + len(events)}
    if stage is not None:
        values["stage"] = stage
    if progress is not None:
        values["progress"] = progress.model_dump(mode="json")
    statement = update(JobRow).where(*fence(claim)).values(values).returning(JobRow.event_count, now())
    written = session.execute(statement.execution_options(synchronize_session=False)).first()
    if written is None:
        raise stale(claim)
    last, moment = written
    numbered = [
        {"job_id": claim.job.id, "number": number, "type": event.type, "at": moment, "data": event.data}
        for number, event in enumerate(events, start=last - len(events) + 1)
    ]
    if numbered:
        session.execute(insert(EventRow), numbered)
    return int(last)


def landed(session: Session, claim: Claim, last: int) -> int | None:
    """`last` if the events up to that number were committed: only the holder of a claim appends."""
    statement = select(JobRow.event_count).where(JobRow.id == claim.job.id, JobRow.token == claim.token)
    count = session.scalar(statement)
    return last if count is not None and count >= last else None


def listing(session: Session, job_id: str, after: int, limit: int) -> tuple[Event, ...]:
    """Events with numbers above `after`, in order. Raises `NotFoundError`."""
    statement = select(EventRow).where(EventRow.job_id == job_id, EventRow.number > min(after, _MOST))
    found = session.scalars(statement.order_by(EventRow.number).limit(limit)).all()
    if not found and session.scalar(select(JobRow.id).where(JobRow.id == job_id)) is None:
        raise NotFoundError(f"There is no job {job_id}.")
    return tuple(Event(id=row.number, type=row.type, at=row.at, data=row.data) for row in found)
