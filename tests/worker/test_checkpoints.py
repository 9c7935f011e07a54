"""What is taken out of a folder that an untrusted process writes to, and how."""

import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from api_schemas.events import ChildEvent, EventType
from store import Store
from store.errors import BlobError, StaleClaimError
from store.records import BlobRef, Claim
from tests.faults.worker_process import eventually
from worker.checkpoints import CheckpointKeeper, copy_out
from worker.errors import RejectedOutputError
from worker.jobdir import JobDirectory


@pytest.fixture
def made(tmp_path: Path) -> Iterator[JobDirectory]:
    directory = JobDirectory(tmp_path / "scratch")
    yield directory
    directory.close()


def write(directory: JobDirectory, name: str, content: bytes = b"saved") -> Path:
    path = directory.work / "checkpoint" / name
    path.write_bytes(content)
    return path


def copied(directory: JobDirectory, name: str, tmp_path: Path, most: int = 100) -> bytes:
    copy_out(directory.checkpoint_descriptor, name, tmp_path / "copy", most)
    return (tmp_path / "copy").read_bytes()


def test_a_plain_file_is_copied(made: JobDirectory, tmp_path: Path) -> None:
    write(made, "1.zip", b"x" * 100)
    assert copied(made, "1.zip", tmp_path) == b"x" * 100


def test_a_file_that_is_too_large_is_not(made: JobDirectory, tmp_path: Path) -> None:
    write(made, "1.zip", b"x" * 101)
    with pytest.raises(RejectedOutputError, match="more than 100 bytes"):
        copied(made, "1.zip", tmp_path)


@pytest.mark.parametrize("name", ["", ".", "..", "../input/x", "/etc/passwd", "a/b", "a\0b", "x" * 5000])
def test_odd_names_are_refused(made: JobDirectory, tmp_path: Path, name: str) -> None:
    with pytest.raises(RejectedOutputError):
        copied(made, name, tmp_path)


def test_what_is_no_plain_file_is_refused(made: JobDirectory, tmp_path: Path) -> None:
    folder = made.work / "checkpoint"
    (folder / "link").symlink_to("/etc/passwd")
    os.mkfifo(folder / "pipe")
    (folder / "folder").mkdir()
    os.link(write(made, "twice"), folder / "again")
    for name in ("link", "pipe", "folder", "twice"):
        with pytest.raises(RejectedOutputError):
            copied(made, name, tmp_path)
        assert not (tmp_path / "copy").exists()


def test_a_file_that_is_gone_is_told_apart(made: JobDirectory, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        copied(made, "gone.zip", tmp_path)


def test_a_folder_put_in_the_place_of_ours_is_not_looked_into(made: JobDirectory, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "secret").write_text("secret")
    (made.work / "checkpoint").rename(made.work / "away")
    (made.work / "checkpoint").symlink_to(elsewhere)
    with pytest.raises(FileNotFoundError):
        copied(made, "secret", tmp_path)


@dataclass
class Kept:
    """The parts of a store that a keeper needs, remembering what they are told."""

    folder: Path
    named: list[bytes] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    hold: threading.Event = field(default_factory=threading.Event)
    failure: Exception | None = None

    def __post_init__(self) -> None:
        self.hold.set()
        self.content = b""
        self.blobs = SimpleNamespace(staging_dir=lambda: self.folder)
        self.checkpoints = SimpleNamespace(
            publish=self.publish, remove=lambda job_id, sha256: self.removed.append(sha256)
        )
        self.jobs = SimpleNamespace(save_checkpoint=self.save)

    def publish(self, job_id: str, path: Path) -> BlobRef:
        self.hold.wait(10)
        self.content = path.read_bytes()
        if self.failure is not None:
            raise self.failure
        return BlobRef(self.content.decode(), len(self.content), "checkpoint.zip")

    def save(self, claim: Claim, blob: BlobRef) -> str | None:
        before = self.named[-1].decode() if self.named else None
        self.named.append(self.content)
        return before


@dataclass
class Keeping:
    """A keeper at work."""

    keeper: CheckpointKeeper
    store: Kept
    said: list[ChildEvent]

    def of(self, type_: EventType) -> list[dict[str, Any]]:
        return [event.data for event in self.said if event.type is type_]


@pytest.fixture
def keeping(made: JobDirectory, tmp_path: Path) -> Iterator[Keeping]:
    staging = tmp_path / "staging"
    staging.mkdir()
    kept, said = Kept(staging), cast(list[ChildEvent], [])
    claim = cast(Claim, SimpleNamespace(job=SimpleNamespace(id="job_x"), token=1))
    keeper = CheckpointKeeper(cast(Store, kept), claim, made, 100, 0.01, said.append)
    yield Keeping(keeper, kept, said)
    kept.hold.set()
    keeper.end(keep=False)
    keeper._thread.join(10)
    assert not keeper._thread.is_alive() and list(staging.iterdir()) == []


def test_a_checkpoint_is_named_and_the_one_before_removed(made: JobDirectory, keeping: Keeping) -> None:
    for name in (b"one", b"two"):
        write(made, "x.zip", name)
        keeping.keeper.offer("x.zip")
        eventually(lambda name=name: name in keeping.store.named)
    eventually(lambda: keeping.store.removed == ["one"])
    assert keeping.of(EventType.CHECKPOINT) == [{"action": "saved", "size_bytes": 3}] * 2


def test_of_those_that_wait_the_newest_is_taken(made: JobDirectory, keeping: Keeping) -> None:
    keeping.store.hold.clear()
    for name in ("1", "2", "3", "4"):
        write(made, name, name.encode())
    keeping.keeper.offer("1")
    eventually(lambda: keeping.keeper._offered is None)
    for name in ("2", "3", "4"):
        keeping.keeper.offer(name)  # returns although the first is still on its way
    keeping.store.hold.set()
    eventually(lambda: len(keeping.store.named) == 2)
    assert keeping.store.named == [b"1", b"4"]


@pytest.mark.parametrize("keep", [True, False])
def test_what_waits_at_the_end_is_kept_where_another_attempt_follows(
    made: JobDirectory, keeping: Keeping, keep: bool
) -> None:
    keeping.store.hold.clear()
    for name in ("1", "2"):
        write(made, name, name.encode())
        keeping.keeper.offer(name)
        eventually(lambda: keeping.keeper._offered in (None, "2"))
    threading.Timer(0.1, keeping.store.hold.set).start()
    keeping.keeper.end(keep=keep)
    keeping.keeper._thread.join(10)
    assert keeping.store.named == ([b"1", b"2"] if keep else [b"1"])


@pytest.mark.parametrize("failure", [BlobError("no room"), StaleClaimError("gone"), OSError(28, "full")])
def test_a_store_that_fails_costs_one_checkpoint(
    made: JobDirectory, keeping: Keeping, failure: Exception
) -> None:
    keeping.store.failure = failure
    write(made, "1", b"one")
    keeping.keeper.offer("1")
    eventually(lambda: keeping.store.content == b"one")
    keeping.store.failure = None
    write(made, "2", b"two")
    eventually(lambda: keeping.keeper.offer("2") or b"two" in keeping.store.named)
    assert keeping.of(EventType.WARNING) == []


def test_a_refusal_is_told(made: JobDirectory, keeping: Keeping) -> None:
    write(made, "big", b"x" * 101)
    keeping.keeper.offer("big")
    eventually(lambda: bool(keeping.said))
    assert "more than 100 bytes" in keeping.of(EventType.WARNING)[0]["message"]
