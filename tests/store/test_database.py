"""Transactions: errors in our words, and commits whose answer was lost (J18)."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from threading import Timer

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from api_schemas.jobs import JobStatus, Stage
from store import Store, StoreSettings, database, open_store
from store.database import Database
from store.errors import NotFoundError, StaleClaimError, StoreError, UnavailableError
from store.records import Claim, IdempotencyKey, JobRecord, Outcome
from tests.store import samples


class LostAnswers:
    """Breaks the connection at the next commit: `after` it took effect, or `before` it could."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._commit = Session.commit
        self._next: list[str] = []
        monkeypatch.setattr(Session, "commit", lambda session: self._break(session))
        monkeypatch.setattr(database, "_REREAD_DELAYS", (0.0, 0.0))

    def arm(self, moment: str) -> None:
        self._next = [moment]

    def _break(self, session: Session) -> None:
        moment = self._next.pop() if self._next else None
        if moment == "before":
            session.rollback()
        else:
            self._commit(session)
        if moment:
            raise OperationalError("COMMIT", {}, sqlite3.OperationalError("the line went dead"))


@pytest.fixture
def lost_answers(monkeypatch: pytest.MonkeyPatch) -> LostAnswers:
    return LostAnswers(monkeypatch)


ENDS: dict[str, tuple[Callable[[Store, Claim], JobRecord | None], JobStatus]] = {
    "finish": (lambda store, claim: store.jobs.finish(claim, Outcome()), JobStatus.SUCCEEDED),
    "fail": (lambda store, claim: store.jobs.fail(claim, samples.ERROR, retry=False), JobStatus.FAILED),
    "retry": (lambda store, claim: store.jobs.fail(claim, samples.ERROR, retry=True), JobStatus.QUEUED),
    "cancelled": (lambda store, claim: store.jobs.cancelled(claim), JobStatus.CANCELLED),
    "release": (lambda store, claim: store.jobs.release(claim), JobStatus.QUEUED),
}


@pytest.mark.parametrize("name", ENDS)
def test_an_end_whose_answer_was_lost_is_found_again(
    store: Store, lost_answers: LostAnswers, name: str
) -> None:
    write, status = ENDS[name]
    claim = samples.running(store)
    lost_answers.arm("after")
    write(store, claim)
    assert store.jobs.get(claim.job.id).status is status
    assert samples.history(store, claim.job.id) == ["queued", "running", status.value]


@pytest.mark.parametrize("name", ENDS)
def test_an_end_that_was_not_written_is_an_error_and_can_be_tried_again(
    store: Store, lost_answers: LostAnswers, name: str
) -> None:
    write, status = ENDS[name]
    claim = samples.running(store)
    lost_answers.arm("before")
    with pytest.raises(UnavailableError):
        write(store, claim)
    assert store.jobs.get(claim.job.id).status is JobStatus.RUNNING
    write(store, claim)
    assert store.jobs.get(claim.job.id).status is status


def test_a_claim_whose_answer_was_lost_is_held(store: Store, lost_answers: LostAnswers) -> None:
    job_id = samples.queue(store)
    lost_answers.arm("after")
    claim = samples.claim(store, job_id, worker="w7")
    assert (claim.job.id, claim.token, claim.worker, claim.job.attempts) == (job_id, 1, "w7", 1)
    assert store.jobs.finish(claim, Outcome()).status is JobStatus.SUCCEEDED


def test_a_claim_that_was_not_written_leaves_the_job_queued(store: Store, lost_answers: LostAnswers) -> None:
    job_id = samples.queue(store)
    lost_answers.arm("before")
    with pytest.raises(UnavailableError):
        store.jobs.claim("w")
    assert store.jobs.get(job_id).attempts == 0


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_submission_is_made_once_whatever_was_lost(
    store: Store, lost_answers: LostAnswers, moment: str
) -> None:
    key, new = IdempotencyKey("r", "k", "f"), samples.new_job(store)
    lost_answers.arm(moment)
    try:
        first = store.jobs.submit(new, key).job.id
    except UnavailableError:
        assert moment == "before"
        first = store.jobs.submit(new, key).job.id
    assert store.jobs.submit(new, key).job.id == first
    assert store.jobs.counts()[JobStatus.QUEUED] == 1


@pytest.mark.parametrize("moment", ["before", "after"])
def test_events_are_appended_once_whatever_was_lost(
    store: Store, lost_answers: LostAnswers, moment: str
) -> None:
    claim = samples.running(store)
    lost_answers.arm(moment)
    try:
        store.jobs.record(claim, samples.warnings("a", "b"), stage=Stage.LOADING)
    except UnavailableError:
        assert moment == "before"
        store.jobs.record(claim, samples.warnings("a", "b"), stage=Stage.LOADING)
    assert [event.data.get("message") for event in store.jobs.events(claim.job.id)] == [None, None, "a", "b"]


def test_other_writes_whose_answer_was_lost_are_found_too(store: Store, lost_answers: LostAnswers) -> None:
    lost_answers.arm("after")
    model = samples.add_model(store)
    lost_answers.arm("after")
    dataset = store.datasets.add(samples.dataset())
    assert (store.models.get(model.id), store.datasets.get(dataset.id)) == (model, dataset)
    for job_id in (samples.queue(store), samples.running(store).job.id):
        lost_answers.arm("after")
        assert store.jobs.cancel(job_id) == store.jobs.get(job_id)


