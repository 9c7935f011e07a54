"""A file read by position. Nothing is mapped: a child's limit on address space counts maps as memory."""

import errno
import os
import tempfile
import weakref
from pathlib import Path
from typing import Final, final

from worker.engine.errors import InvalidDatasetError, TooLargeError

_FULL: Final = (errno.EFBIG, errno.ENOSPC, errno.EDQUOT)


@final
class ByteFile:
    """Bytes by position, from any thread. The descriptor closes with the object."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        weakref.finalize(self, os.close, descriptor)

    @classmethod
    def open(cls, path: Path) -> "ByteFile":
        """A file to read. Raises `OSError`."""
        return cls(os.open(path, os.O_RDONLY | os.O_CLOEXEC))

    @classmethod
    def scratch(cls) -> "ByteFile":
        """An empty file to write and read, in the folder for temporary files, that has no name any more."""
        descriptor, name = tempfile.mkstemp(prefix="dataset-")
        Path(name).unlink()
        return cls(descriptor)

    def read_into(self, buffer: memoryview, position: int) -> None:
        """Fill a writable buffer of bytes. Raises `InvalidDatasetError` where the file ends before."""
        done = 0
        while done < len(buffer):
            got = os.preadv(self._descriptor, [buffer[done:]], position + done)
            if got == 0:
                raise InvalidDatasetError("the dataset's file ends too early")
            done += got

    def read(self, size: int, position: int) -> bytes:
        """So many bytes. Raises `InvalidDatasetError` where the file ends before."""
        buffer = bytearray(size)
        self.read_into(memoryview(buffer), position)
        return bytes(buffer)

    def write(self, data: bytes | memoryview, position: int) -> None:
        """Raises `TooLargeError` when the disk, or the share of it that a job may use, is full."""
        rest = memoryview(data)
        try:
            while rest:
                done = os.pwrite(self._descriptor, rest, position)
                rest, position = rest[done:], position + done
        except OSError as error:
            if error.errno not in _FULL:
                raise
            raise TooLargeError("the dataset unpacks to more than the disk has room for") from None
