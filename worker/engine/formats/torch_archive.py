"""A TorchScript archive as a file: its tensors by name and place, and how to change their bytes in place.

A changed file differs from the upload in the bytes of the tensors written and their checksums, in nothing
else: code, constants, extra files and the order of the archive stay.
"""

import math
import shutil
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import ml_dtypes
import numpy as np

from worker.engine.errors import InvalidModelError, TooLargeError
from worker.engine.formats.archives import DAMAGE, check_archive, open_archive, payload_start
from worker.engine.formats.base import Array
from worker.engine.formats.torch_pickle import Call, Storage, calls_with_paths, read_pickle

#: Folders of the archive whose members are tensor data and must not be compressed.
_DATA_FOLDERS = ("data", "constants", "tensors")
_MOST_DESCRIPTION = 256 * 2**20
_KINDS: dict[str, type[np.generic] | type[ml_dtypes.bfloat16]] = {
    "torch.FloatStorage": np.float32,
    "torch.DoubleStorage": np.float64,
    "torch.HalfStorage": np.float16,
    "torch.BFloat16Storage": ml_dtypes.bfloat16,
    "torch.LongStorage": np.int64,
    "torch.IntStorage": np.int32,
    "torch.ShortStorage": np.int16,
    "torch.CharStorage": np.int8,
    "torch.ByteStorage": np.uint8,
    "torch.BoolStorage": np.bool_,
    "torch.ComplexFloatStorage": np.complex64,
    "torch.ComplexDoubleStorage": np.complex128,
}
_QUANTISED = {
    "torch.QInt8Storage": 1,
    "torch.QUInt8Storage": 1,
    "torch.QInt32Storage": 4,
    "torch.QUInt4x2Storage": 1,
}
_CENTRAL = struct.Struct("<4s6H3L5H2L")


