"""Preflight of zip archives: everything that can be checked before anybody unpacks a byte.

An archive that lies about itself, or that would unpack to far more than it holds, is refused here, so
readers behind it may trust names and sizes.
"""

import stat
import struct
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, final

_END = struct.Struct("<4s4H2LH")
_END_SIGNATURE = b"PK\x05\x06"
_LOCATOR = struct.Struct("<4sLQL")
_LOCATOR_SIGNATURE = b"PK\x06\x07"
_END64 = struct.Struct("<4sQ2H2L4Q")
_END64_SIGNATURE = b"PK\x06\x06"
_LOCAL = struct.Struct("<4s5H3L2H")
_LOCAL_SIGNATURE = b"PK\x03\x04"
_LONGEST_COMMENT = 65535
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
#: Members that unpack to less than this may have any ratio: a page of zeros is no bomb.
_SMALL = 2**20


@final
class ArchiveError(ValueError):
    """The archive cannot be trusted; `too_large` when size alone is what is wrong with it."""

    def __init__(self, reason: str, *, too_large: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.too_large = too_large


@final
@dataclass(frozen=True)
class ArchiveLimits:
    """What an archive may hold; sizes in bytes, `ratio` is unpacked over packed per member."""

    members: int = 100_000
    unpacked_bytes: int = 64 * 2**30
    ratio: int = 200
    directory_bytes: int = 32 * 2**20


def check_archive(file: IO[bytes], limits: ArchiveLimits | None = None) -> tuple[zipfile.ZipInfo, ...]:
    """The members of a seekable zip file. Raises `ArchiveError` for whatever makes it unsafe to unpack."""
    limits = limits or ArchiveLimits()
    check_directory(file, limits)
    try:
        with zipfile.ZipFile(file) as archive:
            members = tuple(archive.infolist())
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError, struct.error) as error:
        raise ArchiveError("the file begins like a zip archive but cannot be read as one") from error
    _check_names(members)
    for member in members:
        _check_member(member, limits)
    if sum(member.file_size for member in members) > limits.unpacked_bytes:
        raise ArchiveError("the archive unpacks to more than the limit", too_large=True)
    _check_layout(file, members)
    return members


def check_directory(file: IO[bytes], limits: ArchiveLimits) -> None:
    """Refuse a central directory that is itself a bomb, before `zipfile` builds an object per entry."""
    entries, size = _directory_claims(file)
    if entries > limits.members:
        raise ArchiveError(f"the archive has more than {limits.members:,} members", too_large=True)
    if size > limits.directory_bytes:
        raise ArchiveError("the archive's directory is too large", too_large=True)


def _directory_claims(file: IO[bytes]) -> tuple[int, int]:
    """(entries, bytes) that the end record claims for the central directory; zipfile trusts the bytes."""
    length = file.seek(0, 2)
    start = max(0, length - _END.size - _LONGEST_COMMENT)
    file.seek(start)
    tail = file.read()
    at = tail.rfind(_END_SIGNATURE)
    if at < 0 or len(tail) - at < _END.size:
        raise ArchiveError("the file begins like a zip archive but has no end record: it was cut short")
    end = _END.unpack_from(tail, at)
    entries, size = end[4], end[5]
    locator = _read_struct(file, _LOCATOR, start + at - _LOCATOR.size)
    if locator is not None and locator[0] == _LOCATOR_SIGNATURE:
        end64 = _read_struct(file, _END64, start + at - _LOCATOR.size - _END64.size)
        if end64 is not None and end64[0] == _END64_SIGNATURE:
            entries, size = max(entries if entries != 0xFFFF else 0, end64[7]), end64[8]
    # Each entry takes 46 bytes at least, so a lie about the count shows in the size.
    return max(entries, 0), size


def _read_struct(file: IO[bytes], layout: struct.Struct, position: int) -> tuple[bytes | int, ...] | None:
    if position < 0:
        return None
    file.seek(position)
    data = file.read(layout.size)
    return layout.unpack(data) if len(data) == layout.size else None


def _check_names(members: Sequence[zipfile.ZipInfo]) -> None:
    seen = set[str]()
    for member in members:
        if not is_safe_name(member.filename) or "\0" in member.orig_filename:
            raise ArchiveError(f"the archive has a member with an unsafe name: {member.filename[:100]!r}")
        if member.filename in seen:
            raise ArchiveError(f"the archive has two members named {member.filename[:100]!r}")
        seen.add(member.filename)


def is_safe_name(name: str) -> bool:
    """True for a relative path of plain parts: no `..`, root, drive, backslash or control character."""
    if not name or len(name) > 1024 or "\\" in name or _on_a_drive(name):
        return False
    if any(ord(character) < 32 or ord(character) == 127 for character in name):
        return False
    parts = name.removesuffix("/").split("/")
    return all(part not in ("", ".", "..") for part in parts)


def _on_a_drive(name: str) -> bool:
    """Arrays go by the names of a model's inputs, such as `x:0`, and never become files of their own."""
    return ":" in name.split("/")[0] and not name.endswith(".npy")


def _check_member(member: zipfile.ZipInfo, limits: ArchiveLimits) -> None:
    shown = repr(member.filename[:100])
    mode = member.external_attr >> 16
    if mode and not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_IFMT(mode) == 0):
        raise ArchiveError(f"the archive's member {shown} is a link or a special file")
    if member.flag_bits & 0x1:
        raise ArchiveError(f"the archive's member {shown} is encrypted")
    if member.compress_type not in _METHODS:
        raise ArchiveError(f"the archive's member {shown} is neither stored nor deflated")
    if member.file_size > _SMALL and member.file_size > limits.ratio * member.compress_size:
        raise ArchiveError(f"the archive's member {shown} unpacks to over {limits.ratio} times its size")
    if member.compress_type == zipfile.ZIP_STORED and member.file_size != member.compress_size:
        raise ArchiveError(f"the archive's member {shown} lies about its size")


def _check_layout(file: IO[bytes], members: Sequence[zipfile.ZipInfo]) -> None:
    """Local headers must agree with the directory, and no two members may share bytes."""
    length = file.seek(0, 2)
    free_from = 0
    for member in sorted(members, key=lambda member: member.header_offset):
        end = _local_end(file, member)
        if member.header_offset < free_from or end > length:
            raise ArchiveError("the archive's members overlap or reach past its end")
        free_from = end


def _local_end(file: IO[bytes], member: zipfile.ZipInfo) -> int:
    """Where the member's data ends. Raises `ArchiveError` when its local header names something else."""
    header = _read_struct(file, _LOCAL, member.header_offset)
    if header is None or header[0] != _LOCAL_SIGNATURE:
        raise ArchiveError("the archive's directory points at something that is no member")
    method, name_length, extra_length = int(header[3]), int(header[9]), int(header[10])
    name = file.read(name_length)
    encoding = "utf-8" if int(header[2]) & 0x800 else "cp437"
    if name.decode(encoding, "replace") != member.orig_filename or method != member.compress_type:
        raise ArchiveError("the archive's directory and its members disagree")
    return member.header_offset + _LOCAL.size + name_length + extra_length + member.compress_size
