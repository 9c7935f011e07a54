"""Files on their way to the server: read in pieces, counted and hashed as they go, never held in memory."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Self, final

from client.errors import LocalFileError

CHUNK = 1 << 20
OnBytes = Callable[[int, int], None]


@final
@dataclass(frozen=True)
class ModelFiles:
    """A model file and its external data, each with the name under which it is referred to."""

    main: Path
    external: tuple[tuple[str, Path], ...] = ()


def model_files(path: str | Path, external_data: Sequence[str | Path] = ()) -> ModelFiles:
    """The files of an upload. A directory stands for its one ``.onnx`` file and everything beside it.

    Raises `LocalFileError` when a file is missing or a directory does not hold exactly one ONNX file.
    """
    path = Path(path)
    extra = tuple((Path(name).name, readable(Path(name))) for name in external_data)
    if not path.is_dir():
        return ModelFiles(readable(path), extra)
    roots = sorted(path.glob("*.onnx"))
    if len(roots) != 1:
        raise LocalFileError(
            f"{path} holds {len(roots)} .onnx files where one is needed",
            hint="name the file itself, and its data files with external_data",
        )
    beside = sorted(file for file in path.iterdir() if not file.name.startswith(".") and file != roots[0])
    if any(file.is_dir() for file in beside):
        raise LocalFileError(
            f"{path} holds directories, and names in an upload have no path",
            hint="upload a zip of it: a zip keeps its directories",
        )
    return ModelFiles(readable(roots[0]), tuple((file.name, readable(file)) for file in beside) + extra)


def readable(path: Path) -> Path:
    """`path`, when it is a file that can be opened. Raises `LocalFileError`."""
    try:
        with path.open("rb"):
            return path
    except OSError as error:
        raise LocalFileError(f"cannot read {path}: {error.strerror or error}") from error


@final
@dataclass(frozen=True)
class Upload:
    """A request body made of files.

    `raw` is the whole body, or else `parts` (part name, file name, path) go as multipart after `fields`.
    The file is opened anew for each attempt, so a retry sends it from its start.
    """

    raw: Path | None = None
    parts: tuple[tuple[str, str, Path], ...] = ()
    fields: Mapping[str, str] = field(default_factory=dict)
    on_bytes: OnBytes | None = None

    @property
    def total(self) -> int:
        """Bytes of all files together."""
        paths = [self.raw] if self.raw else [path for _, _, path in self.parts]
        return sum(path.stat().st_size for path in paths)


@final
class Meter:
    """Adds up what was sent over all files of one attempt, and the sha256 of it."""

    def __init__(self, total: int, on_bytes: OnBytes | None) -> None:
        self.done = 0
        self._total = total
        self._on_bytes = on_bytes
        self._hash = hashlib.sha256()

    def add(self, data: bytes) -> None:
        """Note that `data` is on its way."""
        self.done += len(data)
        self._hash.update(data)
        if self._on_bytes:
            self._on_bytes(self.done, self._total)

    @property
    def sha256(self) -> str:
        """Digest of everything so far, in hexadecimal."""
        return self._hash.hexdigest()


@final
class MeteredFile:
    """A file that tells a meter what is read from it. Seekable, so that its length can be found."""

    def __init__(self, path: Path, meter: Meter) -> None:
        self._file: IO[bytes] = path.open("rb")
        self._meter = meter

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes."""
        data = self._file.read(size)
        self._meter.add(data)
        return data

    def fileno(self) -> int:
        """The descriptor; HTTP libraries take the length from it."""
        return self._file.fileno()

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move, as files do."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Position."""
        return self._file.tell()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
