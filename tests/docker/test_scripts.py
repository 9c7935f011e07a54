"""The scripts that run inside the images."""

import socket
from pathlib import Path

import pytest

from store import open_store
from store.settings import StoreSettings
from tests.client.scripted import Answered, serving
from tests.docker.loading import script

prepare, api_health, worker_health = (script(name) for name in ("prepare", "api_health", "worker_health"))


@pytest.fixture
def bucket_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    monkeypatch.setattr(prepare, "_PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(prepare, "_ATTEMPTS", 3)
    settings = {"AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    settings |= {"AWS_ALLOW_HTTP": "true", "LOOKAHEAD_BLOBS_URL": "s3://bucket/deep"}
    for name, value in (settings | {"LOOKAHEAD_DATA_DIR": str(tmp_path)}).items():
        monkeypatch.setenv(name, value)
    return monkeypatch


@pytest.mark.parametrize("status", [200, 409])
def test_the_bucket_is_made_or_was_there(
    bucket_settings: pytest.MonkeyPatch, tmp_path: Path, status: int
) -> None:
    with serving(lambda asked: Answered(status)) as server:
        bucket_settings.setenv("AWS_ENDPOINT_URL", server.url)
        assert prepare.main() == 0
    (asked,) = server.asked
    assert (asked.method, asked.path.rstrip("/"), asked.body) == ("PUT", "/bucket", b"")
    assert "X-Amz-Signature" in asked.query
    assert (tmp_path / "lookahead.db").exists()


@pytest.mark.parametrize("status", [403, 500])
def test_a_bucket_that_cannot_be_made(
    bucket_settings: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], status: int
) -> None:
    with serving(lambda asked: Answered(status)) as server:
        bucket_settings.setenv("AWS_ENDPOINT_URL", server.url)
        assert prepare.main() == 1
    assert len(server.asked) == 3
    assert f"bucket: HTTP {status}" in capsys.readouterr().err


def test_slow_starters_are_waited_for(bucket_settings: pytest.MonkeyPatch) -> None:
    replies = [Answered(503), Answered(503), Answered(200)]
    with serving(lambda asked: replies.pop(0)) as server:
        bucket_settings.setenv("AWS_ENDPOINT_URL", server.url)
        assert prepare.main() == 0


def test_folders_need_no_bucket(bucket_settings: pytest.MonkeyPatch) -> None:
    bucket_settings.delenv("LOOKAHEAD_BLOBS_URL")
    assert prepare.main() == 0


def test_another_address_than_the_buckets_makes_tables_alone(
    bucket_settings: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The chart's way to migrate with credentials that may not make buckets."""
    bucket_settings.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    bucket_settings.setenv("LOOKAHEAD_BLOBS_URL", (tmp_path / "blobs").as_uri())
    assert prepare.main() == 0
    assert (tmp_path / "lookahead.db").exists()


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1), (404, 1)])
def test_health_of_the_api(monkeypatch: pytest.MonkeyPatch, status: int, code: int) -> None:
    with serving(lambda asked: Answered(status, {}, b"{}")) as server:
        monkeypatch.setenv("LOOKAHEAD_PORT", server.url.rpartition(":")[2])
        assert api_health.main() == code
    assert server.paths() == ["/readyz"]


def test_health_of_an_api_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        monkeypatch.setenv("LOOKAHEAD_PORT", str(held.getsockname()[1]))
        assert api_health.main() == 1


def test_health_of_a_worker(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LOOKAHEAD_DATA_DIR", str(tmp_path))
    store = open_store(StoreSettings())
    try:
        store.workers.announce("elsewhere-1", version="1", sandbox="strict", device="cpu")
        assert worker_health.main() == 1
        store.workers.announce(f"{socket.gethostname()}-7", version="1", sandbox="strict", device="cpu")
        assert worker_health.main() == 0
    finally:
        store.close()
