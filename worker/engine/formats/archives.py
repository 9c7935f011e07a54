"""Zip archives of strangers: looked over before anything reads them, extracted without surprises (S4)."""

import shutil
import stat
import struct
import zipfile
import zlib
from collections.abc import Collection, Mapping
from pathlib import Path, PurePosixPath

from worker.engine.errors import InvalidModelError, TooLargeError

_LOCAL = struct.Struct("<4s5H3L2H")
_DESCRIPTOR_FLAG, _ENCRYPTED_FLAG = 0x8, 0x1
_MOST_MEMBERS = 65_535
_MOST_RATIO = 200
_CHUNK = 1 << 20
#: What zipfile raises on members that are damaged or of a kind it does not know.
DAMAGE = (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, RuntimeError)
_READABLE = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}


def open_archive(path: Path) -> zipfile.ZipFile:
    """Open for reading. Raises `InvalidModelError` when it is no whole zip archive."""
    try:
        return zipfile.ZipFile(path)
    except DAMAGE as error:
        raise InvalidModelError(f"the zip archive cannot be read: {str(error)[:200]}") from None


def check_archive(archive: zipfile.ZipFile, limit: int, stored: Collection[str] | None = None) -> None:
    """Refuse an archive that lies, overlaps itself, points outside, or would grow over `limit` bytes.

    Members whose last folder is named in `stored` must not be compressed.
    """
    members = archive.infolist()
    if len(members) > _MOST_MEMBERS:
        raise InvalidModelError(f"the archive has {len(members)} members; at most {_MOST_MEMBERS} are read")
    if len({member.filename for member in members}) != len(members):
        raise InvalidModelError("the archive holds two files of one name")
    if sum(member.file_size for member in members) > limit:
        raise TooLargeError(f"the archive grows to over {limit} bytes when unpacked")
    for member in members:
        _check_member(member, stored or ())
    _check_layout(archive, members)


def _check_member(member: zipfile.ZipInfo, stored: Collection[str]) -> None:
    name, path = member.filename, PurePosixPath(member.filename)
    if path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in member.orig_filename or not name:
        raise InvalidModelError(f"the archive holds a file with a path that is not allowed: {name[:80]!r}")
    if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise InvalidModelError(f"the archive holds something that is no plain file: {name[:80]!r}")
    if member.flag_bits & _ENCRYPTED_FLAG or member.compress_type not in _READABLE:
        raise InvalidModelError(f"the archive holds an encrypted or oddly compressed file: {name[:80]!r}")
    if member.compress_type == zipfile.ZIP_STORED:
        if member.compress_size != member.file_size:
            raise InvalidModelError(f"the archive lies about the size of {name[:80]!r}")
    elif path.parent.name in stored:
        raise InvalidModelError(f"tensor data must be stored uncompressed: {name[:80]!r}")
    elif member.file_size > _CHUNK and member.file_size > _MOST_RATIO * max(member.compress_size, 1):
        raise InvalidModelError(f"{name[:80]!r} grows more than {_MOST_RATIO}-fold when unpacked")


def _check_layout(archive: zipfile.ZipFile, members: list[zipfile.ZipInfo]) -> None:
    """Local headers must agree with the directory, and no two members may share bytes."""
    end = 0
    for member in sorted(members, key=lambda m: m.header_offset):
        start = payload_start(archive, member)
        if member.header_offset < end:
            raise InvalidModelError(f"files of the archive overlap at {member.filename[:80]!r}")
        end = start + member.compress_size
    if end > archive.start_dir:
        raise InvalidModelError("files of the archive reach into its directory")


def payload_start(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> int:
    """Where a member's bytes begin. Raises `InvalidModelError` when its local header lies."""
    file = archive.fp
    if file is None:
        raise ValueError("the archive is closed")
    if member.header_offset < 0:
        raise InvalidModelError(f"the archive is broken at {member.filename[:80]!r}")
    file.seek(member.header_offset)
    head = file.read(_LOCAL.size)
    if len(head) != _LOCAL.size or not head.startswith(b"PK\x03\x04"):
        raise InvalidModelError(f"the archive is broken at {member.filename[:80]!r}")
    _, _, flags, method, _, _, _, packed, size, name_length, extra_length = _LOCAL.unpack(head)
    name = file.read(name_length)
    sizes_known = not flags & _DESCRIPTOR_FLAG and 0xFFFFFFFF not in (packed, size)
    if (
        method != member.compress_type
        or name != _encoded_name(member)
        or (sizes_known and (packed, size) != (member.compress_size, member.file_size))
    ):
        raise InvalidModelError(f"the archive's directory contradicts the header of {member.filename[:80]!r}")
    return int(member.header_offset + _LOCAL.size + name_length + extra_length)


def _encoded_name(member: zipfile.ZipInfo) -> bytes:
    return member.orig_filename.encode("utf-8" if member.flag_bits & 0x800 else "cp437")


def extract(archive: zipfile.ZipFile, into: Path) -> None:
    """Write the plain files of a checked archive under `into`, never more bytes than the directory says."""
    for member in archive.infolist():
        target = into / member.filename
        if member.is_dir():
            target.mkdir(parents=True, exist_ok=True)
            continue
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            _extract_member(archive, member, target)
        except DAMAGE as error:
            raise InvalidModelError(
                f"{member.filename[:80]!r} cannot be unpacked: {str(error)[:200]}"
            ) from None


def _extract_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path) -> None:
    left = member.file_size
    with archive.open(member) as source, target.open("xb") as sink:
        while chunk := source.read(_CHUNK):
            left -= len(chunk)
            if left < 0:
                raise InvalidModelError(f"the archive lies about the size of {member.filename[:80]!r}")
            sink.write(chunk)
    if left:
        raise InvalidModelError(f"{member.filename[:80]!r} is shorter than the archive says")


def pack(path: Path, members: Mapping[str, Path]) -> None:
    """Write files under their names into an uncompressed zip, the same bytes for the same files."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, file in members.items():
            info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            info.external_attr = (stat.S_IFREG | 0o644) << 16
            info.create_system = 3
            info.file_size = file.stat().st_size
            with file.open("rb") as source, archive.open(info, "w") as sink:
                shutil.copyfileobj(source, sink, _CHUNK)
