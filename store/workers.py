"""What each worker process says of itself, for readiness and the dashboard. Nothing depends on it."""

from collections.abc import Mapping
from typing import Any, final

from sqlalchemy import delete, insert, select, update
from sqlalchemy.orm import Session

from store.clock import from_now, now
from store.database import Database, serialise
from store.records import WorkerRecord
from store.tables import WorkerRow


@final
class WorkerStore:
    """Announcements of workers."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def announce(
        self, name: str, *, version: str, sandbox: str, device: str, detail: Mapping[str, Any] | None = None
    ) -> None:
        """A worker has started; what was known under its name is replaced."""
        values = {"version": version, "sandbox": sandbox, "device": device, "detail": dict(detail or {})}
        self._database.write(lambda session: _announce(session, name, values))

    def seen(self, name: str) -> None:
        """The worker is alive. Unknown names are ignored."""
        statement = update(WorkerRow).where(WorkerRow.name == name).values(seen_at=now())
        self._database.write(lambda session: session.execute(statement))

    def retire(self, name: str) -> None:
        """The worker has stopped."""
        self._database.write(lambda session: session.execute(delete(WorkerRow).where(WorkerRow.name == name)))

    def alive(self, within_seconds: float = 60) -> tuple[WorkerRecord, ...]:
        """The workers that gave a sign of life in that time, by name."""
        statement = select(WorkerRow).where(WorkerRow.seen_at >= from_now(-within_seconds))
        return self._database.read(
            lambda session: tuple(
                to_record(row) for row in session.scalars(statement.order_by(WorkerRow.name))
            )
        )


def to_record(row: WorkerRow) -> WorkerRecord:
    """The row, detached."""
    return WorkerRecord(
        name=row.name,
        version=row.version,
        sandbox=row.sandbox,
        device=row.device,
        detail=row.detail,
        started_at=row.started_at,
        seen_at=row.seen_at,
    )


def _announce(session: Session, name: str, values: dict[str, Any]) -> None:
    serialise(session, f"worker:{name}")
    session.execute(delete(WorkerRow).where(WorkerRow.name == name))
    session.execute(insert(WorkerRow).values(name=name, started_at=now(), seen_at=now(), **values))
