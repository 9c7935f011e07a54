"""Where the bytes of initializers lie in an ONNX file, so that they can be replaced in place: everything else
of the file, known or unknown to protobuf, stays to the byte."""

import mmap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import final

import onnx_ir as ir

from worker.engine.formats.base import Array

#: Fields of ModelProto, GraphProto and TensorProto, by number.
_GRAPH, _INITIALIZER, _RAW_DATA = 7, 5, 9
_VARINT, _FIXED64, _DELIMITED, _FIXED32 = 0, 1, 2, 5
_FIXED = {_FIXED64: 8, _FIXED32: 4}


@final
class _Fields:
    """Fields of one protobuf message, from one offset of a buffer to another."""

    def __init__(self, data: mmap.mmap, start: int, end: int) -> None:
        self._data, self._at, self._end = data, start, end

    def __iter__(self) -> Iterator[tuple[int, int, int]]:
        """(number, start, end) of every field with a length; ValueError where the bytes are no message."""
        while self._at < self._end:
            key = self._varint()
            kind = key & 7
            if kind == _VARINT:
                self._varint()
            elif kind in _FIXED:
                self._at += _FIXED[kind]
            elif kind == _DELIMITED:
                length = self._varint()
                yield key >> 3, self._at, self._at + length
                self._at += length
            else:
                raise ValueError(f"wire type {kind}")

    def _varint(self) -> int:
        value = shift = 0
        while True:
            byte = self._data[self._at]
            self._at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value


def replaced(path: Path, arrays: Mapping[int, Array]) -> bool:
    """Overwrite initializers of the main graph, by their place in it, in the file itself.

    False, with nothing written, unless each is held as raw data of just as many bytes.
    """
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as data:
        try:
            spans = dict(enumerate(_initializers(data)))
        except (ValueError, IndexError):
            return False
        if any(_length(spans.get(place)) != ir.Tensor(array).nbytes for place, array in arrays.items()):
            return False
        for place, array in arrays.items():
            start, end = spans[place] or (0, 0)
            data[start:end] = ir.Tensor(array).tobytes()
    return True


def _length(span: tuple[int, int] | None) -> int | None:
    return None if span is None else span[1] - span[0]


def _initializers(data: mmap.mmap) -> Iterator[tuple[int, int] | None]:
    """Where the raw data of each initializer is; None for one that is held otherwise."""
    for number, start, end in _Fields(data, 0, len(data)):
        if number != _GRAPH:
            continue
        for inner, first, last in _Fields(data, start, end):
            if inner == _INITIALIZER:
                raw = [(a, b) for field, a, b in _Fields(data, first, last) if field == _RAW_DATA]
                yield raw[-1] if raw else None
