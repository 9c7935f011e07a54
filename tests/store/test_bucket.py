"""Blobs in an S3 bucket: the same behaviour over HTTP."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from store import StoreSettings, open_store
from store.blobs import BlobStore
from store.errors import BlobError
from tests.servers import free_port
from tests.store.bucket import Bucket, bucket_server

CONTENT = bytes(range(256)) * 2**17  # 32 MiB, several parts
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {
        "ACCESS_KEY_ID": "id",
        "SECRET_ACCESS_KEY": "secret",
        "REGION": "eu-west-1",
        "ALLOW_HTTP": "true",
    }
    for name, value in values.items():
        monkeypatch.setenv(f"AWS_{name}", value)


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    with bucket_server() as served:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{served.port}")
        yield served


@pytest.fixture
def blobs(bucket: Bucket, tmp_path: Path) -> BlobStore:
    return BlobStore("s3://models/some/prefix", tmp_path)


def test_a_blob_there_and_back(blobs: BlobStore, bucket: Bucket, tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(CONTENT)
    assert not blobs.exists(DIGEST)
    assert blobs.publish(tmp_path / "net.onnx", "net.onnx", DIGEST).size_bytes == len(CONTENT)
    assert set(bucket.objects) == {f"some/prefix/sha256/{DIGEST[:2]}/{DIGEST}"}
    assert bucket.uploads == {} and list(blobs.staging_dir().iterdir()) == []
    assert blobs.exists(DIGEST) and blobs.size(DIGEST) == len(CONTENT)
    blobs.fetch(DIGEST, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == CONTENT
    assert b"".join(blobs.stream(DIGEST, 1000, 5_000_000, 65_536)) == CONTENT[1000:5_000_000]


def test_large_blobs_are_read_in_windows(
    blobs: BlobStore, bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "net.onnx").write_bytes(CONTENT)
    blobs.publish(tmp_path / "net.onnx", "net.onnx")
    monkeypatch.setattr("store.blobs._WINDOW_BYTES", 10_000_000)
    bucket.requests.clear()
    assert b"".join(blobs.stream(DIGEST)) == CONTENT
    assert bucket.requests.count("GET 206") == 4


def test_garbage_in_a_bucket_is_collected(bucket: Bucket, tmp_path: Path) -> None:
    store = open_store(StoreSettings(data_dir=tmp_path, blobs_url="s3://models"))
    (tmp_path / "x").write_bytes(b"orphan")
    ref = store.blobs.publish(tmp_path / "x", "x")
    assert store.collect_garbage(3600) == ()
    assert store.collect_garbage(-60) == (ref.sha256,)
    assert bucket.objects == {}
    store.close()


def test_a_bucket_that_refuses_is_an_error_of_ours(blobs: BlobStore, bucket: Bucket, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"x")
    bucket.failing = True
    calls = {
        "publish": lambda: blobs.publish(tmp_path / "x", "x"),
        "exists": lambda: blobs.exists(DIGEST),
        "size": lambda: blobs.size(DIGEST),
    }
    for call in calls.values():
        with pytest.raises(BlobError):
            call()
    assert list(blobs.staging_dir().iterdir()) == []


def test_a_bucket_that_is_away_is_an_error_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setattr("store.blobs._RETRY", {"max_retries": 0})
    blobs = BlobStore("s3://models", tmp_path)
    with pytest.raises(BlobError):
        blobs.exists(DIGEST)
