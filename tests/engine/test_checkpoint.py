"""Checkpoints: what was saved comes back, to the same work only, and damage never breaks a job."""

import shutil
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api_schemas.events import ChildEvent, EventType
from worker.engine.checkpoint import Checkpoints, Json

WORK = {"order": "o1", "model": "m1"}


class Clock:
    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        return self.time


class Attempt:
    """One attempt of a job in a folder of its own, given what the attempt before has left."""

    def __init__(self, folder: Path, saved: Path | None = None, work: Mapping[str, str] = WORK, **more: Any):
        self.events: list[ChildEvent] = []
        self.folder, self.clock = folder, Clock()
        self.checkpoints = Checkpoints(
            folder, saved=saved, identity=lambda: work, emit=self.events.append, clock=self.clock, **more
        )

    @property
    def latest(self) -> Path:
        """The file that was announced last."""
        return self.folder / self.said(EventType.CHECKPOINT)[-1]["file"]

    def said(self, type_: EventType) -> list[dict[str, Any]]:
        return [event.data for event in self.events if event.type is type_]


def kept(attempt: Attempt, folder: Path) -> Path:
    """The last checkpoint as the next attempt gets it: in another place."""
    folder.mkdir(exist_ok=True)
    return Path(shutil.copy(attempt.latest, folder / "checkpoint.zip"))


def state_of(attempt: Attempt) -> Mapping[str, Json] | None:
    saved = attempt.checkpoints.load()
    return None if saved is None else saved.state


def test_what_was_saved_comes_back(tmp_path: Path) -> None:
    first = Attempt(tmp_path / "a")
    weights = tmp_path / "weights"
    weights.write_bytes(b"w" * 100_000)
    state: dict[str, Json] = {"step": 7, "loss": 0.1 + 0.2, "rng": [1, 2**62], "best": None}
    first.checkpoints.save(state, {"weights.safetensors": weights, "rng.bin": b"\0\1"}, forced=True)
    weights.write_bytes(b"changed since")
    second = Attempt(tmp_path / "b", kept(first, tmp_path / "in"))
    saved = second.checkpoints.load()
    assert saved is not None and saved.state == state
    assert {name: path.read_bytes() for name, path in saved.files.items()} == {
        "weights.safetensors": b"w" * 100_000,
        "rng.bin": b"\0\1",
    }
    assert second.events == []


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)


@given(st.dictionaries(st.text(max_size=8), json_values, max_size=4), st.binary(max_size=300))
def test_any_state_and_any_bytes_come_back(
    tmp_path_factory: pytest.TempPathFactory, state: dict[str, Json], content: bytes
) -> None:
    folder = tmp_path_factory.mktemp("checkpoint")
    first = Attempt(folder / "a")
    first.checkpoints.save(state, {"x": content}, forced=True)
    saved = Attempt(folder / "b", kept(first, folder / "in")).checkpoints.load()
    assert saved is not None and saved.state == state and saved.files["x"].read_bytes() == content


def test_each_save_is_announced_and_only_the_last_stays(tmp_path: Path) -> None:
    attempt = Attempt(tmp_path / "a")
    for step in range(3):
        attempt.checkpoints.save({"step": step}, forced=True)
    announced = attempt.said(EventType.CHECKPOINT)
    assert [data["file"] for data in announced] == ["1.zip", "2.zip", "3.zip"]
    assert [path.name for path in attempt.folder.iterdir()] == ["3.zip"]
    assert announced[-1]["size_bytes"] == attempt.latest.stat().st_size
    assert state_of(attempt) == {"step": 2}


def test_saving_waits_until_it_is_due(tmp_path: Path) -> None:
    attempt = Attempt(tmp_path / "a", interval_seconds=60)
    assert not attempt.checkpoints.due()
    attempt.checkpoints.save({"step": 1})
    assert attempt.events == []
    attempt.clock.time = 60
    assert attempt.checkpoints.due()
    attempt.checkpoints.save({"step": 2})
    assert not attempt.checkpoints.due() and len(attempt.events) == 1
    attempt.checkpoints.hurry()
    assert attempt.checkpoints.due()


