"""Footers of .parquet files: column names, types and row count, read without pyarrow.

A list column is an array whose second dimension is the length that all its rows must share.
Field numbers are those of parquet.thrift (FileMetaData, SchemaElement, RowGroup, ColumnMetaData).
"""

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import final

from api_schemas.datasets import ArrayInfo
from service.datasets.arrays import MOST_ARRAYS, bad_dataset, not_a_dataset
from service.datasets.thrift import CompactReader, ThriftError, Value

_MAGIC = b"PAR1"
_LONGEST_FOOTER = 4 * 2**20
_REPEATED = 2
_FIXED_BYTES = 7
_FLOAT16 = 15
#: physical type → dtype
_PHYSICAL = {0: "bool", 1: "int32", 2: "int64", 4: "float32", 5: "float64"}
#: converted type of an integer → dtype
_CONVERTED = {
    11: "uint8",
    12: "uint16",
    13: "uint32",
    14: "uint64",
    15: "int8",
    16: "int16",
    17: "int32",
    18: "int64",
}


@final
@dataclass(frozen=True)
class _Leaf:
    """A column of values under its path in the schema; `lists` counts the lists around a value."""

    path: tuple[str, ...]
    dtype: str | None
    lists: int


def read_parquet(path: Path) -> list[ArrayInfo]:
    """The columns of a Parquet file as arrays. Refuses text, structures and lists of differing length."""
    try:
        footer = CompactReader(_footer(path)).struct()
        leaves = _leaves(_structs(footer.get(2)))
        rows = _integer(footer.get(3))
        values = _value_counts(_structs(footer.get(4)))
    except ThriftError as error:
        not_a_dataset(f"its footer is damaged ({error})")
    if rows < 0:
        not_a_dataset("its footer is damaged (negative row count)")
    return [_array(leaf, rows, values) for leaf in leaves]


def _footer(path: Path) -> bytes:
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 8))
        length, magic = int.from_bytes(file.read(4), "little"), file.read(4)
        if magic != _MAGIC or length > size - 12:
            not_a_dataset("its footer is missing: it was cut short, or is encrypted")
        if length > _LONGEST_FOOTER:
            not_a_dataset("its footer is too long")
        file.seek(size - 8 - length)
        return file.read(length)


def _leaves(elements: list[dict[int, Value]]) -> list[_Leaf]:
    """The schema, which is a tree written depth first, as its leaves."""
    leaves: list[_Leaf] = []
    position = _walk(elements, 0, (), 0, leaves)
    if position != len(elements):
        raise ThriftError("the schema is no tree")
    heads = Counter(leaf.path[:1] for leaf in leaves)
    if len(heads) > MOST_ARRAYS:
        bad_dataset(f"it holds more than {MOST_ARRAYS} columns")
    for head, count in heads.items():
        if count > 1 or not head:
            bad_dataset(f"the column {''.join(head)[:100]!r} is a structure; only numbers and lists pass")
    return leaves


def _walk(
    elements: list[dict[int, Value]], position: int, path: tuple[str, ...], lists: int, leaves: list[_Leaf]
) -> int:
    """Collect the leaves under the element at `position`; returns the position after its subtree."""
    if position >= len(elements) or len(path) > 16:
        raise ThriftError("the schema ends too early or is too deep")
    element = elements[position]
    children = _integer(element.get(5, 0))
    if position > 0:
        path = (*path, _string(element.get(4)))
        lists += element.get(3) == _REPEATED
    if children <= 0 and position > 0:
        leaves.append(_Leaf(path, _dtype(element), lists))
        return position + 1
    position += 1
    for _ in range(children):
        position = _walk(elements, position, path, lists, leaves)
    return position


def _dtype(element: dict[int, Value]) -> str | None:
    physical, converted, logical = element.get(1), element.get(6), element.get(10)
    if physical == _FIXED_BYTES:
        return "float16" if isinstance(logical, dict) and _FLOAT16 in logical else None
    if isinstance(converted, int) and physical in (1, 2):
        return _CONVERTED.get(converted)
    return _PHYSICAL.get(physical) if isinstance(physical, int) else None


def _value_counts(row_groups: list[dict[int, Value]]) -> Counter[tuple[str, ...]]:
    """How many values each column holds over all row groups."""
    counts: Counter[tuple[str, ...]] = Counter()
    for group in row_groups:
        for chunk in _structs(group.get(1, [])):
            meta = chunk.get(3)
            if not isinstance(meta, dict) or not isinstance(steps := meta.get(3), list):
                raise ThriftError("a column has no metadata")
            counts[tuple(_string(step) for step in steps)] += _integer(meta.get(5))
    return counts


def _array(leaf: _Leaf, rows: int, values: Counter[tuple[str, ...]]) -> ArrayInfo:
    name = leaf.path[0]
    if leaf.dtype is None:
        bad_dataset(f"the column {name[:100]!r} is neither boolean, integer nor float")
    if leaf.lists == 0:
        return ArrayInfo(name=name, dtype=leaf.dtype, shape=[rows])
    length, rest = divmod(values[leaf.path], max(rows, 1))
    if rest or length < 0:
        bad_dataset(f"the rows of the column {name[:100]!r} differ in length")
    return ArrayInfo(name=name, dtype=leaf.dtype, shape=[rows, length])


def _structs(value: Value | None) -> list[dict[int, Value]]:
    if not isinstance(value, list):
        raise ThriftError("a list is missing")
    structs = [item for item in value if isinstance(item, dict)]
    if len(structs) != len(value):
        raise ThriftError("a list holds something unexpected")
    return structs


def _integer(value: Value | None) -> int:
    if not isinstance(value, int):
        raise ThriftError("a number is missing")
    return value


def _string(value: Value | None) -> str:
    if not isinstance(value, bytes):
        raise ThriftError("a name is missing")
    return value.decode("utf-8", "replace")
