"""The life of jobs against a plain model of it: whatever is called in whatever order, both agree."""

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from api_schemas.errors import ErrorCode
from api_schemas.jobs import JobStatus
from store import Store, StoreSettings, open_store
from store.errors import ConflictError, IdempotencyMismatchError, StaleClaimError
from store.records import Claim, IdempotencyKey, JobKind, NewJob, Outcome
from tests.store import samples
from tests.store.conftest import empty_tables

INDEX = st.integers(0, 1000)


@dataclass
class ModelJob:
    """What must be true of one job."""

    id: str
    kind: JobKind
    max_attempts: int
    hooked: bool
    order: tuple[object, ...]
    status: JobStatus = JobStatus.QUEUED
    attempts: int = 0
    token: int = 0
    alive: bool = False
    cancel_requested: bool = False
    error: ErrorCode | None = None
    history: list[str] = field(default_factory=lambda: ["queued"])
    warnings: int = 0

    def become(self, status: JobStatus, error: ErrorCode | None = None) -> None:
        self.status, self.error, self.alive = status, error, status is JobStatus.RUNNING
        self.history.append(status.value)

    def requeue(self) -> None:
        if self.cancel_requested:
            self.become(JobStatus.CANCELLED, ErrorCode.CANCELLED)
        else:
            self.become(JobStatus.QUEUED)

    def held_by(self, claim: Claim) -> bool:
        return self.status is JobStatus.RUNNING and self.token == claim.token and self.alive


