"""Reads .npz: headers first, nothing unpickled, stored members mapped instead of read."""

import struct
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

from api_schemas.archives import ArchiveError, ArchiveLimits, check_archive
from worker.engine.data.columns import Column, column
from worker.engine.errors import NeedsDatasetError, TooLargeError
from worker.engine.types import Array

_LOCAL_NAME = struct.Struct("<2H")
_LOCAL_NAME_AT, _LOCAL_SIZE = 26, 30


def read_npz(path: Path, logical_bytes: int) -> tuple[Column, ...]:
    """The arrays of an .npz file. Raises `NeedsDatasetError`, or `TooLargeError` before unpacking a bomb."""
    try:
        with path.open("rb") as file:
            members = check_archive(file, ArchiveLimits(unpacked_bytes=logical_bytes))
            return tuple(_member_column(path, file, member) for member in members)
    except ArchiveError as error:
        raise (TooLargeError if error.too_large else NeedsDatasetError)(str(error)) from None
    except (zipfile.BadZipFile, zlib.error, ValueError, EOFError, OSError) as error:
        raise NeedsDatasetError(f"the .npz file cannot be read: {str(error)[:200]}") from None


def _member_column(path: Path, file: IO[bytes], member: zipfile.ZipInfo) -> Column:
    name = member.filename.removesuffix(".npy")
    if name == member.filename:
        raise NeedsDatasetError(f"{name[:80]!r} in the .npz file is no array")
    with zipfile.ZipFile(file) as archive, archive.open(member) as stream:
        shape, fortran, dtype = _header(stream)
        skip = stream.tell()
    if dtype.hasobject:
        raise NeedsDatasetError(f"array {name[:80]!r} holds Python objects, which are never unpickled")
    size = int(np.prod(shape, dtype=object)) * dtype.itemsize
    if skip + size != member.file_size:
        raise NeedsDatasetError(f"array {name[:80]!r} is shorter or longer than its header says")
    if member.compress_type != zipfile.ZIP_STORED or size == 0:
        return column(name, dtype, shape, lambda: _unpack(path, member.filename))
    start = _payload(file, member) + skip
    return column(name, dtype, shape, lambda: _mapped(path, dtype, shape, start, fortran=fortran))


def _mapped(path: Path, dtype: np.dtype[Any], shape: tuple[int, ...], start: int, *, fortran: bool) -> Array:
    return np.memmap(path, dtype, "r", start, shape, "F" if fortran else "C")


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """(shape, Fortran order, dtype). Raises ValueError, also for headers that only structures need."""
    version = npy.read_magic(stream)
    if version == (1, 0):
        return npy.read_array_header_1_0(stream)
    if version == (2, 0):
        return npy.read_array_header_2_0(stream)
    raise ValueError(f"array headers of version {version} are not read")


def _payload(file: IO[bytes], member: zipfile.ZipInfo) -> int:
    """Where the bytes of a stored member begin; its local header was checked with the archive."""
    file.seek(member.header_offset + _LOCAL_NAME_AT)
    name, extra = _LOCAL_NAME.unpack(file.read(_LOCAL_NAME.size))
    return int(member.header_offset + _LOCAL_SIZE + name + extra)


def _unpack(path: Path, member: str) -> Array:
    try:
        with zipfile.ZipFile(path) as archive, archive.open(member) as stream:
            return np.asarray(npy.read_array(stream, allow_pickle=False))
    except (zipfile.BadZipFile, zlib.error, ValueError, EOFError, OSError) as error:
        raise NeedsDatasetError(f"{member[:80]!r} cannot be unpacked: {str(error)[:200]}") from None