def test_a_signal_may_ask_for_one(tmp_path: Path) -> None:
    attempt = Attempt(tmp_path / "a")
    before = signal.getsignal(signal.SIGUSR1)
    try:
        attempt.checkpoints.hurry_on(signal.SIGUSR1)
        assert not attempt.checkpoints.due()
        signal.raise_signal(signal.SIGUSR1)
        assert attempt.checkpoints.due()
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_slow_disk_is_not_written_to_all_the_time(tmp_path: Path) -> None:
    attempt = Attempt(tmp_path / "a", interval_seconds=60)
    attempt.checkpoints._identity = lambda: setattr(attempt.clock, "time", attempt.clock.time + 30) or WORK
    attempt.checkpoints.save({"step": 1}, forced=True)
    ended = attempt.clock.time
    attempt.clock.time = ended + 299
    assert not attempt.checkpoints.due()
    attempt.clock.time = ended + 300
    assert attempt.checkpoints.due()


def test_without_a_folder_nothing_is_saved() -> None:
    checkpoints = Checkpoints()
    checkpoints.hurry()
    checkpoints.save({"step": 1}, {"x": b"x"}, forced=True)
    assert not checkpoints.due() and checkpoints.load() is None


@pytest.mark.parametrize("other", [{**WORK, "model": "m2"}, {**WORK, "order": "o2"}, {}])
def test_a_checkpoint_of_other_work_is_ignored(tmp_path: Path, other: dict[str, str]) -> None:
    first = Attempt(tmp_path / "a")
    first.checkpoints.save({"step": 1}, forced=True)
    second = Attempt(tmp_path / "b", kept(first, tmp_path / "in"), other)
    assert second.checkpoints.load() is None
    assert "other work" in second.said(EventType.WARNING)[0]["message"]
    assert second.checkpoints.load() is None and len(second.events) == 1


def test_a_damaged_checkpoint_is_ignored_wherever_it_is_damaged(tmp_path: Path) -> None:
    first = Attempt(tmp_path / "a")
    first.checkpoints.save({"step": 1}, {"x": b"0123456789" * 20}, forced=True)
    saved = kept(first, tmp_path / "in")
    whole = saved.read_bytes()
    told = 0
    for at in range(0, len(whole), 3):
        saved.write_bytes(whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :])
        second = Attempt(tmp_path / f"b{at}", saved)
        found = second.checkpoints.load()
        # times, attributes and the like are not covered by check sums, and do not matter
        assert found is None or (
            found.state == {"step": 1} and found.files["x"].read_bytes() == b"0123456789" * 20
        )
        told += found is None
        assert (found is None) == bool(second.said(EventType.WARNING))
    assert told > len(whole) // 3 / 2


@pytest.mark.parametrize("cut", [0, 1, 50, -1])
def test_a_checkpoint_that_was_cut_off_is_ignored(tmp_path: Path, cut: int) -> None:
    first = Attempt(tmp_path / "a")
    first.checkpoints.save({"step": 1}, {"x": b"x" * 500}, forced=True)
    saved = kept(first, tmp_path / "in")
    saved.write_bytes(saved.read_bytes()[:cut])
    second = Attempt(tmp_path / "b", saved)
    assert second.checkpoints.load() is None and len(second.said(EventType.WARNING)) == 1
    second.checkpoints.save({"step": 5}, forced=True)
    assert state_of(second) == {"step": 5}


def test_a_missing_checkpoint_is_ignored(tmp_path: Path) -> None:
    attempt = Attempt(tmp_path / "a", tmp_path / "nothing.zip")
    assert attempt.checkpoints.load() is None
    assert "starts over" in attempt.said(EventType.WARNING)[0]["message"]


def test_inner_work_is_saved_beside_the_work_around_it(tmp_path: Path) -> None:
    first = Attempt(tmp_path / "a")
    first.checkpoints.save({"round": 2}, {"network": b"round 2"}, forced=True)
    with first.checkpoints.scope("round-2"):
        first.checkpoints.save({"step": 10}, {"weights": b"w10"}, forced=True)
        first.checkpoints.save({"step": 20}, {"weights": b"w20"}, forced=True)
    second = Attempt(tmp_path / "b", kept(first, tmp_path / "in"))
    outer = second.checkpoints.load()
    assert outer is not None and outer.state == {"round": 2}
    assert outer.files["network"].read_bytes() == b"round 2"
    with second.checkpoints.scope("round-2"):
        inner = second.checkpoints.load()
        assert inner is not None and inner.state == {"step": 20}
        assert inner.files["weights"].read_bytes() == b"w20"
        second.checkpoints.save({"step": 30}, {"weights": b"w30"}, forced=True)
    third = Attempt(tmp_path / "c", kept(second, tmp_path / "in"))
    outer = third.checkpoints.load()
    assert outer is not None and outer.files["network"].read_bytes() == b"round 2"


