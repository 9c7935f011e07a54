"""Which kind of model a file is, told from its bytes alone and without loading it.

Shared by API, worker and client because the contract says that content decides, never the name.
"""

import struct
import zipfile
from dataclasses import dataclass
from typing import IO

from api_schemas.archives import ArchiveError, ArchiveLimits, check_directory
from api_schemas.models import ModelFormat

_ZIP = b"PK\x03\x04"
_PICKLE = b"\x80"
_LFS = b"version https://git-lfs"
_HEAD = 4096
_MOST_FIELDS = 100_000
#: ModelProto fields 1 (ir_version) … 26; the wire types they may have. Field 7 is the graph.
_ONNX_FIELDS = {1: 0, 2: 2, 3: 2, 4: 2, 5: 0, 6: 2, 7: 2, 8: 2, 14: 2, 20: 2, 25: 2, 26: 2}


@dataclass(frozen=True)
class Sniffed:
    """`format` is None when we do not read such files; `reason` then says what it seems to be.

    `archive_root` names the ONNX file inside a zip with external data.
    """

    format: ModelFormat | None
    reason: str | None = None
    archive_root: str | None = None


def sniff_model(file: IO[bytes]) -> Sniffed:
    """Decide what kind of model a seekable file holds. Reads headers only; never raises on bad content."""
    file.seek(0)
    head = file.read(_HEAD)
    if head.startswith(_ZIP):
        return _sniff_zip(file)
    if not head:
        return Sniffed(None, "the file is empty")
    if head.startswith(_LFS):
        return Sniffed(None, "this is a Git LFS pointer, not the model: fetch the file with `git lfs pull`")
    if head[0:1] == _PICKLE:
        return Sniffed(
            None, "this is a Python pickle; pickles run code and are never opened. Save with torch.jit.save"
        )
    size = file.seek(0, 2)
    if _is_onnx(file, size):
        return Sniffed(ModelFormat.ONNX)
    return Sniffed(
        None, "the content is neither ONNX, nor TorchScript, nor a zip of an ONNX file with its data"
    )


def _sniff_zip(file: IO[bytes]) -> Sniffed:
    try:
        check_directory(file, ArchiveLimits())
        file.seek(0)
        with zipfile.ZipFile(file) as archive:
            names = [name for name in archive.namelist() if not _is_clutter(name)]
    except ArchiveError as error:
        return Sniffed(None, error.reason)
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError, struct.error):
        return Sniffed(None, "the file begins like a zip archive but cannot be read as one")
    return _sniff_members(names)


def _is_clutter(name: str) -> bool:
    """What macOS adds to archives of its own accord."""
    return name.startswith("__MACOSX/") or name.rsplit("/", 1)[-1].startswith("._")


def _sniff_members(names: list[str]) -> Sniffed:
    if any(name.endswith(("models/model.json", "archive_format")) for name in names):
        return Sniffed(ModelFormat.PT2)
    if any(f"/{name}".endswith("/constants.pkl") for name in names):
        return Sniffed(ModelFormat.TORCHSCRIPT)
    if any(f"/{name}".endswith("/data.pkl") for name in names):
        reason = (
            "this is a torch.save checkpoint without code; pickles are never opened. Save with torch.jit.save"
        )
        return Sniffed(None, reason)
    onnx_files = [name for name in names if name.lower().endswith(".onnx")]
    if len(onnx_files) == 1:
        return Sniffed(ModelFormat.ONNX, archive_root=onnx_files[0])
    found = f"{len(onnx_files)} .onnx files" if onnx_files else "no .onnx file"
    return Sniffed(None, f"a zip upload holds exactly one .onnx file and its data; this one has {found}")


def _is_onnx(file: IO[bytes], size: int) -> bool:
    """Walk the top-level protobuf fields: all must be ModelProto's, and a graph must be among them."""
    position, seen = 0, set[int]()
    for _ in range(_MOST_FIELDS):
        if position >= size:
            break
        file.seek(position)
        field = _read_field(file.read(20))
        if field is None:
            return False
        number, wire, header, length = field
        if _ONNX_FIELDS.get(number) != wire:
            return False
        seen.add(number)
        position += header + length
    return 7 in seen and position == size


def _read_field(data: bytes) -> tuple[int, int, int, int] | None:
    """(field number, wire type, header bytes, payload bytes) of the protobuf field at the start of `data`."""
    tag = _varint(data, 0)
    if tag is None:
        return None
    number, wire = tag[0] >> 3, tag[0] & 7
    value = _varint(data, tag[1])
    if value is None or wire not in (0, 2):
        return None
    if wire == 0:
        return number, wire, value[1], 0
    return number, wire, value[1], value[0]


def _varint(data: bytes, start: int) -> tuple[int, int] | None:
    """(value, position after it), or None when `data` ends first."""
    value = 0
    for index in range(start, min(len(data), start + 10)):
        value |= (data[index] & 0x7F) << (7 * (index - start))
        if not data[index] & 0x80:
            return value, index + 1
    return None
