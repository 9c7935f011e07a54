"""Matrix products with a stored operand: Gemm, MatMul and their quantised forms."""

from collections.abc import Iterator, Sequence

import numpy as np
import onnx_ir as ir

from worker.engine.graph.channels import Boundary, ChannelMap, Source, fresh, scaled
from worker.engine.graph.constants import attribute
from worker.engine.graph.products import product_of_activations
from worker.engine.graph.surgery import Edit, Operation, surgery
from worker.engine.graph.trace import MICROSOFT, Trace, label, rule
from worker.engine.graph.views import Reshape, WeightView, transposed


def laid_out(view: WeightView, order: Sequence[int]) -> WeightView:
    """The view in layout (1, outputs, inputs, *batch), given where each stands."""
    shape = view.seen_shape()
    moved = view if tuple(order) == tuple(range(len(shape))) else view.then(transposed(order))
    shape = tuple(shape[axis] for axis in order)
    return moved.then(Reshape(shape, (1, *shape)))


def multiply(
    node: ir.Node, trace: Trace, data: ir.Value | None, view: WeightView, data_axis: int, result_axis: int
) -> None:
    """A product whose features lie on those axes (negative) of operand and result."""
    shape = trace.shape(node.outputs[0])
    rank = len(shape) if shape is not None else len(trace.shape(data) or ())
    source = Source(label(node), view.seen_shape()[1])
    incoming = trace.map_on(data, data_axis)
    trace.use(node, view, incoming, source=source, positions=_positions(shape, result_axis, view))
    known = rank >= -result_axis
    made = fresh(source, rank + result_axis) if known else Boundary("its rank is unknown")
    trace.put(node.outputs[0], made)