def test_nothing_of_finished_work_is_given_to_what_follows(tmp_path: Path) -> None:
    attempt = Attempt(tmp_path / "a")
    with attempt.checkpoints.scope("round-1"):
        attempt.checkpoints.save({"step": 10}, {"weights": b"w"}, forced=True)
    with attempt.checkpoints.scope("round-2"):
        assert attempt.checkpoints.load() is None
    attempt.checkpoints.save({"round": 2}, forced=True)
    second = Attempt(tmp_path / "b", kept(attempt, tmp_path / "in"))
    with second.checkpoints.scope("round-1"):
        assert second.checkpoints.load() is None


def test_what_finished_work_found_out_is_kept_and_its_files_are_not(tmp_path: Path) -> None:
    first = Attempt(tmp_path / "a")
    with first.checkpoints.scope("search"):
        first.checkpoints.save({"tried": [0.5, 0.75]}, forced=True)
    with first.checkpoints.scope("round-1"):
        first.checkpoints.save({"step": 9}, {"weights": b"w" * 10_000}, forced=True)
    with first.checkpoints.scope("round-2"):
        first.checkpoints.save({"step": 1}, {"weights": b"v"}, forced=True)
    assert first.latest.stat().st_size < 10_000
    second = Attempt(tmp_path / "b", kept(first, tmp_path / "in"))
    found = []
    for name in ("search", "round-1", "round-2"):
        with second.checkpoints.scope(name):
            found.append(state_of(second))
    assert found == [{"tried": [0.5, 0.75]}, None, {"step": 1}]


def test_a_scope_entered_again_is_another_and_the_next_attempt_finds_each(tmp_path: Path) -> None:
    first = Attempt(tmp_path / "a")
    for step in (1, 2):
        with first.checkpoints.scope("training"):
            first.checkpoints.save({"step": step}, forced=True)
    second = Attempt(tmp_path / "b", kept(first, tmp_path / "in"))
    found = []
    for _ in range(3):
        with second.checkpoints.scope("training"):
            found.append(state_of(second))
    assert found == [{"step": 1}, {"step": 2}, None]


def test_a_checkpoint_that_is_too_large_costs_the_checkpoint_only(tmp_path: Path) -> None:
    attempt = Attempt(tmp_path / "a", most_bytes=2_000)
    attempt.checkpoints.save({"step": 1}, forced=True)
    attempt.checkpoints.save({"step": 2}, {"x": bytes(3_000)}, forced=True)
    attempt.checkpoints.save({"step": 3}, forced=True)
    assert len(attempt.said(EventType.CHECKPOINT)) == 1
    (warning,) = attempt.said(EventType.WARNING)
    assert "without checkpoints" in warning["message"] and "2000" in warning["message"]
    assert not attempt.checkpoints.due() and state_of(attempt) == {"step": 1}


def test_a_full_disk_costs_the_checkpoint_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    attempt = Attempt(tmp_path / "a")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("worker.engine.checkpoint.shutil.copyfileobj", full)
    attempt.checkpoints.save({"step": 1}, {"x": b"x"}, forced=True)
    assert "No space left" in attempt.said(EventType.WARNING)[0]["message"]
    assert attempt.said(EventType.CHECKPOINT) == []


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "a\0b", "x" * 200])
def test_odd_names_are_refused(tmp_path: Path, name: str) -> None:
    attempt = Attempt(tmp_path / "a")
    with pytest.raises(ValueError, match="plain file name"):
        attempt.checkpoints.save({}, {name: b""}, forced=True)


def test_equal_states_make_equal_files(tmp_path: Path) -> None:
    contents = []
    for name in "ab":
        attempt = Attempt(tmp_path / name)
        attempt.checkpoints.save({"step": 1}, {"x": b"same"}, forced=True)
        contents.append(attempt.latest.read_bytes())
    assert contents[0] == contents[1]
