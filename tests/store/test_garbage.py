"""Garbage collection: what a row names stays, what is fresh stays, the rest goes."""

import os
from pathlib import Path

import pytest

from store import Store, garbage
from store.records import BlobRef, Outcome
from tests.store import samples
from tests.store.conftest import OpenStore


def publish(store: Store, content: str) -> BlobRef:
    path = store.blobs.staging_dir() / "x"
    path.write_text(content)
    os.utime(path, (0, 0))  # an upload that took long; it is fresh from when it is published
    return store.blobs.publish(path, "x")


@pytest.mark.parametrize("blobs_url", [None, "memory:///"])
def test_only_blobs_that_nothing_names_go(open_test_store: OpenStore, blobs_url: str | None) -> None:
    store = open_test_store(blobs_url=blobs_url)
    assert store.collect_garbage(-60) == ()
    model, dataset = samples.model("model"), samples.dataset("data")
    outcome = {role: publish(store, role) for role in ("model", "report", "page")}
    kept = {publish(store, "data").sha256, *(blob.sha256 for blob in outcome.values())}
    store.models.add(model)
    store.datasets.add(dataset)
    job = store.jobs.finish(samples.running(store), Outcome(report=outcome["report"], page=outcome["page"]))
    orphans = {publish(store, f"orphan {number}").sha256 for number in range(5)}
    assert set(store.collect_garbage(-60)) == orphans
    assert all(store.blobs.exists(sha256) for sha256 in kept)
    store.datasets.delete(dataset.id)
    store.models.delete(model.id)
    store.models.delete(job.model_id)
    store.jobs.expire(0)
    assert set(store.collect_garbage(-60)) == kept
    assert not any(store.blobs.exists(sha256) for sha256 in kept | orphans)


def test_fresh_blobs_stay_and_publishing_again_makes_fresh(store: Store) -> None:
    sha256 = publish(store, "x").sha256
    assert store.collect_garbage(3600) == ()
    blob = next(path for path in store.settings.data_dir.rglob(sha256))
    os.utime(blob, (0, 0))
    publish(store, "x")
    assert store.collect_garbage(3600) == ()
    os.utime(blob, (0, 0))
    assert store.collect_garbage(3600) == (sha256,)


def test_a_blob_published_again_during_the_collection_stays(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    sha256 = publish(store, "x").sha256
    os.utime(next(path for path in store.settings.data_dir.rglob(sha256)), (0, 0))
    look = garbage._named

    def look_and_publish(*args: object, **kwargs: object) -> set[str]:
        named = look(*args, **kwargs)  # type: ignore[arg-type]
        publish(store, "x")
        return named

    monkeypatch.setattr(garbage, "_named", look_and_publish)
    assert store.collect_garbage(3600) == ()
    assert store.blobs.exists(sha256)


def test_strange_files_among_the_blobs_are_not_touched(store: Store) -> None:
    stranger: Path = store.blobs.staging_dir().parent / "sha256" / "ab" / "README"
    stranger.parent.mkdir(parents=True)
    stranger.touch()
    assert store.collect_garbage(-60) == ()
    assert stranger.exists()
