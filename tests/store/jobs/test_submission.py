"""Submitting: rows, first events, idempotency keys, and what happens to them in races."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier

import pytest

from api_schemas.events import EventType
from api_schemas.ids import new_dataset_id, new_model_id
from api_schemas.jobs import InputSpec, JobStatus
from store import Store
from store.errors import ConflictError, IdempotencyMismatchError, NotFoundError
from store.records import IdempotencyKey, JobKind, NewJob
from tests.store import samples

KEY = IdempotencyKey(route="POST /v1/jobs", key="k-1", fingerprint="abc")


def test_a_job_comes_back_as_it_was_given(store: Store) -> None:
    dataset = store.datasets.add(samples.dataset())
    new = samples.new_job(
        store,
        dataset_id=dataset.id,
        recipe=samples.recipe(),
        inputs={
            "x": [1, 3, 32, 32],
            "flag": InputSpec(value=True),
            "y": InputSpec(shape=[2], dtype="float16"),
        },
        metadata={"pipeline": "nightly", "odd": "\x00 \u2603"},
        webhook_url="https://example.org/hook",
        max_attempts=5,
    )
    job = store.jobs.submit(new).job
    assert store.jobs.get(job.id) == job
    for name in (
        "kind",
        "model_id",
        "dataset_id",
        "recipe",
        "inputs",
        "metadata",
        "webhook_url",
        "max_attempts",
    ):
        assert getattr(job, name) == getattr(new, name)
    assert (job.status, job.attempts, job.started_at, job.error) == (JobStatus.QUEUED, 0, None, None)
    assert job.created_at > samples.LONG_AGO and job.created_at.tzinfo is not None


def test_the_first_event_says_queued(store: Store) -> None:
    (event,) = store.jobs.events(samples.queue(store))
    assert (event.id, event.type, event.data) == (1, EventType.STATUS, {"status": "queued"})


@pytest.mark.parametrize("missing", ["model", "dataset"])
def test_a_job_needs_its_files(store: Store, missing: str) -> None:
    new = samples.new_job(store)
    gone = (
        replace(new, model_id=new_model_id())
        if missing == "model"
        else replace(new, dataset_id=new_dataset_id())
    )
    with pytest.raises(NotFoundError, match=missing):
        store.jobs.submit(gone, KEY)
    assert store.jobs.replay(KEY) is None
    assert store.jobs.counts()[JobStatus.QUEUED] == 0


def test_there_is_no_unknown_job(store: Store) -> None:
    with pytest.raises(NotFoundError):
        store.jobs.get("job_x")


def test_a_key_gives_the_first_job_again(store: Store) -> None:
    new = samples.new_job(store)
    assert store.jobs.replay(KEY) is None
    first = store.jobs.submit(new, KEY)
    again = store.jobs.submit(new, KEY)
    assert (first.replayed, again.replayed, again.job) == (False, True, first.job)
    assert store.jobs.replay(KEY) == first.job
    assert store.jobs.counts()[JobStatus.QUEUED] == 1


def test_a_replay_shows_the_job_as_it_is_now(store: Store) -> None:
    new = samples.new_job(store)
    job = store.jobs.submit(new, KEY).job
    store.jobs.cancel(job.id)
    assert store.jobs.submit(new, KEY).job.status is JobStatus.CANCELLED


def test_a_key_belongs_to_one_body_and_one_route(store: Store) -> None:
    new = samples.new_job(store)
    first = store.jobs.submit(new, KEY)
    other_body = replace(KEY, fingerprint="xyz")
    with pytest.raises(IdempotencyMismatchError):
        store.jobs.submit(new, other_body)
    with pytest.raises(IdempotencyMismatchError):
        store.jobs.replay(other_body)
    elsewhere = store.jobs.submit(new, replace(KEY, route="POST /v1/prune"))
    assert elsewhere.job.id != first.job.id


def test_a_key_past_its_time_makes_a_new_job(store: Store) -> None:
    new = samples.new_job(store)
    first = store.jobs.submit(new, KEY)
    samples.outdate_keys(store)
    assert store.jobs.replay(KEY) is None
    second = store.jobs.submit(new, replace(KEY, fingerprint="another"))
    assert not second.replayed and second.job.id != first.job.id


def test_a_hundred_equal_submissions_at_once_make_one_job(store: Store) -> None:
    new, barrier = samples.new_job(store), Barrier(100)

    def submit(_: int) -> tuple[str, bool]:
        barrier.wait()
        submission = store.jobs.submit(new, KEY)
        return submission.job.id, submission.replayed

    with ThreadPoolExecutor(100) as pool:
        answers = list(pool.map(submit, range(100)))
    assert len({job_id for job_id, _ in answers}) == 1
    assert sorted(replayed for _, replayed in answers) == [False] + [True] * 99
    assert store.jobs.counts()[JobStatus.QUEUED] == 1


@pytest.mark.parametrize("kind", ["model", "dataset"])
def test_a_file_is_either_used_or_deleted(store: Store, kind: str) -> None:
    """Submission and deletion race; never is there a queued job whose file is gone."""

    def delete(file_id: str) -> bool:
        try:
            (store.models if kind == "model" else store.datasets).delete(file_id)
        except ConflictError:
            return False
        return True

    def submit(new: NewJob) -> bool:
        try:
            store.jobs.submit(new)
        except NotFoundError:
            return False
        return True

    with ThreadPoolExecutor(2) as pool:
        for _ in range(20):
            dataset_id = store.datasets.add(samples.dataset()).id
            new = NewJob(JobKind.PRUNE, samples.add_model(store).id, dataset_id=dataset_id)
            submitted = pool.submit(submit, new)
            deleted = pool.submit(delete, new.model_id if kind == "model" else dataset_id)
            assert submitted.result() != deleted.result()
