"""The application on a store in a temporary folder, and a worker by hand on the same store."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from service.app import create_app
from service.context import Context
from service.settings import ServiceSettings
from store import StoreSettings, open_store
from tests.service.catalogue import small_catalogue
from tests.service.files import onnx_bytes
from tests.service.workers import Hand

MakeClient = Callable[..., TestClient]


class RecordingDoorbell:
    """Keeps what was rung."""

    def __init__(self) -> None:
        self.rung: list[str] = []

    def ring(self, job_id: str) -> None:
        self.rung.append(job_id)

    def trouble(self) -> str | None:
        return None

    def close(self) -> None:
        pass


@pytest.fixture
def doorbell() -> RecordingDoorbell:
    return RecordingDoorbell()


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty database with its tables, made once: migrations are the slowest part of a start."""
    folder = tmp_path_factory.mktemp("migrated")
    open_store(StoreSettings(data_dir=folder)).close()
    return folder / "lookahead.db"


@pytest.fixture
def make_client(tmp_path: Path, migrated: Path, doorbell: RecordingDoorbell) -> Iterator[MakeClient]:
    """Clients of applications with any settings; each is shut down at the end."""
    opened: list[TestClient] = []
    (tmp_path / "data").mkdir()
    shutil.copy(migrated, tmp_path / "data" / "lookahead.db")

    def make(**changes: Any) -> TestClient:
        values: dict[str, Any] = {
            "data_dir": tmp_path / "data",
            "reserve_bytes": 0,
            "poll_seconds": 0.01,
            "heartbeat_seconds": 0.05,
            "validate_seconds": 5,
            "webhook_secret": "whsec_c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0",
        }
        app = create_app(ServiceSettings(**(values | changes)), doorbell=doorbell, catalogue=small_catalogue)
        client = TestClient(app, raise_server_exceptions=False)
        client.__enter__()
        opened.append(client)
        return client

    yield make
    for client in opened:
        client.__exit__(None, None, None)


@pytest.fixture
def client(make_client: MakeClient) -> TestClient:
    return make_client()


def context_of(client: TestClient) -> Context:
    app = client.app
    assert isinstance(app, FastAPI)
    context: Context = app.state.context
    return context


@pytest.fixture
def context(client: TestClient) -> Context:
    return context_of(client)


@pytest.fixture
def hand(context: Context, tmp_path: Path) -> Hand:
    return Hand(context.store, tmp_path)


@pytest.fixture
def staging_files(context: Context) -> Callable[[], list[Path]]:
    """What lies in the blob store's staging folder."""
    return lambda: list(context.store.blobs.staging_dir().iterdir())


@pytest.fixture
def model_id(client: TestClient) -> str:
    answer = client.post("/v1/models?filename=net.onnx", content=onnx_bytes())
    assert answer.status_code == 201
    found: str = answer.json()["id"]
    return found