class JobLife(RuleBasedStateMachine):
    """Any number of users, workers and sweeps."""

    claims: Bundle[Claim] = Bundle("claims")
    store: Store

    @initialize()
    def begin(self) -> None:
        self.jobs: dict[str, ModelJob] = {}
        self.keys: dict[str, tuple[str, str]] = {}
        self.model_id = samples.add_model(self.store).id
        self.inspection: str | None = None

    def pick(self, index: int) -> ModelJob | None:
        return list(self.jobs.values())[index % len(self.jobs)] if self.jobs else None

    @rule(
        kind=st.sampled_from(JobKind),
        max_attempts=st.integers(1, 3),
        hooked=st.booleans(),
        key=st.none() | st.sampled_from("ab"),
        body=st.sampled_from("xxy"),
    )
    def submit(self, kind: JobKind, max_attempts: int, hooked: bool, key: str | None, body: str) -> None:
        url = "https://example.org" if hooked else None
        new = NewJob(kind, self.model_id, max_attempts=max_attempts, webhook_url=url)
        idempotency = None if key is None else IdempotencyKey("r", key, body)
        if key in self.keys and self.keys[key][1] != body:
            with pytest.raises(IdempotencyMismatchError):
                self.store.jobs.submit(new, idempotency)
            return
        submission = self.store.jobs.submit(new, idempotency)
        assert submission.replayed == (key in self.keys)
        if submission.replayed:
            assert key is not None and submission.job.id == self.keys[key][0]
            return
        job = submission.job
        order = (kind is JobKind.PRUNE, job.created_at, job.id)
        self.jobs[job.id] = ModelJob(job.id, kind, max_attempts, hooked, order)
        if key is not None:
            self.keys[key] = (job.id, body)

    @rule(target=claims, kinds=st.none() | st.sets(st.sampled_from(JobKind)))
    def claim(self, kinds: set[JobKind] | None) -> object:
        queued = [
            j
            for j in self.jobs.values()
            if j.status is JobStatus.QUEUED and (kinds is None or j.kind in kinds)
        ]
        claim = self.store.jobs.claim("w", kinds=kinds)
        if not queued:
            assert claim is None
            return multiple()
        expected = min(queued, key=lambda job: job.order)
        assert claim is not None and claim.job.id == expected.id
        expected.become(JobStatus.RUNNING)
        expected.attempts += 1
        expected.token += 1
        assert (claim.token, claim.job.attempts) == (expected.token, expected.attempts)
        return claim

    def write(self, claim: Claim, call: Callable[[], object], effect: Callable[[ModelJob], None]) -> None:
        """The call has its effect if the claim holds, and is refused if not."""
        job = self.jobs[claim.job.id]
        if job.held_by(claim):
            call()
            effect(job)
        else:
            with pytest.raises(StaleClaimError):
                call()

    @rule(claim=claims)
    def heartbeat(self, claim: Claim) -> None:
        job = self.jobs[claim.job.id]

        def beat() -> None:
            assert self.store.jobs.heartbeat(claim).cancel_requested == job.cancel_requested

        self.write(claim, beat, lambda job: None)

    @rule(claim=claims, count=st.integers(0, 3))
    def record(self, claim: Claim, count: int) -> None:
        def effect(job: ModelJob) -> None:
            job.warnings += count

        self.write(claim, lambda: self.store.jobs.record(claim, samples.warnings(*"abc"[:count])), effect)

    @rule(claim=claims)
    def finish(self, claim: Claim) -> None:
        def effect(job: ModelJob) -> None:
            job.become(JobStatus.SUCCEEDED)
            if job.kind is JobKind.INSPECT:
                self.inspection = "done"

        self.write(
            claim, lambda: self.store.jobs.finish(claim, Outcome(inspection=samples.INSPECTION)), effect
        )

    @rule(claim=claims, retry=st.booleans())
    def fail(self, claim: Claim, retry: bool) -> None:
        def effect(job: ModelJob) -> None:
            if retry and job.attempts < job.max_attempts:
                job.requeue()
            else:
                job.become(JobStatus.FAILED, ErrorCode.INTERNAL)

        self.write(claim, lambda: self.store.jobs.fail(claim, samples.ERROR, retry=retry), effect)

    @rule(claim=claims)
    def cancelled(self, claim: Claim) -> None:
        self.write(
            claim,
            lambda: self.store.jobs.cancelled(claim),
            lambda job: job.become(JobStatus.CANCELLED, ErrorCode.CANCELLED),
        )

    @rule(claim=claims)
    def release(self, claim: Claim) -> None:
        def effect(job: ModelJob) -> None:
            job.attempts -= 1
            job.requeue()

        self.write(claim, lambda: self.store.jobs.release(claim), effect)

    @rule(index=INDEX)
    def cancel(self, index: int) -> None:
        job = self.pick(index)
        if job is None:
            return
        if job.status.finished:
            with pytest.raises(ConflictError):
                self.store.jobs.cancel(job.id)
            return
        self.store.jobs.cancel(job.id)
        if job.status is JobStatus.QUEUED:
            job.become(JobStatus.CANCELLED, ErrorCode.CANCELLED)
        else:
            job.cancel_requested = True

    @rule(index=INDEX)
    def lapse(self, index: int) -> None:
        job = self.pick(index)
        if job is not None and job.status is JobStatus.RUNNING:
            samples.lapse(self.store, job.id)
            job.alive = False

    @rule()
    def reconcile(self) -> None:
        lost = [job for job in self.jobs.values() if job.status is JobStatus.RUNNING and not job.alive]
        swept = self.store.jobs.reconcile()
        for job in lost:
            if job.cancel_requested or job.attempts < job.max_attempts:
                job.requeue()
            else:
                job.become(JobStatus.FAILED, ErrorCode.WORKER_LOST)

        def ended(status: JobStatus) -> list[str]:
            return sorted(job.id for job in lost if job.status is status)

        assert sorted(swept.requeued) == ended(JobStatus.QUEUED)
        assert sorted(swept.failed) == ended(JobStatus.FAILED)
        assert sorted(swept.cancelled) == ended(JobStatus.CANCELLED)

    @invariant()
    def store_and_model_agree(self) -> None:
        listed = self.store.jobs.list(kind=None, limit=1000).items
        assert {job.id for job in listed} == set(self.jobs)
        for job in listed:
            expected = self.jobs[job.id]
            assert (job.status, job.attempts) == (expected.status, expected.attempts)
            assert job.cancel_requested == expected.cancel_requested
            assert (None if job.error is None else job.error.code) == expected.error
            assert (job.finished_at is not None) == job.status.finished
            assert job.attempts <= job.max_attempts

    def teardown(self) -> None:
        """What takes too long to look at after every step."""
        if not hasattr(self, "jobs"):
            return
        for job in self.jobs.values():
            assert samples.history(self.store, job.id) == job.history
            assert len(self.store.jobs.events(job.id)) == len(job.history) + job.warnings
        told = sorted(delivery.job_id for delivery in self.store.jobs.due_webhooks(limit=1000))
        assert told == sorted(job.id for job in self.jobs.values() if job.hooked and job.status.finished)
        inspected = self.store.models.get(self.model_id).inspection is not None
        assert inspected == (self.inspection is not None)


def settings_for(examples: int) -> settings:
    return settings(
        max_examples=examples,
        stateful_step_count=30,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


def test_on_sqlite(migrated_sqlite: Path) -> None:
    class OnSqlite(JobLife):
        def __init__(self) -> None:
            super().__init__()
            self.folder = Path(tempfile.mkdtemp(prefix="job-life-"))
            shutil.copy(migrated_sqlite, self.folder)
            self.store = open_store(StoreSettings(data_dir=self.folder), migrate=False)

        def teardown(self) -> None:
            try:
                super().teardown()
            finally:
                self.store.close()
                shutil.rmtree(self.folder)

    run_state_machine_as_test(OnSqlite, settings=settings_for(40))


@pytest.mark.servers
def test_on_postgresql(migrated_postgresql: str, tmp_path: Path) -> None:
    class OnPostgresql(JobLife):
        def __init__(self) -> None:
            super().__init__()
            empty_tables(migrated_postgresql)
            options = StoreSettings(data_dir=tmp_path, database_url=migrated_postgresql)
            self.store = open_store(options, migrate=False)

        def teardown(self) -> None:
            try:
                super().teardown()
            finally:
                self.store.close()

    run_state_machine_as_test(OnPostgresql, settings=settings_for(15))
