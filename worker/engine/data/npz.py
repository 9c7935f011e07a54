"""Reads .npz: headers first, nothing unpickled; stored members are read in place, others unpacked once."""

import io
import tokenize
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
from numpy.lib import format as npy

from worker.engine.data.columns import Column, column
from worker.engine.data.members import Archive, Member, read_members
from worker.engine.data.sources import Deferred, Source, Stored, by_columns, held_when_small, spool
from worker.engine.errors import InvalidDatasetError, PickledDataError

_SUFFIX: Final = ".npy"
_LONGEST_HEADER: Final = 64 * 2**10


def read_npz(path: Path, logical_bytes: int) -> tuple[Column, ...]:
    """The arrays of an .npz file. Raises `NeedsDatasetError`, or `TooLargeError` before unpacking a bomb."""
    return npz_columns(path, read_members(path, logical_bytes))


def npz_columns(path: Path, members: Sequence[Member]) -> tuple[Column, ...]:
    """The arrays of an archive whose members are known."""
    archive = Archive(path)
    return tuple(_member_column(archive, member) for member in members)


def _member_column(archive: Archive, member: Member) -> Column:
    name = member.name.removesuffix(_SUFFIX)
    if name == member.name:
        raise InvalidDatasetError(f"{name[:80]!r} in the .npz file is no array")
    (shape, fortran, dtype), skip = _header(archive, member)
    if dtype.hasobject:
        raise PickledDataError(f"array {name[:80]!r} holds Python objects, which are never unpickled")
    size = int(np.prod(shape, dtype=object)) * dtype.itemsize
    if skip + size != member.size:
        raise InvalidDatasetError(f"array {name[:80]!r} is shorter or longer than its header says")
    source = _source(archive, member, dtype, shape, skip, fortran=fortran and len(shape) > 1)
    return column(name, dtype, shape, held_when_small(source, size))


def _source(
    archive: Archive,
    member: Member,
    dtype: np.dtype[Any],
    shape: tuple[int, ...],
    skip: int,
    *,
    fortran: bool,
) -> Source:
    if not member.deflated:
        begin = archive.begins(member) + skip
        if not fortran:
            return Stored(archive.file, dtype, shape or (1,), begin)
        return Deferred(lambda: by_columns(archive.file, dtype, shape, begin))
    if not fortran:
        return Deferred(lambda: spool(_payload(archive, member, skip), dtype, shape))
    return Deferred(lambda: _unpacked_by_columns(archive, member, dtype, shape, skip))


def _unpacked_by_columns(
    archive: Archive, member: Member, dtype: np.dtype[Any], shape: tuple[int, ...], skip: int
) -> Source:
    flat = spool(_payload(archive, member, skip), dtype, (int(np.prod(shape, dtype=object)),))
    return by_columns(flat.file, dtype, shape)


def _payload(archive: Archive, member: Member, skip: int) -> Iterator[bytes]:
    """The bytes of the array, after its header."""
    for chunk in archive.chunks(member):
        yield chunk[skip:]
        skip = max(0, skip - len(chunk))


def _header(archive: Archive, member: Member) -> tuple[tuple[tuple[int, ...], bool, np.dtype[Any]], int]:
    """((shape, Fortran order, dtype), bytes before the data)."""
    head = io.BytesIO(next(archive.chunks(member), b"")[:_LONGEST_HEADER])
    try:
        return _parsed(head), head.tell()
    except (ValueError, EOFError, SyntaxError, RecursionError, tokenize.TokenError) as error:
        raise InvalidDatasetError(f"{member.name[:80]!r} cannot be read: {str(error)[:200]}") from None


def _parsed(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Raises ValueError, also for headers that only structures need."""
    version = npy.read_magic(stream)
    if version == (1, 0):
        return npy.read_array_header_1_0(stream)
    if version == (2, 0):
        return npy.read_array_header_2_0(stream)
    raise ValueError(f"array headers of version {version} are not read")
