"""Models and datasets: what both kinds of uploaded file have in common, and inspections."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from store import Store
from store.datasets import DatasetStore
from store.errors import ConflictError, NotFoundError, StoreError
from store.models import ModelStore
from store.records import DatasetRecord, JobKind, ModelRecord, NewJob, Outcome
from tests.store import samples


@pytest.fixture(params=["models", "datasets"])
def files(request: pytest.FixtureRequest, store: Store) -> ModelStore | DatasetStore:
    return getattr(store, request.param)


def sample(files: ModelStore | DatasetStore) -> ModelRecord | DatasetRecord:
    return samples.model() if isinstance(files, ModelStore) else samples.dataset()


def add(files: ModelStore | DatasetStore) -> ModelRecord | DatasetRecord:
    return files.add(sample(files))  # type: ignore[arg-type]


def test_a_file_comes_back_as_it_was_given_but_for_its_time(files: ModelStore | DatasetStore) -> None:
    given = sample(files)
    added = files.add(given)  # type: ignore[arg-type]
    assert replace(added, created_at=given.created_at) == given
    assert files.get(given.id) == added
    assert abs(added.created_at - datetime.now(UTC)) < timedelta(minutes=5)


def test_an_id_is_used_once(files: ModelStore | DatasetStore) -> None:
    given = add(files)
    with pytest.raises(ConflictError, match=given.id):
        files.add(given)  # type: ignore[arg-type]


def test_a_deleted_file_is_gone(files: ModelStore | DatasetStore) -> None:
    gone, kept = add(files), add(files)
    files.delete(gone.id)
    for call in (files.get, files.delete):
        with pytest.raises(NotFoundError):
            call(gone.id)
    assert files.list().items == (kept,)


def test_pages_run_from_new_to_old_without_repeats(files: ModelStore | DatasetStore) -> None:
    given = {add(files).id for _ in range(5)}
    first = files.list(limit=3)
    add(files)
    second = files.list(limit=3, cursor=first.next_cursor)
    assert [len(first.items), len(second.items), second.next_cursor] == [3, 2, None]
    items = first.items + second.items
    assert {item.id for item in items} == given
    assert [item.created_at for item in items] == sorted((item.created_at for item in items), reverse=True)


@pytest.mark.parametrize("end", ["queued", "running"])
def test_a_file_in_use_stays(store: Store, end: str) -> None:
    dataset = store.datasets.add(samples.dataset())
    new = samples.new_job(store, dataset_id=dataset.id)
    job = store.jobs.submit(new).job
    if end == "running":
        samples.claim(store, job.id)
    for delete, file_id in ((store.models.delete, new.model_id), (store.datasets.delete, dataset.id)):
        with pytest.raises(ConflictError, match=job.id):
            delete(file_id)


def test_a_finished_job_outlives_its_files(store: Store) -> None:
    dataset = store.datasets.add(samples.dataset())
    claim = samples.running(store, dataset_id=dataset.id)
    done = store.jobs.finish(claim, Outcome())
    store.models.delete(done.model_id)
    store.datasets.delete(dataset.id)
    assert store.jobs.get(done.id) == done


def test_a_model_of_known_bytes_is_inspected_already(store: Store) -> None:
    claim = samples.running(store, JobKind.INSPECT)
    store.jobs.finish(claim, Outcome(inspection=samples.INSPECTION))
    assert samples.add_model(store).inspection == samples.INSPECTION
    assert samples.add_model(store, "other bytes").inspection is None


def test_a_failed_inspection_is_not_inherited(store: Store) -> None:
    store.jobs.fail(samples.running(store, JobKind.INSPECT), samples.ERROR, retry=False)
    assert samples.add_model(store).inspection_error is None


def test_a_model_may_bring_its_inspection(store: Store) -> None:
    added = store.models.add(samples.model(inspection=samples.INSPECTION))
    assert store.models.get(added.id).inspection == samples.INSPECTION


def test_names_that_a_database_cannot_hold_are_an_error_of_ours(store: Store) -> None:
    if "sqlite" in store.settings.effective_database_url:
        assert store.models.add(samples.model(filename="a\x00b")).filename == "a\x00b"
    else:
        with pytest.raises(StoreError, match="refused"):
            store.models.add(samples.model(filename="a\x00b"))


def test_odd_names_in_an_inspection_survive(store: Store) -> None:
    odd = samples.INSPECTION.model_copy(update={"producer": "a\x00b\u2028'; DROP TABLE models; --\u2603"})
    model_id = samples.add_model(store).id
    claim = samples.claim(store, store.jobs.submit(NewJob(JobKind.INSPECT, model_id)).job.id)
    store.jobs.finish(claim, Outcome(inspection=odd))
    assert store.models.get(model_id).inspection == odd
