"""Members of a zip archive, read by position: no object per file is kept, and any thread may read."""

import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

from api_schemas.archives import ArchiveError, ArchiveLimits, check_archive
from worker.engine.data.byte_files import ByteFile
from worker.engine.errors import InvalidDatasetError, TooLargeError

_NAME_LENGTHS: Final = struct.Struct("<2H")
_NAME_LENGTHS_AT: Final = 26
_LOCAL_SIZE: Final = 30
_RAW_DEFLATE: Final = -15
_CHUNK: Final = 2**20


@final
@dataclass(frozen=True, slots=True)
class Member:
    """Where a member lies, and how large it is; `deflated` or stored."""

    name: str
    header: int
    packed: int
    size: int
    crc: int
    deflated: bool


def read_members(path: Path, logical_bytes: int) -> tuple[Member, ...]:
    """The files in an archive that passed the preflight. Raises `InvalidDatasetError` or `TooLargeError`."""
    try:
        with path.open("rb") as file:
            infos = check_archive(file, ArchiveLimits(unpacked_bytes=logical_bytes))
    except ArchiveError as error:
        raise (TooLargeError if error.too_large else InvalidDatasetError)(str(error)) from None
    except OSError as error:
        raise InvalidDatasetError(f"the dataset cannot be read: {error.strerror}") from None
    return tuple(_member(info) for info in infos if not info.is_dir())


def _member(info: zipfile.ZipInfo) -> Member:
    deflated = info.compress_type != zipfile.ZIP_STORED
    return Member(info.filename, info.header_offset, info.compress_size, info.file_size, info.CRC, deflated)


@final
class Archive:
    """The content of members."""

    def __init__(self, path: Path) -> None:
        self._file = ByteFile.open(path)

    @property
    def file(self) -> ByteFile:
        """The archive itself."""
        return self._file

    def begins(self, member: Member) -> int:
        """Where the bytes of a member begin; its local header was checked with the archive."""
        lengths = self._file.read(_NAME_LENGTHS.size, member.header + _NAME_LENGTHS_AT)
        name, extra = _NAME_LENGTHS.unpack(lengths)
        return member.header + _LOCAL_SIZE + int(name) + int(extra)

    def read(self, member: Member) -> bytes:
        """A whole member, for those that are small."""
        return b"".join(self.chunks(member))

    def chunks(self, member: Member) -> Iterator[bytes]:
        """A member piece by piece. Raises `InvalidDatasetError` when it is damaged or lies about its size."""
        size, check = 0, 0
        for chunk in self._inflated(member) if member.deflated else self._stored(member):
            size, check = size + len(chunk), zlib.crc32(chunk, check)
            if size > member.size:
                break
            yield chunk
        if size != member.size or check != member.crc:
            raise InvalidDatasetError(f"{member.name[:80]!r} in the archive is damaged")

    def _stored(self, member: Member) -> Iterator[bytes]:
        begin = self.begins(member)
        for start in range(0, member.packed, _CHUNK):
            yield self._file.read(min(_CHUNK, member.packed - start), begin + start)

    def _inflated(self, member: Member) -> Iterator[bytes]:
        inflate = zlib.decompressobj(_RAW_DEFLATE)
        try:
            for packed in self._stored(member):
                rest = packed
                while rest and not inflate.eof:
                    yield inflate.decompress(rest, _CHUNK)
                    rest = inflate.unconsumed_tail
            yield inflate.flush()
        except zlib.error:
            raise InvalidDatasetError(f"{member.name[:80]!r} in the archive cannot be unpacked") from None


def named(members: Sequence[Member]) -> dict[str, Member]:
    """Members by name."""
    return {member.name: member for member in members}
