"""Announcements of workers."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

from sqlalchemy import update

from store import Store
from store.clock import from_now
from store.tables import WorkerRow


def announce(store: Store, name: str, device: str = "cpu") -> None:
    store.workers.announce(name, version="0.1", sandbox="strict", device=device, detail={"landlock": 7})


def age(store: Store, name: str) -> None:
    with store._database.engine.begin() as connection:
        connection.execute(update(WorkerRow).where(WorkerRow.name == name).values(seen_at=from_now(-100)))


def test_a_worker_is_as_it_last_announced_itself(store: Store) -> None:
    announce(store, "b")
    announce(store, "a")
    announce(store, "b", device="cuda:0")
    first, second = store.workers.alive()
    assert (first.name, first.sandbox, first.version, first.detail) == ("a", "strict", "0.1", {"landlock": 7})
    assert (second.name, second.device) == ("b", "cuda:0")
    assert second.seen_at - second.started_at < timedelta(seconds=1)


def test_a_silent_worker_is_not_alive_until_seen_again(store: Store) -> None:
    announce(store, "a")
    age(store, "a")
    assert store.workers.alive(within_seconds=60) == ()
    assert len(store.workers.alive(within_seconds=1000)) == 1
    store.workers.seen("a")
    (worker,) = store.workers.alive()
    assert worker.seen_at > worker.started_at
    store.workers.seen("nobody")


def test_a_worker_that_stops_is_forgotten(store: Store) -> None:
    announce(store, "a")
    store.workers.retire("a")
    assert store.workers.alive() == ()


def test_announcing_at_once_is_no_error(store: Store) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: announce(store, "same"), range(16)))
    assert len(store.workers.alive()) == 1
