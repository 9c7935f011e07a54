"""The connection to SQLite or PostgreSQL: short read and write transactions, and nothing else.

SQLite writes begin IMMEDIATE, so two writers queue instead of failing half-way; commits are fsynced.
"""

import json
import math
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, final

from sqlalchemy import Connection, Engine, create_engine, event, func, literal, make_url, select
from sqlalchemy.engine import URL
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError, InterfaceError, InternalError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import Session

from store.errors import StoreError, UnavailableError

Result = TypeVar("Result")

_BUSY_SECONDS = 20
_STATEMENT_MILLISECONDS = 10_000
# Twenty connections for each process; a default PostgreSQL has a hundred.
_POOL: dict[str, Any] = {"pool_size": 5, "max_overflow": 15, "pool_timeout": 20}
_REREAD_DELAYS = (0.0, 0.2, 1.0)
_READ_ONLY = "lookahead_read_only"


@final
class Database:
    """Runs functions of a session in one transaction each; may be shared by threads.

    Raises `UnavailableError` when the database cannot be reached. Errors that the function raises
    itself roll back and pass through.
    """

    def __init__(self, url: str) -> None:
        self.engine = _engine(_with_driver(url))
        self._reading = self.engine.execution_options(**{_READ_ONLY: True})

    def read(self, work: Callable[[Session], Result]) -> Result:
        """Run `work` in a transaction that is rolled back."""
        try:
            with Session(self._reading) as session:
                return work(session)
        except (DBAPIError, PoolTimeoutError) as error:
            raise translated(error) from error

    def write(
        self, work: Callable[[Session], Result], landed: Callable[[Session], Result | None] | None = None
    ) -> Result:
        """Run `work` and commit.

        When the answer to the commit is lost nobody knows whether it happened. Then `landed` looks in a
        new transaction: what it returns is the result, None means that nothing was written.
        """
        try:
            with Session(self.engine, expire_on_commit=False) as session:
                result = work(session)
                session.flush()
                try:
                    session.commit()
                except DBAPIError as error:
                    return self._reread(landed, error)
                return result
        except (DBAPIError, PoolTimeoutError) as error:
            raise translated(error) from error

    def ping(self) -> None:
        """One round trip. Raises `UnavailableError`."""
        self.read(lambda session: session.execute(select(literal(1))))

    def close(self) -> None:
        """Close all pooled connections."""
        self.engine.dispose()

    def _reread(self, landed: Callable[[Session], Result | None] | None, error: DBAPIError) -> Result:
        for delay in _REREAD_DELAYS if landed else ():
            time.sleep(delay)
            try:
                found = self.read(landed) if landed else None
            except UnavailableError:
                continue
            if found is not None:
                return found
            break
        raise UnavailableError("The database broke off during a commit.") from error


def serialise(session: Session, key: str) -> None:
    """Let the transactions that name the same key run one after the other, until each ends.

    SQLite needs nothing: its write transactions always do.
    """
    if session.get_bind().dialect.name == "postgresql":
        session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(key, 0))))


def translated(error: DBAPIError | PoolTimeoutError) -> StoreError:
    """The driver's error as ours: `UnavailableError` when another try may do better."""
    if isinstance(error, OperationalError | InterfaceError | InternalError | PoolTimeoutError):
        return UnavailableError(f"The database does not answer: {_first_line(error)}")
    return StoreError(f"The database refused the statement: {_first_line(error)}")


def _first_line(error: DBAPIError | PoolTimeoutError) -> str:
    cause = error.orig if isinstance(error, DBAPIError) else error
    return (str(cause).splitlines() or [type(cause).__name__])[0]


def _with_driver(url: str) -> URL:
    """The URL with psycopg 3 named as the driver where only `postgresql` is said."""
    parsed = make_url(url)
    if parsed.drivername in ("postgres", "postgresql"):
        return parsed.set(drivername="postgresql+psycopg")
    if parsed.get_backend_name() not in ("postgresql", "sqlite"):
        raise StoreError(f"The database is SQLite or PostgreSQL, not {parsed.get_backend_name()}.")
    return parsed


def _engine(url: URL) -> Engine:
    if url.get_backend_name() == "sqlite":
        return _sqlite(url)
    engine = create_engine(
        url,
        json_serializer=to_json,
        **_POOL,
        pool_pre_ping=True,
        connect_args={"connect_timeout": 5, "tcp_user_timeout": 10_000, "keepalives_idle": 10},
    )
    event.listen(engine, "connect", _prepare_postgresql)
    return engine


def _prepare_postgresql(connection: DBAPIConnection, record: object) -> None:  # noqa: ARG001
    # A statement that hangs must not outlive the lease it was to extend.
    cursor = connection.cursor()
    cursor.execute(f"SET statement_timeout = {_STATEMENT_MILLISECONDS}")
    cursor.execute(f"SET idle_in_transaction_session_timeout = {_STATEMENT_MILLISECONDS}")
    cursor.close()
    connection.commit()


def _sqlite(url: URL) -> Engine:
    if url.database in (None, "", ":memory:"):
        raise StoreError("SQLite needs a file: its memory databases are not shared between processes.")
    Path(str(url.database)).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(
        url,
        json_serializer=to_json,
        **_POOL,
        connect_args={"timeout": _BUSY_SECONDS},
    )
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: sqlite3.Connection, record: object) -> None:  # noqa: ARG001
    # The driver would begin transactions late, by its own rules; `_begin_sqlite` does it instead.
    connection.isolation_level = None
    _use_wal(connection)
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")


def _use_wal(connection: sqlite3.Connection) -> None:
    """Switch to write-ahead logging. SQLite does not wait for other processes here, so we do."""
    for _ in range(200):
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error):
                raise
        time.sleep(0.05)
    raise sqlite3.OperationalError("database is locked: cannot switch to write-ahead logging")


def _begin_sqlite(connection: Connection) -> None:
    reading = connection.get_execution_options().get(_READ_ONLY, False)
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")


def to_json(value: Any) -> str:
    """JSON that both databases take: NaN and infinities become null."""
    try:
        return json.dumps(value, allow_nan=False, separators=(",", ":"))
    except ValueError:
        return json.dumps(_finite(value), allow_nan=False, separators=(",", ":"))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
