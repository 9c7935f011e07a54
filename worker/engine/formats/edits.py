"""Edits of a file's graph, as channel removal needs them; a format carries them out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, eq=False)
class Cut:
    """What is left of a stored tensor: kept indices by axis of the tensor as the file holds it."""

    tensor: ir.Value
    kept: Mapping[int, Array]


@dataclass(frozen=True, eq=False)
class SetOperand:
    """Operand `index` of the node becomes a stored tensor holding `array`; `cut` when that is a part of the
    tensor it was, rearranged on the way."""

    node: ir.Node
    index: int
    array: Array
    cut: Cut | None = None


@dataclass(frozen=True, eq=False)
class SetAttribute:
    """A number or a list of integers is set as an attribute of the node, or (None) the attribute dropped."""

    node: ir.Node
    name: str
    value: int | float | list[int] | None


@dataclass(frozen=True, eq=False)
class Narrow:
    """The node sees only some indices of an operand, by axis (negative from the end)."""

    node: ir.Node
    operand: int
    kept: Mapping[int, Array]


@dataclass(frozen=True, eq=False)
class Widen:
    """A result of the node is laid out over all indices again, by axis: where each index of the wide result
    is taken from."""

    node: ir.Node
    taken: Mapping[int, Array]
    result: int = 0


@dataclass(frozen=True, eq=False)
class Permute:
    """The node becomes a Gather of `data` along an axis; what it was made of is dropped where nobody else
    reads it."""

    node: ir.Node
    data: ir.Value
    axis: int
    indices: Array


Edit = SetOperand | SetAttribute | Narrow | Widen | Permute
