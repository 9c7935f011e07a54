"""Checkpoints: what long work has come to, in one file that nothing but a sandboxed child ever opens again.

The file is a zip without compression: `checkpoint.json` says whose it is and holds the states, the other
members are the files. Its check sums tell a damaged one.
"""

import json
import re
import shutil
import signal
import struct
import threading
import time
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import IO, Any, Final, TypeAlias, final

from api_schemas.events import ChildEvent, EventType

Json: TypeAlias = "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None"
Content: TypeAlias = "Path | bytes"
Scope: TypeAlias = "tuple[str, ...]"

_MANIFEST: Final = "checkpoint.json"
_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_SLOWDOWN: Final = 10.0  # saving takes at most a tenth of the time
#: What reading a zip or a manifest that is not as we wrote it can raise.
_DAMAGED: Final = (
    *(zipfile.BadZipFile, RuntimeError, OSError, EOFError, zlib.error, struct.error),
    *(ValueError, LookupError, TypeError, AttributeError),
)


@final
@dataclass(frozen=True)
class Saved:
    """What `save` was given in the scope that asks. The files are copies, the caller's to change."""

    state: Mapping[str, Any]
    files: Mapping[str, Path]


@final
@dataclass(frozen=True)
class _Part:
    """What one scope has saved; `members` are its files' places in the archive."""

    state: Mapping[str, Json]
    members: Mapping[str, str]


@final
@dataclass
class _Archive:
    """The last checkpoint, with what each scope has in it."""

    path: Path
    parts: dict[Scope, _Part] = field(default_factory=dict)


def _silent(_event: ChildEvent) -> None:
    """An `emit` that drops every event."""


def _nobody() -> Mapping[str, str]:
    return {}