def test_a_database_that_stays_away_is_asked_again_and_then_given_up(
    store: Store, lost_answers: LostAnswers, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim, asked = samples.running(store), []

    def away(*_: object) -> None:
        asked.append(1)
        raise UnavailableError

    lost_answers.arm("after")
    with monkeypatch.context() as patch:
        patch.setattr(Database, "read", away)
        with pytest.raises(UnavailableError):
            store.jobs.finish(claim, Outcome())
    assert len(asked) == 2
    assert store.jobs.get(claim.job.id).status is JobStatus.SUCCEEDED
    with pytest.raises(StaleClaimError):
        store.jobs.finish(claim, Outcome())


def test_a_heartbeat_whose_answer_was_lost_is_simply_repeated(
    store: Store, lost_answers: LostAnswers
) -> None:
    claim = samples.running(store)
    lost_answers.arm("after")
    with pytest.raises(UnavailableError):
        store.jobs.heartbeat(claim)
    assert not store.jobs.heartbeat(claim).cancel_requested


def test_our_own_errors_roll_back(store: Store) -> None:
    def work(session: Session) -> None:
        session.execute(text("INSERT INTO workers VALUES ('w', '', '', '', '{}', 1, 1)"))
        raise NotFoundError

    with pytest.raises(NotFoundError):
        store._database.write(work)
    assert store._database.read(lambda session: session.scalar(text("SELECT count(*) FROM workers"))) == 0


def test_reading_writes_nothing(store: Store) -> None:
    insert = text("INSERT INTO workers VALUES ('w', '', '', '', '{}', 1, 1)")
    store._database.read(lambda session: session.execute(insert))
    assert store._database.read(lambda session: session.scalar(text("SELECT count(*) FROM workers"))) == 0


def test_a_refused_statement_is_a_store_error(store: Store) -> None:
    insert = text("INSERT INTO workers VALUES ('w', '', '', '', '{}', 1, 1)")
    store._database.write(lambda session: session.execute(insert))
    with pytest.raises(StoreError, match="refused") as caught:
        store._database.write(lambda session: session.execute(insert))
    assert not isinstance(caught.value, UnavailableError)


def test_a_living_database_answers(store: Store) -> None:
    store.ping()


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "mysql://x/y"])
def test_other_databases_are_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"SQLite"):
        open_store(StoreSettings(data_dir=tmp_path, database_url=url))


def test_a_folder_that_cannot_be_made_is_an_error_of_ours(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="folders"):
        open_store(StoreSettings(data_dir=tmp_path / "file" / "data"))


def test_a_database_that_is_not_one_is_an_error_of_ours(tmp_path: Path) -> None:
    (tmp_path / "lookahead.db").write_text("not a database at all " * 100)
    with pytest.raises(StoreError):
        open_store(StoreSettings(data_dir=tmp_path))


def test_sqlite_keeps_commits_on_disk_and_lets_readers_read(tmp_path: Path) -> None:
    store = open_store(StoreSettings(data_dir=tmp_path))

    def pragma(session: Session, name: str) -> object:
        return session.scalar(text(f"PRAGMA {name}"))

    for name, value in {
        "journal_mode": "wal",
        "synchronous": 2,
        "foreign_keys": 1,
        "busy_timeout": 20_000,
    }.items():
        assert store._database.read(lambda session, name=name: pragma(session, name)) == value
    with Session(store._database.engine) as writer:
        writer.execute(text("INSERT INTO workers VALUES ('w', '', '', '', '{}', 1, 1)"))
        assert store.workers.alive(10**12) == ()
        writer.commit()
    assert len(store.workers.alive(10**12)) == 1
    store.close()


@pytest.mark.servers
@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_connections_that_the_server_closed_are_replaced(store: Store) -> None:
    samples.queue(store)
    others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND "
    with store._database.engine.connect() as connection:
        connection.execute(text(others + "datname = current_database()"))
    assert store.jobs.counts()[JobStatus.QUEUED] == 1


def test_a_refused_question_is_a_store_error(store: Store) -> None:
    with pytest.raises(StoreError, match="nowhere"):
        store._database.read(lambda session: session.execute(text("SELECT * FROM nowhere")))


def test_the_switch_to_write_ahead_logging_waits_for_others(tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "x.db", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN EXCLUSIVE")
    release = Timer(0.2, other.rollback)
    release.start()
    with closing(sqlite3.connect(tmp_path / "x.db", timeout=0)) as connection:
        database._use_wal(connection)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    release.join()
    other.close()


def test_the_switch_to_write_ahead_logging_gives_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database.time, "sleep", lambda seconds: None)
    other = sqlite3.connect(tmp_path / "x.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    waiting = sqlite3.connect(tmp_path / "x.db", timeout=0)
    with closing(other), closing(waiting), pytest.raises(sqlite3.OperationalError, match="locked"):
        database._use_wal(waiting)
    reading = sqlite3.connect(f"file:{tmp_path}/x.db?mode=ro", uri=True)
    with closing(reading), pytest.raises(sqlite3.OperationalError, match="readonly"):
        database._use_wal(reading)
