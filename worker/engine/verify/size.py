"""Size of a file as it is, and as a download or a disk that compresses would have it."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import final

import zstandard

ZSTD_LEVEL = 3
_CHUNK = 1 << 20


@final
@dataclass(frozen=True)
class FileSize:
    """Bytes, bytes after zstd at `ZSTD_LEVEL`, and the digest, all of the same single read."""

    size_bytes: int
    compressed_bytes: int
    sha256: str


def measure_size(path: Path) -> FileSize:
    """Read a file once, in pieces: the same figures for the same bytes on any machine. Raises OSError."""
    digest, size, compressed = hashlib.sha256(), 0, 0
    # One thread: zstd splits its work, and with it the result, by the number of threads.
    compressor = zstandard.ZstdCompressor(level=ZSTD_LEVEL).compressobj()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
            compressed += len(compressor.compress(chunk))
    return FileSize(size, compressed + len(compressor.flush()), digest.hexdigest())