def _positions(shape: Sequence[int | None] | None, feature_axis: int, view: WeightView) -> int | None:
    """How many times one sample uses each weight: all positions but features and the weight's own batch."""
    if shape is None:
        return None
    sizes = list(shape)
    del sizes[feature_axis]
    if any(size is None for size in sizes):
        return None
    batch = int(np.prod(view.seen_shape()[3:]))
    return max(1, int(np.prod([size or 1 for size in sizes])) // batch)


@rule("Gemm")
def gemm(node: ir.Node, trace: Trace) -> None:
    """Gemm: (rows, inputs) times (inputs, outputs); either operand may be the weight and transposed."""
    left, right = (trace.constants.view(node.inputs[index]) for index in (0, 1))
    turned = [bool(attribute(node, name, 0)) for name in ("transA", "transB")]
    if right is not None and len(right.seen_shape()) == 2 and left is None:
        order, axis = ((0, 1) if turned[1] else (1, 0)), -2 if turned[0] else -1
        multiply(node, trace, node.inputs[0], laid_out(right, order), axis, -1)
        _keep_addend(node, trace)
    elif left is not None and len(left.seen_shape()) == 2 and right is None:
        order, axis = ((1, 0) if turned[0] else (0, 1)), -1 if turned[1] else -2
        multiply(node, trace, node.inputs[1], laid_out(left, order), axis, -2)
        _keep_addend(node, trace)
    else:
        trace.stop(node, "a product of two activations")


def _keep_addend(node: ir.Node, trace: Trace) -> None:
    """What Gemm adds may be computed too: its channels and the result's then stay."""
    added = node.inputs[2] if len(node.inputs) > 2 else None
    if added is not None and not trace.is_constant(added):
        trace.read(added, "added inside a Gemm")
        trace.freeze(trace.channels(node.outputs[0]), "Gemm adds something computed to them")


@rule("FusedGemm", domain=MICROSOFT)
def fused_gemm(node: ir.Node, trace: Trace) -> None:
    """Gemm, then an activation that works on each number by itself."""
    gemm(node, trace)


@rule("FusedMatMul", domain=MICROSOFT)
def fused_matmul(node: ir.Node, trace: Trace) -> None:
    """alpha · A B, the last axes transposed on demand."""
    left, right = (trace.constants.view(node.inputs[index]) for index in (0, 1))
    turned = [bool(attribute(node, name, 0)) for name in ("transA", "transB")]
    if attribute(node, "transBatchA", 0) or attribute(node, "transBatchB", 0):
        trace.stop(node, "a product whose batch axes are transposed")
    elif right is not None and left is None and len(right.seen_shape()) >= 2:
        view = laid_out(right, _order(right, turned=turned[1]))
        multiply(node, trace, node.inputs[0], view, -2 if turned[0] else -1, -1)
    elif left is not None and right is None and len(left.seen_shape()) >= 2:
        view = laid_out(left, _order(left, turned=not turned[0]))
        multiply(node, trace, node.inputs[1], view, -1 if turned[1] else -2, -2)
    elif left is None and right is None:
        product_of_activations(node, trace, (turned[0], turned[1]))
    else:
        trace.stop(node, "a product with a vector")
    made = trace.channels(node.outputs[0])
    if isinstance(made, ChannelMap):
        trace.put(node.outputs[0], scaled(made, float(attribute(node, "alpha", 1.0))))


def _order(view: WeightView, *, turned: bool) -> tuple[int, ...]:
    """Where outputs, inputs and batches of a weight stand: (…, inputs, outputs), or turned."""
    rank = len(view.seen_shape())
    last = (rank - 2, rank - 1) if turned else (rank - 1, rank - 2)
    return (*last, *range(rank - 2))


@rule("MatMul")
def matmul(node: ir.Node, trace: Trace) -> None:
    """MatMul with a stored operand on either side; more than two dimensions of weight are batches."""
    _matmul(node, trace, node.inputs[0], node.inputs[1])


def _matmul(node: ir.Node, trace: Trace, a: ir.Value | None, b: ir.Value | None) -> None:
    left, right = trace.constants.view(a), trace.constants.view(b)
    if right is not None and left is None and len(right.seen_shape()) >= 2:
        rank = len(right.seen_shape())
        order = (rank - 1, rank - 2, *range(rank - 2))
        multiply(node, trace, a, laid_out(right, order), -1, -1)
    elif left is not None and right is None and len(left.seen_shape()) >= 2:
        rank = len(left.seen_shape())
        order = (rank - 2, rank - 1, *range(rank - 2))
        multiply(node, trace, b, laid_out(left, order), -2, -2)
    elif left is None and right is None:
        product_of_activations(node, trace)
    else:
        trace.stop(node, "a product with a vector")


def _quantised(node: ir.Node, trace: Trace, operands: Sequence[int], *, transposed_b: bool) -> None:
    data, weight, scale, zero = (node.inputs[i] if i < len(node.inputs) else None for i in operands)
    view, factor = trace.constants.view(weight), trace.constants.array(scale)
    if view is None or factor is None or view.steps or len(view.shape) != 2:
        trace.stop(node, "the product's quantised weight is not stored plainly")
        return
    axis = 0 if transposed_b else 1
    view = trace.constants.quantized(view, factor, trace.constants.array(zero), axis)
    multiply(node, trace, data, laid_out(view, (0, 1) if transposed_b else (1, 0)), -1, -1)


@rule("QLinearMatMul")
def quantised_matmul(node: ir.Node, trace: Trace) -> None:
    """QLinearMatMul(a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero)."""
    _quantised(node, trace, (0, 3, 4, 5), transposed_b=False)


@rule("QGemm", domain=MICROSOFT)
def quantised_gemm(node: ir.Node, trace: Trace) -> None:
    """ONNX Runtime's QGemm, same operand order as QLinearMatMul."""
    _quantised(node, trace, (0, 3, 4, 5), transposed_b=bool(attribute(node, "transB", 0)))


@surgery("FusedMatMul", "FusedGemm", domain=MICROSOFT)
def cut_fused_product(node: ir.Node, operation: Operation) -> Iterator[Edit]:
    """The same as for the plain ones."""
    yield from cut_product(node, operation)


@surgery("Gemm", "MatMul")
def cut_product(node: ir.Node, operation: Operation) -> Iterator[Edit]:
    """Rows and columns of the weight, wherever it stands, and Gemm's bias."""
    for use in operation.uses.get(node, []):
        outputs = np.flatnonzero(operation.kept.outputs(use)[0])
        inputs = np.flatnonzero(operation.kept.inputs(use)[0])
        right = operation.constants.view(node.inputs[1]) is not None
        turned = bool(attribute(node, "transB" if right else "transA", 0))
        axes = {-2: outputs, -1: inputs} if turned == right else {-2: inputs, -1: outputs}
        yield from operation.cut(node, 1 if right else 0, axes)
        if node.op_type in ("Gemm", "FusedGemm") and len(node.inputs) > 2:
            yield from operation.broadcast(node, 2, node.outputs[0])


@surgery("QLinearMatMul")
def cut_quantised_matmul(node: ir.Node, operation: Operation) -> Iterator[Edit]:
    """Rows and columns; scales and zero points of single columns follow."""
    (use,) = operation.uses[node]
    outputs, inputs = (kept(use)[0].nonzero()[0] for kept in (operation.kept.outputs, operation.kept.inputs))
    yield from operation.cut(node, 3, {0: inputs, 1: outputs})
    for operand in (4, 5):
        yield from operation.cut(node, operand, {0: outputs})


@surgery("QGemm", domain=MICROSOFT)
def cut_quantised_gemm(node: ir.Node, operation: Operation) -> Iterator[Edit]:
    """The same, perhaps turned, and a bias."""
    (use,) = operation.uses[node]
    outputs, inputs = (kept(use)[0].nonzero()[0] for kept in (operation.kept.outputs, operation.kept.inputs))
    turned = bool(attribute(node, "transB", 0))
    yield from operation.cut(node, 3, {0: outputs, 1: inputs} if turned else {0: inputs, 1: outputs})
    for operand in (4, 5, 6):
        yield from operation.cut(node, operand, {-1: outputs})
