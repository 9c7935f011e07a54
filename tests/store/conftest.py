"""A store on SQLite and on PostgreSQL; a test that takes `store` runs on both."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from store import Store, StoreSettings, open_store
from store.database import Database
from store.tables import Base
from tests.servers import Server, postgres_database, postgres_server

OpenStore = Callable[..., Store]
BACKENDS = ["sqlite", pytest.param("postgresql", marks=pytest.mark.servers)]


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    with postgres_server() as server:
        yield server


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated, empty database file to copy."""
    folder = tmp_path_factory.mktemp("template")
    open_store(StoreSettings(data_dir=folder)).close()
    return folder / "lookahead.db"


@pytest.fixture(scope="session")
def migrated_postgresql(postgres: Server, tmp_path_factory: pytest.TempPathFactory) -> str:
    url = postgres_database(postgres, "shared")
    open_store(StoreSettings(data_dir=tmp_path_factory.mktemp("pg"), database_url=url)).close()
    return url


@pytest.fixture(params=BACKENDS)
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty, migrated database."""
    if request.param == "sqlite":
        shutil.copy(request.getfixturevalue("migrated_sqlite"), tmp_path / "lookahead.db")
        return f"sqlite:///{tmp_path / 'lookahead.db'}"
    url: str = request.getfixturevalue("migrated_postgresql")
    empty_tables(url)
    return url


@pytest.fixture
def open_test_store(database_url: str, tmp_path: Path) -> Iterator[OpenStore]:
    """Opens stores on the same database, with settings of the test's choice."""
    opened: list[Store] = []

    def open_one(**settings: object) -> Store:
        values = {"data_dir": tmp_path, "database_url": database_url, **settings}
        opened.append(open_store(StoreSettings(**values), migrate=False))  # type: ignore[arg-type]
        return opened[-1]

    yield open_one
    for store in opened:
        store.close()


@pytest.fixture
def store(open_test_store: OpenStore) -> Store:
    return open_test_store()


def empty_tables(url: str) -> None:
    database = Database(url)
    names = ", ".join(Base.metadata.tables)
    with database.engine.begin() as connection:
        connection.execute(text(f"TRUNCATE {names}"))
    database.close()
