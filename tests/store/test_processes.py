"""Many processes on one store: no job twice, none lost, whoever is killed (J2, J4, J21)."""

import subprocess
import sys
import textwrap
import time
from collections import Counter
from pathlib import Path

import pytest
from sqlalchemy import insert, select

from api_schemas.ids import new_job_id
from api_schemas.jobs import JobStatus
from store import Store
from store.clock import now
from store.jobs.submission import _values
from store.records import JobKind, NewJob, Outcome
from store.tables import JobRow
from tests.store import samples
from tests.store.conftest import OpenStore

JOBS = 500  # on each of two backends
PROCESSES = 8

_OPEN = """
    import sys, time
    from pathlib import Path
    from store import StoreSettings, open_store
    from store.records import Outcome
    folder, url, lease = sys.argv[1:4]
    settings = StoreSettings(data_dir=Path(folder), database_url=url, lease_seconds=float(lease))
    store = open_store(settings, migrate=False)
    say = lambda text: (sys.stdout.write(text + chr(10)), sys.stdout.flush())
"""

_CLAIM_ALL = """
    say("ready")
    sys.stdin.readline()
    while claim := store.jobs.claim(sys.argv[4]):
        say(f"{claim.job.id} {claim.token}")
"""

_CLAIM_ONE = """
    claim = store.jobs.claim(sys.argv[4])
    say(f"{claim.job.id} {claim.token}")
    sys.stdin.readline()
    try:
        store.jobs.finish(claim, Outcome())
    except Exception as error:
        say(type(error).__name__)
"""


def start(store: Store, script: str, lease_seconds: float, name: str) -> subprocess.Popen[str]:
    source = textwrap.dedent(_OPEN) + textwrap.dedent(script)
    url = store.settings.effective_database_url
    arguments = [str(store.settings.data_dir), url, str(lease_seconds), name]
    return subprocess.Popen(
        [sys.executable, "-c", source, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def tell(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def queue_many(store: Store, count: int) -> set[str]:
    """Rows as `submit` makes them, in one transaction, because they would take seconds."""
    new = NewJob(JobKind.PRUNE, samples.add_model(store).id)
    ids = [new_job_id() for _ in range(count)]
    values = {"attempts": 0, "token": 0, "cancel_requested": False}
    with store._database.engine.begin() as connection:
        moment = connection.scalar(select(now()))
        times = dict.fromkeys(("created_at", "queued_at", "rung_at"), moment)
        rows = [{**_values(job_id, new), **values, **times, "event_count": 0} for job_id in ids]
        connection.execute(insert(JobRow), rows)
    return set(ids)


def test_eight_processes_claim_a_thousand_jobs_in_all_once_each(store: Store) -> None:
    queued = queue_many(store, JOBS)
    processes = [start(store, _CLAIM_ALL, 600, f"w{number}") for number in range(PROCESSES)]
    assert [line(process) for process in processes] == ["ready"] * PROCESSES
    for process in processes:
        tell(process)
    outputs = [process.communicate(timeout=100)[0].splitlines() for process in processes]
    claims = Counter(claim for output in outputs for claim in output)
    assert set(claims) == {f"{job_id} 1" for job_id in queued}
    assert set(claims.values()) == {1}
    assert store.jobs.counts()[JobStatus.RUNNING] == JOBS
    assert [process.returncode for process in processes] == [0] * PROCESSES


def test_a_worker_killed_before_its_first_heartbeat_loses_nothing(open_test_store: OpenStore) -> None:
    store = open_test_store(lease_seconds=0.5)
    job_id = samples.queue(store)
    victim = start(store, _CLAIM_ONE, 0.5, "victim")
    assert line(victim) == f"{job_id} 1"
    victim.kill()
    victim.communicate()
    deadline = time.monotonic() + 30
    while not store.jobs.reconcile().requeued:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    second = samples.claim(store, job_id, worker="heir")
    assert (second.token, second.job.attempts) == (2, 2)
    assert store.jobs.finish(second, Outcome()).status is JobStatus.SUCCEEDED


@pytest.mark.parametrize("reclaimed", [True, False])
def test_a_worker_that_slept_through_its_lease_publishes_nothing(
    open_test_store: OpenStore, reclaimed: bool
) -> None:
    store = open_test_store(lease_seconds=600)
    job_id = samples.queue(store)
    sleeper = start(store, _CLAIM_ONE, 0.3, "sleeper")
    assert line(sleeper) == f"{job_id} 1"
    time.sleep(0.4)
    if reclaimed:
        assert store.jobs.reconcile().requeued == (job_id,)
        samples.claim(store, job_id)
    tell(sleeper)
    assert line(sleeper) == "StaleClaimError"
    sleeper.communicate()
    assert store.jobs.get(job_id).status is JobStatus.RUNNING
