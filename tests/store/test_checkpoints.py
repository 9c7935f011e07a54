"""Checkpoint files: a folder per job, and nothing of a job left once it has ended."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from store import Store
from store.errors import BlobError
from store.records import BlobRef, Claim, Outcome
from tests.store import samples
from tests.store.bucket import bucket_server
from tests.store.conftest import OpenStore


@pytest.fixture(params=["file", "memory", "s3"])
def store(
    request: pytest.FixtureRequest, open_test_store: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Store]:
    """A store on each kind of blob store."""
    if request.param != "s3":
        yield open_test_store(blobs_url={"file": None, "memory": "memory:///"}[request.param])
        return
    keys = {"ACCESS_KEY_ID": "id", "SECRET_ACCESS_KEY": "secret", "REGION": "eu-west-1", "ALLOW_HTTP": "true"}
    for name, value in keys.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    with bucket_server() as bucket:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{bucket.port}")
        yield open_test_store(blobs_url="s3://bucket/prefix")


def publish(store: Store, job_id: str, content: str) -> BlobRef:
    path = store.blobs.staging_dir() / "x"
    path.write_text(content)
    return store.checkpoints.publish(job_id, path)


def save(store: Store, claim: Claim, content: str) -> BlobRef:
    blob = publish(store, claim.job.id, content)
    store.jobs.save_checkpoint(claim, blob)
    return blob


def there(store: Store, job_id: str, blob: BlobRef, folder: Path) -> bool:
    try:
        store.checkpoints.fetch(job_id, blob.sha256, folder / "fetched")
    except BlobError:
        return False
    return True


def test_jobs_do_not_share_equal_files(store: Store, tmp_path: Path) -> None:
    one, two = samples.running(store).job.id, samples.running(store).job.id
    blob = publish(store, one, "same")
    assert publish(store, two, "same") == blob
    assert set(store.checkpoints.jobs()) == {one, two}
    store.checkpoints.discard(one)
    assert not there(store, one, blob, tmp_path) and there(store, two, blob, tmp_path)
    assert store.checkpoints.jobs() == (two,)
    assert not store.blobs.exists(blob.sha256)


def test_nothing_is_there_to_begin_with(store: Store) -> None:
    assert store.checkpoints.jobs() == ()
    store.checkpoints.discard("job_x")
    store.checkpoints.remove("job_x", samples.digest("x"))
    assert store.collect_garbage(-60) == ()


def test_what_no_row_names_is_collected(store: Store, tmp_path: Path) -> None:
    running, ended = samples.running(store), samples.running(store)
    kept = save(store, running, "kept")
    stray, late = publish(store, running.job.id, "stray"), publish(store, ended.job.id, "late")
    store.jobs.finish(ended, Outcome())
    unknown = publish(store, "job_unknown", "x")
    store.collect_garbage(3600)
    assert there(store, running.job.id, stray, tmp_path), "it may be about to be named"
    assert not there(store, ended.job.id, late, tmp_path)
    assert not there(store, "job_unknown", unknown, tmp_path)
    store.collect_garbage(-60)
    assert there(store, running.job.id, kept, tmp_path)
    assert not there(store, running.job.id, stray, tmp_path)
    assert store.checkpoints.jobs() == (running.job.id,)


def test_no_folder_is_left_behind(open_test_store: OpenStore, tmp_path: Path) -> None:
    store = open_test_store()
    claim = samples.running(store)
    save(store, claim, "x")
    store.checkpoints.discard(claim.job.id)
    assert list((tmp_path / "blobs" / "checkpoints").iterdir()) == []
