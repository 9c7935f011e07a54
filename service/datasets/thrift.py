"""Thrift's compact protocol, read into plain values: as much as a Parquet footer needs.

https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

from typing import final

Value = bool | int | float | bytes | list["Value"] | dict[int, "Value"]

_DEEPEST = 32
_TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _LIST, _SET, _STRUCT = 1, 2, 3, 7, 8, 9, 10, 12
_INTEGERS = (4, 5, 6)


@final
class ThriftError(ValueError):
    """The bytes are no compact-protocol struct."""


@final
class CompactReader:
    """Reads one struct from bytes. What it builds is bounded by the length of the bytes."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def struct(self, depth: int = 0) -> dict[int, Value]:
        """The fields of the struct by number. Raises `ThriftError`."""
        if depth > _DEEPEST:
            raise ThriftError("nested too deeply")
        fields: dict[int, Value] = {}
        number = 0
        while (head := self._byte()) != 0:
            delta, kind = head >> 4, head & 0xF
            number = number + delta if delta else self._signed()
            fields[number] = kind == _TRUE if kind in (_TRUE, _FALSE) else self._value(kind, depth)
        return fields

    def _value(self, kind: int, depth: int) -> Value:
        if kind in _INTEGERS:
            return self._signed()
        if kind == _BINARY:
            return self._take(self._unsigned())
        if kind in (_LIST, _SET):
            return self._list(depth)
        if kind == _STRUCT:
            return self.struct(depth + 1)
        if kind == _BYTE:
            return self._byte()
        if kind == _DOUBLE:
            self._take(8)
            return 0.0
        raise ThriftError(f"unknown type {kind}")

    def _list(self, depth: int) -> list[Value]:
        if depth > _DEEPEST:
            raise ThriftError("nested too deeply")
        head = self._byte()
        size, kind = head >> 4, head & 0xF
        size = self._unsigned() if size == 15 else size
        if size > len(self._data) - self._position:
            raise ThriftError("a list is longer than the bytes that are left")
        if kind in (_TRUE, _FALSE):
            return [self._byte() == _TRUE for _ in range(size)]
        return [self._value(kind, depth + 1) for _ in range(size)]

    def _byte(self) -> int:
        return self._take(1)[0]

    def _take(self, size: int) -> bytes:
        end = self._position + size
        if end > len(self._data):
            raise ThriftError("the bytes end too early")
        taken = self._data[self._position : end]
        self._position = end
        return taken

    def _unsigned(self) -> int:
        value = 0
        for shift in range(0, 70, 7):
            byte = self._byte()
            value |= (byte & 0x7F) << shift
            if not byte & 0x80:
                return value
        raise ThriftError("a number is too long")

    def _signed(self) -> int:
        value = self._unsigned()
        return (value >> 1) ^ -(value & 1)
