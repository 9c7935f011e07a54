"""Migrations: from empty to the tables of the ORM, back, at once from many processes, and from the future."""

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import Engine, inspect, text

from store import StoreSettings, open_store, schema
from store.database import Database
from store.errors import StoreError, UnavailableError
from store.tables import Base
from tests.servers import Server, free_port, postgres_database

_NAMES = iter(f"schema{number}" for number in range(1000))


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.servers)])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database without tables."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'new.db'}"
    server: Server = request.getfixturevalue("postgres")
    return postgres_database(server, next(_NAMES))


@pytest.fixture
def engine(empty_url: str) -> Iterator[Engine]:
    database = Database(empty_url)
    yield database.engine
    database.close()


def tables(engine: Engine) -> set[str]:
    return set(inspect(engine).get_table_names())


def test_the_migrations_lead_to_the_tables_of_the_orm(engine: Engine) -> None:
    schema.upgrade(engine)
    assert tables(engine) == {*Base.metadata.tables, "alembic_version"}
    schema.check(engine)  # raises on any difference


def test_a_difference_would_be_noticed(engine: Engine) -> None:
    schema.upgrade(engine)
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE jobs DROP COLUMN stage"))
    with pytest.raises(Exception, match="stage"):
        schema.check(engine)


def test_upgrading_again_changes_nothing(engine: Engine) -> None:
    schema.upgrade(engine)
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO workers VALUES ('w', '', '', '', '{}', 1, 1)"))
    schema.upgrade(engine)
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM workers")) == 1


def test_the_way_back_leaves_nothing(engine: Engine) -> None:
    schema.upgrade(engine)
    with engine.begin() as connection:
        command.downgrade(schema._config(connection), "base")
    assert tables(engine) == {"alembic_version"}
    schema.upgrade(engine)
    schema.check(engine)


def test_jobs_of_the_first_release_are_kept(engine: Engine) -> None:
    columns = "id, kind, status, priority, model_id, inputs, user_metadata, attempts, max_attempts"
    more = "created_at, queued_at, rung_at, cancel_requested, token, event_count"
    insert = text(
        f"INSERT INTO jobs ({columns}, {more}) VALUES "
        "(:id, 'prune', 'queued', 1, 'm', '{}', '{}', 0, 3, 1, 1, 1, :no, 0, 0)"
    )
    with engine.begin() as connection:
        command.upgrade(schema._config(connection), "0001")
        connection.execute(insert, {"id": "before", "no": False})
    schema.upgrade(engine)
    with engine.begin() as connection:
        connection.execute(insert, {"id": "by an old process", "no": False})
        found = connection.execute(text("SELECT advances, checkpoint_sha256 FROM jobs")).all()
    assert [tuple(row) for row in found] == [(0, None)] * 2


def test_a_database_of_a_newer_release_is_left_alone(engine: Engine) -> None:
    schema.upgrade(engine)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = 'later'"))
    schema.upgrade(engine)
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT version_num FROM alembic_version")) == "later"


def test_a_migration_that_fails_leaves_nothing_behind(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE workers (name TEXT)"))  # the last table the migration makes
    with pytest.raises(StoreError, match="workers"):
        schema.upgrade(engine)
    assert tables(engine) == {"workers"}


_OPEN = "import sys; from pathlib import Path; from store import *; " + (
    "open_store(StoreSettings(data_dir=Path(sys.argv[1]), database_url=sys.argv[2])).jobs.counts()"
)


def test_processes_may_start_at_once(empty_url: str, tmp_path: Path) -> None:
    def start(_: int) -> subprocess.CompletedProcess[str]:
        arguments = [sys.executable, "-c", _OPEN, str(tmp_path), empty_url]
        return subprocess.run(arguments, capture_output=True, text=True, check=False)

    with ThreadPoolExecutor(4) as pool:
        ends = list(pool.map(start, range(4)))
    assert [(end.returncode, end.stderr) for end in ends] == [(0, "")] * 4


def test_threads_may_open_at_once(empty_url: str, tmp_path: Path) -> None:
    settings = StoreSettings(data_dir=tmp_path, database_url=empty_url)
    with ThreadPoolExecutor(8) as pool:
        stores = list(pool.map(lambda _: open_store(settings), range(8)))
    for store in stores:
        assert store.models.list().items == ()
        store.close()


def test_a_database_that_is_away_is_said_to_be(tmp_path: Path) -> None:
    url = f"postgresql://postgres@127.0.0.1:{free_port()}/postgres"
    with pytest.raises(UnavailableError, match="does not answer"):
        open_store(StoreSettings(data_dir=tmp_path, database_url=url))
