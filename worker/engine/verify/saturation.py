"""Outputs that a sigmoid makes. Kernels of it are exact to the last place of one, not of what they give: a
model that finds nothing in random numbers gives thousandths of thousandths, of which few digits mean much."""

import onnx_ir as ir

#: What the largest magnitude of such an output counts as, at least.
LEAST = 0.01
_PASSING = {
    "Cast", "Clip", "Concat", "Flatten", "Gather", "Identity", "ReduceMax", "ReduceMean", "Reshape", "Resize",
    "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze",
}  # fmt: skip


def least_magnitudes(structure: ir.Model) -> tuple[float, ...]:
    """For each output what its largest magnitude counts as at least: nothing, unless a sigmoid makes it."""
    return tuple(LEAST if _of_sigmoids(value) else 0.0 for value in structure.graph.outputs)


def _of_sigmoids(value: ir.Value) -> bool:
    """True when all that reaches the value, as it is or moved about, comes from sigmoids."""
    waiting, seen = [value], set[ir.Value]()
    while waiting:
        found = waiting.pop()
        if found in seen:
            continue
        seen.add(found)
        node = found.producer()
        if node is None or node.domain not in ("", "ai.onnx"):
            return False
        if node.op_type in _PASSING:
            operands = node.inputs if node.op_type == "Concat" else node.inputs[:1]
            waiting.extend(operand for operand in operands if operand is not None)
        elif node.op_type != "Sigmoid":
            return False
    return True
