"""Edits of a file's graph, as channel removal needs them; a format carries them out."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir


@dataclass(frozen=True, eq=False)
class SetOperand:
    """Operand `index` of the node becomes a stored tensor holding `array`."""

    node: ir.Node
    index: int
    array: np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, eq=False)
class SetAttribute:
    """An integer or integer-list attribute of the node is set, or (None) dropped."""

    node: ir.Node
    name: str
    value: int | list[int] | None


Edit = SetOperand | SetAttribute
