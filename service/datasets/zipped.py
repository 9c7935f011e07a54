"""Headers of zipped data, read without numpy: only plain numeric arrays pass, no object is ever unpickled."""

import ast
import math
import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from api_schemas.archives import ArchiveError, ArchiveLimits, check_archive
from api_schemas.datasets import ArrayInfo, DatasetFormat
from api_schemas.images import has_images
from service.datasets.arrays import DAMAGE, MOST_ARRAYS, bad_dataset, not_a_dataset
from service.datasets.images import read_images
from service.datasets.labels import with_range
from service.errors import PickledDataError, TooLargeError

_SUFFIX = ".npy"
_MAGIC = b"\x93NUMPY"
_LONGEST_HEADER = 64 * 2**10
_DTYPE = re.compile(r"[<>|=]?([biuf])(\d{1,2})")
_KINDS = {"i": "int", "u": "uint", "f": "float"}
_SIZES = {"b": (1,), "i": (1, 2, 4, 8), "u": (1, 2, 4, 8), "f": (2, 4, 8)}


def read_zip(path: Path, max_unpacked_bytes: int) -> tuple[DatasetFormat, list[ArrayInfo]]:
    """The arrays of an .npz file, or of a zip of images. Refuses bombs and whatever makes no dataset."""
    with path.open("rb") as file:
        try:
            members = check_archive(file, ArchiveLimits(unpacked_bytes=max_unpacked_bytes))
        except ArchiveError as error:
            if error.too_large:
                raise TooLargeError(f"{error.reason}.") from error
            not_a_dataset(error.reason)
        names = [member.filename for member in members]
        with zipfile.ZipFile(file) as archive:
            if has_images(names) and not any(name.endswith(_SUFFIX) for name in names):
                return DatasetFormat.IMAGES, read_images(archive, members)
            return DatasetFormat.NPZ, _arrays(archive, members)


def _arrays(archive: zipfile.ZipFile, members: Sequence[zipfile.ZipInfo]) -> list[ArrayInfo]:
    """The arrays of an .npz file. Refuses objects, structures and arrays that are cut short."""
    if len(members) > MOST_ARRAYS:
        raise TooLargeError(f"the archive has more than {MOST_ARRAYS:,} members.")
    return [_member_array(archive, member) for member in members]


def _member_array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> ArrayInfo:
    if not member.filename.endswith(_SUFFIX):
        not_a_dataset(f"the archive's member {member.filename[:100]!r} is not an .npy array, nor an image")
    name = member.filename.removesuffix(_SUFFIX)
    try:
        with archive.open(member) as stream:
            offset, header = _read_header(stream)
            dtype, item_size = _dtype(name, header.get("descr"))
            shape = _shape(name, header.get("shape"))
            if offset + math.prod(shape) * item_size != member.file_size:
                bad_dataset(f"the array {name[:100]!r} is not as long as its header says")
            found = ArrayInfo(name=name, dtype=dtype, shape=shape)
            return with_range(found, stream, big_endian=str(header["descr"]).startswith(">"))
    except DAMAGE:
        not_a_dataset(f"the array {name[:100]!r} is damaged")


def _read_header(stream: IO[bytes]) -> tuple[int, Mapping[str, object]]:
    """(bytes before the data, the header's fields) of one .npy stream."""
    start = stream.read(8)
    if len(start) < 8 or not start.startswith(_MAGIC) or start[6] not in (1, 2, 3):
        not_a_dataset("a member has not the header of an .npy array")
    width = 2 if start[6] == 1 else 4
    length = int.from_bytes(stream.read(width), "little")
    if length > _LONGEST_HEADER:
        not_a_dataset("an array's header is too long")
    text = stream.read(length).decode("utf-8" if start[6] == 3 else "latin-1", "replace")
    try:
        header = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        not_a_dataset("an array's header cannot be read")
    if not isinstance(header, dict):
        not_a_dataset("an array's header cannot be read")
    return 8 + width + length, header


def _dtype(name: str, descr: object) -> tuple[str, int]:
    if isinstance(descr, str) and descr.endswith("O"):
        raise PickledDataError(
            f"The array {name[:100]!r} holds Python objects; they are never unpickled.",
            hint="Save plain numbers: np.savez(…, x=np.asarray(x, np.float32)).",
        )
    match = _DTYPE.fullmatch(descr) if isinstance(descr, str) else None
    if match is None or int(match[2]) not in _SIZES[match[1]]:
        shown = repr(descr)[:60]
        bad_dataset(f"the array {name[:100]!r} has the type {shown}; only booleans, integers and floats pass")
    size = int(match[2])
    return ("bool" if match[1] == "b" else f"{_KINDS[match[1]]}{size * 8}"), size


def _shape(name: str, shape: object) -> list[int]:
    if not isinstance(shape, tuple) or not all(type(size) is int and size >= 0 for size in shape):
        bad_dataset(f"the array {name[:100]!r} has no usable shape")
    return list(shape)
