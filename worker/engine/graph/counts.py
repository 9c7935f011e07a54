"""Counts of channels that a graph computes from other counts."""

import numpy as np
import onnx_ir as ir

from worker.engine.formats.edits import SetOperand
from worker.engine.graph.constants import Constants

_PASSING = {"Unsqueeze", "Squeeze", "Cast", "Identity", "Reshape"}


def multiplied(node: ir.Node | None, size: int, constants: Constants) -> SetOperand | None:
    """The edit that makes a count of so many times something (heads times the batch) be `size`; None where it
    is no such product. The other factor may be another when the file runs."""
    while node is not None and node.op_type in _PASSING and node.inputs[0] is not None:
        node = node.inputs[0].producer()
    if node is None or node.op_type != "Mul":
        return None
    fixed = [constants.is_fixed(value) for value in node.inputs]
    if fixed.count(True) != 1:
        return None
    place = fixed.index(True)
    own, other = constants.array(node.inputs[place]), constants.array(node.inputs[1 - place])
    if own is None or other is None or own.size != 1 or other.size != 1 or size % int(other.reshape(-1)[0]):
        return None
    return SetOperand(node, place, np.full_like(own, size // int(other.reshape(-1)[0])))
