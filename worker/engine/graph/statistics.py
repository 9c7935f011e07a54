"""The full network with statistics over the channels that stay: what a smaller one is compared with.

A norm over channels cannot stay what it was when some go: zeros in their place would count in the mean and
the variance. So in the model that is compared, every operator that sums up channels without weights sees
only those that stay, and what it makes of each is laid back where it was. What removed channels then hold
does not matter: nobody reads them but with weights that are zero.
"""

from collections.abc import Callable, Iterator

import numpy as np
import onnx_ir as ir

from worker.engine.formats.edits import Edit, Narrow, SetAttribute, Widen
from worker.engine.graph.channels import Ints
from worker.engine.graph.heads import scale_before
from worker.engine.graph.kept import Kept
from worker.engine.graph.layer import Summed

#: Operators whose first result has the shape of their first operand; the rest are parameters for its end.
_NORMS = {
    "LayerNormalization",
    "RMSNormalization",
    "SimplifiedLayerNormalization",
    "LpNormalization",
    "MeanVarianceNormalization",
    "SkipLayerNormalization",
    "SkipSimplifiedLayerNormalization",
}
#: Products of two activations: sums in which zeros count for nothing.
_PRODUCTS = {"MatMul", "FusedMatMul", "Einsum", "Attention", "MultiHeadAttention"}

Reference = Callable[[Kept, ir.Node, ir.Node], Iterator[Edit]]

_REFERENCES: dict[tuple[str, str], Reference] = {}


def reference(op: str, domain: str = "") -> Callable[[Reference], Reference]:
    """Register how an operator of many parts is held to what stays: edits of its twin in the other load."""

    def register(function: Reference) -> Reference:
        _REFERENCES[domain, op] = function
        return function

    return register


def statistics_over(kept: Kept, analysed: ir.Model, structure: ir.Model) -> list[Edit]:
    """Edits of `structure`, another load of the file that was `analysed`."""
    twins = dict(zip(analysed.graph, structure.graph, strict=True))
    return [edit for item in kept.graph.summed for edit in _edits(kept, item, twins[item.node])]


def norms_over(kept: Kept) -> int:
    """How many norms and reductions are over fewer channels; products of activations are not counted."""
    found = [item for item in kept.graph.summed if item.node.op_type not in _PRODUCTS | {"Shape"}]
    return sum(bool(set(kept.axes(item.node.inputs[item.operand])) & set(item.axes)) for item in found)


def _edits(kept: Kept, item: Summed, node: ir.Node) -> Iterator[Edit]:
    own = _REFERENCES.get((node.domain, node.op_type))
    if own is not None:
        yield from own(kept, item.node, node)
        return
    value = item.node.inputs[item.operand]
    axes = {axis: left for axis, left in kept.axes(value).items() if axis in item.axes}
    if not axes:
        return
    yield Narrow(node, item.operand, axes)
    shape = kept.graph.shapes.of(value) or ()
    first = kept.graph.shapes.of(item.node.inputs[0])
    scale = scale_before(item.node, first) if node.op_type == "Attention" else None
    if scale is not None:
        yield SetAttribute(node, "scale", scale)
    if node.op_type not in _NORMS:
        return
    for index, parameter in enumerate(item.node.inputs[1:], 1):
        size = kept.graph.shapes.of(parameter) or ()
        fitting = {axis - len(shape): left for axis, left in axes.items() if len(shape) - axis <= len(size)}
        lost = {axis: left for axis, left in fitting.items() if size[axis] != 1}
        if lost:
            yield Narrow(node, index, lost)
    for result, made in enumerate(item.node.outputs):
        if result == 0 or (made.name and kept.graph.shapes.of(made) == shape):
            yield Widen(
                node, {axis: places_of(left, int(shape[axis] or 0)) for axis, left in axes.items()}, result
            )


def places_of(left: Ints, size: int) -> Ints:
    """For each of `size` indices its place among those that are left; any, where it is not."""
    places = np.zeros(size, dtype=np.int64)
    places[left] = np.arange(len(left))
    return places