@final
class Checkpoints:
    """Saves where a job has come to, and gives it back to the next attempt.

    Scopes nest as the work does: an outer loop saves its own state, and work inside ``scope("round-3")``
    saves beside it. A checkpoint holds what the present scope and those around it saved last; of finished
    work beside them only what has no files, such as the figures that a search has taken. Nothing of one
    round is ever given to the next. Without a folder nothing is saved.

    `identity` says what the work is (recipe, model, versions); a checkpoint of other work is ignored.
    Not for several threads.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        saved: Path | None = None,
        identity: Callable[[], Mapping[str, str]] = _nobody,
        emit: Callable[[ChildEvent], None] = _silent,
        interval_seconds: float = 60.0,
        most_bytes: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder, self._unread, self._emit, self._clock = folder, saved, emit, clock
        self._identity, self._interval, self._most_bytes = identity, interval_seconds, most_bytes
        self._saving = folder is not None
        self._scope: Scope = ()
        self._entered: Counter[Scope] = Counter()
        self._last: _Archive | None = None
        self._number = self._loaded = 0
        self._next = clock() + interval_seconds

    @property
    def saves(self) -> bool:
        """False without a folder, and once saving has been given up."""
        return self._saving

    def due(self) -> bool:
        """True when it is time to save: an interval after the last, longer where saving itself is slow."""
        return self._saving and self._clock() >= self._next

    def hurry(self) -> None:
        """Have the next look find that saving is due, as when the machine is about to go."""
        self._next = self._clock()

    def hurry_on(self, number: int) -> None:
        """Let a signal of that number mean `hurry`; only the main thread can, elsewhere nothing happens."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(number, lambda *_: self.hurry())

    @contextmanager
    def scope(self, name: str) -> Iterator[None]:
        """Work inside other work: what is saved and loaded in the block is under `name`.

        The second time that a scope is entered under the same one it is another, and so on: the same work
        in the same order finds the same scopes.
        """
        around = self._scope
        inner = (*around, name)
        self._entered[inner] += 1
        self._scope = inner if self._entered[inner] == 1 else (*around, f"{name}#{self._entered[inner]}")
        try:
            yield
        finally:
            self._scope = around

    def save(
        self, state: Mapping[str, Json], files: Mapping[str, Content] | None = None, *, forced: bool = False
    ) -> None:
        """Keep `state` and `files` (by plain name: bytes, or a file, which is copied), when that is due.

        `forced` does not wait for the interval. What cannot be written costs the checkpoint and a warning,
        never the job. Raises `TypeError` for a state that is not JSON, `ValueError` for an odd name.
        """
        if self._folder is None or not self._saving or not (forced or self.due()):
            return
        begun = self._clock()
        try:
            path = self._write(self._folder, state, files or {})
        except (OSError, zipfile.BadZipFile) as error:
            self._give_up(f"none could be written ({getattr(error, 'strerror', None) or error})")
            return
        if path is not None:
            size = path.stat().st_size
            self._emit(ChildEvent(type=EventType.CHECKPOINT, data={"file": path.name, "size_bytes": size}))
        ended = self._clock()
        self._next = ended + max(self._interval, _SLOWDOWN * (ended - begun))

    def load(self) -> Saved | None:
        """What the attempt before this one saved last in this scope; None when there is nothing to use."""
        try:
            archive = self._archive()
            part = None if archive is None else archive.parts.get(self._scope)
            return None if archive is None or part is None else self._extract(archive.path, part)
        except _DAMAGED:
            self._last = None
            self._warn("The checkpoint is damaged; this part of the work starts over.")
            return None

    def _archive(self) -> _Archive | None:
        """The last checkpoint: of this attempt, or else of the one before."""
        if self._unread is not None:
            path, self._unread = self._unread, None
            self._last = self._read(path)
        return self._last

    def _read(self, path: Path) -> _Archive | None:
        with zipfile.ZipFile(path) as archive:
            manifest = json.loads(archive.read(_MANIFEST))
        if manifest["identity"] != dict(self._identity()):
            self._warn("The checkpoint is of other work or of another release; the job starts over.")
            return None
        parts = {tuple(part["scope"]): _Part(part["state"], part["files"]) for part in manifest["parts"]}
        return _Archive(path, parts)

    def _extract(self, path: Path, part: _Part) -> Saved:
        self._loaded += 1
        folder = (self._folder or path.parent) / f"loaded-{self._loaded}"
        folder.mkdir(parents=True, exist_ok=True)
        files = {}
        with zipfile.ZipFile(path) as archive:
            for name, member in part.members.items():
                files[_plain(name)] = folder / name
                with archive.open(member) as source, files[name].open("wb") as target:
                    shutil.copyfileobj(source, target)
        return Saved(dict(part.state), files)

    def _write(self, folder: Path, state: Mapping[str, Json], files: Mapping[str, Content]) -> Path | None:
        """The new checkpoint, whole under its name; None when it would be too large."""
        before = self._around()
        parts = {} if before is None else _kept(before.parts, self._scope)
        members = {_plain(name): f"{len(self._scope)}/{name}" for name in files}
        parts[self._scope] = _Part(dict(state), members)
        partial = folder / "partial"
        folder.mkdir(exist_ok=True)
        with zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as archive:
            _add(archive, _MANIFEST, BytesIO(self._manifest(parts)))
            for name, content in files.items():
                with _opened(content) as source:
                    _add(archive, members[name], source)
            _carry_over(archive, before, [part for scope, part in parts.items() if scope != self._scope])
        return self._adopt(partial, parts)

    def _around(self) -> _Archive | None:
        """The last checkpoint, from which what the scopes around have saved is carried over."""
        try:
            return self._archive()
        except _DAMAGED:
            return None

    def _manifest(self, parts: Mapping[Scope, _Part]) -> bytes:
        listed = [
            {"scope": list(scope), "state": part.state, "files": dict(part.members)}
            for scope, part in parts.items()
        ]
        return json.dumps({"identity": dict(self._identity()), "parts": listed}).encode()

    def _adopt(self, partial: Path, parts: dict[Scope, _Part]) -> Path | None:
        """Give the written file its name, and let the one before go."""
        size = partial.stat().st_size
        if self._most_bytes is not None and size > self._most_bytes:
            partial.unlink()
            self._give_up(f"a checkpoint has {size} bytes and may have {self._most_bytes}")
            return None
        self._number += 1
        path = partial.replace(partial.with_name(f"{self._number}.zip"))
        if self._last is not None and self._last.path.parent == path.parent:
            self._last.path.unlink(missing_ok=True)
        self._last = _Archive(path, parts)
        return path

    def _give_up(self, reason: str) -> None:
        """Save no more: the next try would end like this one."""
        self._saving = False
        self._warn(f"The job goes on without checkpoints: {reason}.")

    def _warn(self, message: str) -> None:
        self._emit(ChildEvent(type=EventType.WARNING, data={"message": message}))


def _kept(parts: Mapping[Scope, _Part], scope: Scope) -> dict[Scope, _Part]:
    """What a checkpoint made in `scope` still holds of the one before."""
    around = [scope[:depth] for depth in range(len(scope))]
    return {at: part for at, part in parts.items() if at in around or (at != scope and not part.members)}


def _plain(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not a plain file name")
    return name


def _opened(content: Content) -> IO[bytes]:
    return BytesIO(content) if isinstance(content, bytes) else content.open("rb")


def _add(archive: zipfile.ZipFile, member: str, source: IO[bytes]) -> None:
    """With a fixed time: equal states make equal files."""
    with archive.open(zipfile.ZipInfo(member), "w", force_zip64=True) as target:
        shutil.copyfileobj(source, target, 1 << 20)


def _carry_over(archive: zipfile.ZipFile, before: _Archive | None, parts: Sequence[_Part]) -> None:
    members = [member for part in parts for member in part.members.values()]
    if before is None or not members:
        return
    with zipfile.ZipFile(before.path) as source:
        for member in members:
            with source.open(member) as content:
                _add(archive, member, content)
