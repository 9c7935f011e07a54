"""Which loss a network's curvature is taken of, and whether its diagonal is the exact Hessian's."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, final

import numpy as np
import onnx_ir as ir
import torch

from worker.engine.criteria.base import Subject
from worker.engine.criteria.looking import Floats, look, products
from worker.engine.errors import InvalidRecipeError
from worker.engine.graph.layer import Layer
from worker.engine.learning.activations import Observed, run_quietly
from worker.engine.learning.gradients import (
    ClassCurvature,
    Directions,
    LabelLoss,
    SquareCurvature,
    Tracked,
    squared_gradients,
)
from worker.engine.learning.losses import choose_loss
from worker.engine.types import Array

LossName = Literal["auto", "cross_entropy", "squared"]
CurvatureName = Literal["auto", "exact", "gauss_newton", "fisher"]

#: Operators that are linear, or linear between kinks, in each operand that is computed from the inputs.
_PIECEWISE = frozenset(
    "Conv ConvTranspose Gemm MatMul Add Sub Sum Mean Neg Relu LeakyRelu PRelu Clip Abs Max Min "
    "ThresholdedRelu HardSigmoid BatchNormalization MaxPool AveragePool GlobalAveragePool GlobalMaxPool "
    "Flatten Reshape Transpose Squeeze Unsqueeze Identity Dropout Concat Split Slice Gather Pad Expand Tile "
    "Upsample Resize DepthToSpace SpaceToDepth ReduceMean ReduceSum ReduceMax Cast Shape Size".split()
)
#: Linear in one operand if the other is a constant.
_SCALING = frozenset({"Mul", "Div", "MatMul", "Gemm", "Conv", "ConvTranspose"})
_LAST = frozenset({"Softmax", "LogSoftmax"})


@final
@dataclass(frozen=True)
class Diagonal:
    """The diagonal of a curvature by layer name, in the operator's layout, and which curvature it is."""

    values: Mapping[str, Floats]
    kind: str


def diagonal(
    subject: Subject,
    layers: Sequence[Layer],
    *,
    curvature: CurvatureName,
    loss: LossName,
    rows: int,
    most: int,
) -> Diagonal:
    """Mean over rows of the curvature's diagonal, for every layer that has one."""
    known = products(subject, layers).known
    alone = [layer for layer in layers if layer.name not in known]
    seen = look(subject, rows, batch=1 if alone else None)
    labels = subject.data is not None and subject.data.has_targets
    kind, along = _kind(subject, seen, layers, curvature, loss, labels=labels, most=most)
    tracked = {layer.name: Tracked(known[layer.name]) for layer in layers if layer.name in known}
    for layer in alone:
        if layer.view.value in seen.module.weights:
            tracked[layer.name] = Tracked(parameter=seen.module.weights[layer.view.value])
    found = squared_gradients(seen, list(tracked.values()), along)
    by_name = {layer.name: layer for layer in layers}
    values = {
        name: _laid_out(by_name[name], one, total)
        for (name, one), total in zip(tracked.items(), found, strict=True)
    }
    return Diagonal(values, kind)


def directions(seen: Observed, loss: LossName, *, labels: bool, most: int, seed: int) -> Directions:
    """What to take gradients of: the loss against the labels, or the outputs as a loss would weigh them."""
    return LabelLoss() if labels else _curvature(seen, loss, labels=False, most=most, seed=seed)


def _kind(
    subject: Subject,
    seen: Observed,
    layers: Sequence[Layer],
    curvature: CurvatureName,
    loss: LossName,
    *,
    labels: bool,
    most: int,
) -> tuple[str, Directions]:
    reason = not_exact(subject.network.structure, layers)
    if curvature == "exact" and reason is not None:
        raise InvalidRecipeError(
            f"the diagonal of the Hessian is not known exactly: {reason}",
            hint='"curvature": "fisher" needs labels, "gauss_newton" does not',
        )
    if curvature == "fisher" or (curvature == "auto" and reason is not None and labels):
        return "empirical Fisher information", LabelLoss()
    along = _curvature(seen, loss, labels=labels, most=most, seed=subject.seed)
    exact = "exact diagonal Hessian" if reason is None else "Gauss-Newton diagonal"
    return f"{exact} of the {along.loss_name}", along


def _curvature(
    seen: Observed, loss: LossName, *, labels: bool, most: int, seed: int
) -> ClassCurvature | SquareCurvature:
    """Cross-entropy for classes, squared error for anything else, of the output that is meant."""
    call = next(iter(seen.passes))
    outputs = run_quietly(seen.module, call)
    floating = [place for place, output in enumerate(outputs) if output.is_floating_point()]
    if not floating:
        raise InvalidRecipeError("no output of the model has a gradient")
    place, classes = floating[0], _has_classes(outputs[floating[0]])
    if labels and call.targets is not None:
        chosen = choose_loss(outputs, call.targets)
        classes = chosen.name == "cross_entropy"
    if loss == "cross_entropy" or (loss == "auto" and classes):
        return ClassCurvature(place, most, seed)
    return SquareCurvature(place, most, seed)


def _has_classes(output: torch.Tensor) -> bool:
    """An output of (rows, classes), whatever axes of size one follow."""
    return output.dim() >= 2 and output.shape[1] > 1 and output[0, 0].numel() == 1


def _laid_out(layer: Layer, one: Tracked, total: torch.Tensor) -> Floats:
    numbers: Array = total.cpu().numpy().astype(np.float64)
    if one.parameter is not None:
        return layer.view.forward(numbers)
    return numbers.reshape(layer.view.seen_shape())


def not_exact(structure: ir.Model, layers: Iterable[Layer]) -> str | None:
    """Why the Gauss-Newton diagonal is not the Hessian's, or None where it is: where every weight enters once
    and everything is linear between kinks up to a softmax at the end."""
    shared = next((layer.name for layer in layers if len(layer.uses) > 1), None)
    if shared is not None:
        return f"{shared} is used more than once"
    moving = {value for value in structure.graph.inputs if not value.is_initializer()}
    for node in structure.graph:
        computed = [value for value in node.inputs if value in moving]
        if not computed:
            continue
        moving.update(node.outputs)
        last = node.op_type in _LAST and node.outputs[0].is_graph_output()
        if not last and not _is_linear(node, computed):
            return f"{node.op_type} is not linear between kinks"
    return None


def _is_linear(node: ir.Node, computed: Sequence[ir.Value]) -> bool:
    if node.domain not in ("", "ai.onnx"):
        return False
    if node.op_type == "Div" and node.inputs[1] is not None and node.inputs[1] in computed:
        return False
    return len(computed) == 1 if node.op_type in _SCALING else node.op_type in _PIECEWISE