@dataclass(frozen=True)
class TensorPlace:
    """A tensor in a record of the archive: element offset, shape and strides in elements."""

    record: str
    dtype: np.dtype[np.generic]
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def view(self, record: Array) -> Array:
        """The tensor in the bytes of its record; a view."""
        elements = record[: len(record) // self.dtype.itemsize * self.dtype.itemsize].view(self.dtype)
        steps = [step * self.dtype.itemsize for step in self.strides]
        return np.lib.stride_tricks.as_strided(elements[self.offset :], self.shape, steps)

    @property
    def dense(self) -> bool:
        """True when no two elements share a place, so that writing one changes one."""
        spans = sorted((step, size) for step, size in zip(self.strides, self.shape, strict=True) if size > 1)
        reach = 1
        for step, size in spans:
            if step < reach:
                return False
            reach = step * (size - 1) + reach
        return True


class TorchArchive:
    """The archive at `path`, looked over. Raises `InvalidModelError` or `TooLargeError`."""

    def __init__(self, path: Path, limit: int) -> None:
        self._path, self._limit = path, limit
        with open_archive(path) as archive:
            check_archive(archive, limit, _DATA_FOLDERS)
            self._members = {member.filename: member for member in archive.infolist()}
            self._starts = {name: payload_start(archive, member) for name, member in self._members.items()}
            self.root = _root(self._members)
            if self._short(archive, "byteorder") not in (b"", b"little"):
                raise InvalidModelError("the TorchScript file was saved on a big-endian machine")
            #: True when weights lie packed inside quantised operators, where nobody can reach them.
            self.packed = False
            #: Tensors by attribute path; those of constants.pkl under "CONSTANTS.c<number>".
            self.tensors = dict(self._described(archive, limit))

    @property
    def mobile(self) -> bool:
        """True when the archive also holds bytecode, for mobile devices."""
        return f"{self.root}bytecode.pkl" in self._members

    @property
    def extra_files(self) -> list[str]:
        """Names of the files that travel with the model."""
        folder = f"{self.root}extra/"
        return [name.removeprefix(folder) for name in self._members if name.startswith(folder)]

    def _short(self, archive: zipfile.ZipFile, name: str) -> bytes:
        member = self._members.get(self.root + name)
        if member is None:
            return b""
        if member.file_size > _MOST_DESCRIPTION:
            raise TooLargeError(f"{name} of the TorchScript file is too large")
        try:
            return archive.read(member).strip() if name == "byteorder" else archive.read(member)
        except DAMAGE:
            raise InvalidModelError("the TorchScript file is damaged: a checksum does not fit") from None

    def _described(self, archive: zipfile.ZipFile, limit: int) -> Iterator[tuple[str, TensorPlace]]:
        total = 0
        for name, folder in (("data.pkl", "data"), ("constants.pkl", "constants")):
            description = self._short(archive, name)
            self.packed |= b"PackedParams" in description
            for path, call in calls_with_paths(read_pickle(description)) if description else ():
                size, place = self._place(call, folder)
                total += size
                if total > limit:
                    raise TooLargeError(f"the model's tensors take over {limit} bytes when loaded")
                if place is not None:
                    yield (f"CONSTANTS.c{path}" if folder == "constants" else path), place

    def _place(self, call: Call, folder: str) -> tuple[int, TensorPlace | None]:
        """Logical bytes of the tensor that a call makes, and its place where it is a plain one."""
        if not call.function.startswith("torch._utils._rebuild"):
            return 0, None
        storage, offset, shape, strides = _arguments(call)
        kind = _KINDS.get(storage.kind)
        width = np.dtype(kind).itemsize if kind is not None else _QUANTISED.get(storage.kind, 8)
        size = math.prod(shape) * width
        if kind is None or call.function != "torch._utils._rebuild_tensor_v2":
            return size, None
        record = self._record(storage.key, folder)
        if record is None:
            return size, None
        place = TensorPlace(record, np.dtype(kind), offset, shape, strides)
        last = offset + sum(step * (n - 1) for step, n in zip(strides, shape, strict=True))
        held = self._members[record].file_size
        if storage.count * width > held or (size and (last + 1) * width > held):
            raise InvalidModelError("a tensor of the TorchScript file reaches outside its data")
        return size, place

    def _record(self, key: str, folder: str) -> str | None:
        """The member that holds a storage; older and mobile archives name it differently."""
        names = (f"{self.root}{folder}/{key}", f"{self.root}{key}", f"{self.root}constants/{key}")
        return next((name for name in names if name in self._members), None)

    def record(self, name: str) -> Array:
        """The bytes of a record, mapped read-only from the file."""
        size = self._members[name].file_size
        if not size:
            return np.empty(0, np.uint8)
        return np.memmap(self._path, np.uint8, "r", self._starts[name], (size,))

    def save(self, path: Path, records: Iterable[tuple[str, Array]]) -> None:
        """Write the archive to `path` with the bytes of some records replaced, as many as there were."""
        shutil.copyfile(self._path, path)
        with path.open("r+b") as file:
            checksums = {name: self._replace(file, name, data) for name, data in records}
            if checksums:
                self._patch_directory(file, checksums)

    def marked(self, path: Path) -> "TorchArchive":
        """A copy at `path` in which every floating tensor has elements of its own, whatever the weights are.

        The graph of that copy is the graph of this archive, but no two tensors can be mistaken for another:
        an exporter merges equal ones, and pruning makes weights equal that were not.
        """
        floating = {p.record: p.dtype for p in self.tensors.values() if _is_floating(p.dtype)}
        self.save(path, ((name, self._mark(name, floating[name])) for name in sorted(floating)))
        return TorchArchive(path, self._limit)

    def _mark(self, name: str, dtype: np.dtype[np.generic]) -> Array:
        """Small positive numbers that depend on the record's name alone: a variance may be among them."""
        size = self._members[name].file_size
        generator = np.random.default_rng(zlib.crc32(name.removeprefix(self.root).encode()))
        elements = generator.uniform(0.01, 0.02, size // dtype.itemsize).astype(dtype)
        return np.concatenate([elements.view(np.uint8), np.zeros(size % dtype.itemsize, np.uint8)])

    def _replace(self, file: IO[bytes], name: str, data: Array) -> int:
        member, start, payload = self._members[name], self._starts[name], data.tobytes()
        if len(payload) != member.file_size:
            raise ValueError(f"{name} holds {member.file_size} bytes, not {len(payload)}")
        checksum = zlib.crc32(payload)
        file.seek(start)
        file.write(payload)
        if member.flag_bits & 0x8:
            marked = file.read(4) == b"PK\x07\x08"
            file.seek(start + len(payload) + (4 if marked else 0))
        else:
            file.seek(member.header_offset + 14)
        file.write(struct.pack("<L", checksum))
        return checksum

    def _patch_directory(self, file: IO[bytes], checksums: Mapping[str, int]) -> None:
        """Put new checksums into the central directory."""
        with zipfile.ZipFile(self._path) as archive:
            position = archive.start_dir
        for name in self._members:
            file.seek(position)
            entry = _CENTRAL.unpack(file.read(_CENTRAL.size))
            if name in checksums:
                file.seek(position + 16)
                file.write(struct.pack("<L", checksums[name]))
            position += _CENTRAL.size + entry[10] + entry[11] + entry[12]


def _is_floating(dtype: np.dtype[np.generic]) -> bool:
    return dtype.kind == "f" or dtype == ml_dtypes.bfloat16


def _root(members: Mapping[str, zipfile.ZipInfo]) -> str:
    """The folder, with its slash, in which all of the archive lies."""
    for name in members:
        if name.endswith("/data.pkl") and name.count("/") == 1:
            return name[: -len("data.pkl")]
    raise InvalidModelError("the TorchScript file lacks the description of its tensors (data.pkl)")


def _arguments(call: Call) -> tuple[Storage, int, tuple[int, ...], tuple[int, ...]]:
    """Storage, offset, shape and strides of a rebuilt tensor; a sparse one counts by its dense shape."""
    if call.function == "torch._utils._rebuild_sparse_tensor":
        shape = next((a[-1] for a in call.arguments if isinstance(a, tuple) and a), ())
        return Storage("sparse", "", 0), 0, _sizes(shape), ()
    if len(call.arguments) < 4 or not isinstance(call.arguments[0], Storage):
        raise InvalidModelError("the TorchScript file describes a tensor in a way that is not known")
    storage, offset, shape, strides = call.arguments[:4]
    shape, strides = _sizes(shape), _sizes(strides)
    if not isinstance(offset, int) or offset < 0 or len(shape) != len(strides):
        raise InvalidModelError("the TorchScript file describes a tensor that cannot be")
    return storage, offset, shape, strides


def _sizes(value: object) -> tuple[int, ...]:
    if not isinstance(value, tuple) or not all(isinstance(size, int) and size >= 0 for size in value):
        raise InvalidModelError("the TorchScript file describes a tensor that cannot be")
    return value
