"""Channels that are gone, seen in numbers: NaN wherever a tensor loses an index.

NaN passes through whatever an operator does with channels, so what a tensor loses can be read off it without
a rule for the operator. Only what sums over channels has to be told to leave the lost ones out.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

Lost = dict[int, torch.Tensor]


def lost(tensor: torch.Tensor) -> Lost:
    """By axis, True for indices whose elements are all NaN; axes that lose none are left out."""
    if not tensor.is_floating_point() or not tensor.dim():
        return {}
    marks = tensor.isnan()
    if not bool(marks.any()):
        return {}
    rows = {a: marks.movedim(a, 0).reshape(size, -1).all(1) for a, size in enumerate(tensor.shape)}
    return {axis: gone for axis, gone in rows.items() if bool(gone.any())}


def shape_left(tensor: torch.Tensor) -> list[int]:
    """The tensor's shape without what it loses."""
    sizes = list(tensor.shape)
    for axis, gone in lost(tensor).items():
        sizes[axis] -= int(gone.sum())
    return sizes


def marked(tensor: torch.Tensor, kept: Mapping[int, np.ndarray[Any, Any]]) -> torch.Tensor:
    """A copy that loses everything but the kept indices."""
    made = tensor.detach().clone()
    if made.is_floating_point():
        for axis, indices in kept.items():
            gone = torch.ones(made.shape[axis], dtype=torch.bool)
            gone[torch.from_numpy(indices)] = False
            made.index_fill_(axis, gone.nonzero().flatten(), float("nan"))
    return made


def all_lost(tensor: torch.Tensor) -> bool:
    """True when nothing of the tensor is left, along whichever axis."""
    return tensor.is_floating_point() and bool(tensor.isnan().all())


def cut(tensor: torch.Tensor, kept: Mapping[int, np.ndarray[Any, Any]]) -> torch.Tensor:
    """The tensor with the kept indices alone."""
    made = tensor.detach()
    for axis, indices in kept.items():
        made = made.index_select(axis, torch.from_numpy(indices))
    return made.clone()


def without(tensor: torch.Tensor, gone: Lost) -> torch.Tensor:
    """A copy that loses what is said, too."""
    for axis, mask in gone.items():
        tensor = tensor.index_fill(axis, mask.nonzero().flatten(), float("nan"))
    return tensor


def healed(tensor: torch.Tensor, *axes: int) -> torch.Tensor:
    """Zeros for what is lost along the axes that are summed over; what other axes lose stays lost."""
    gone = lost(tensor)
    summed = {axis % tensor.dim() for axis in axes if -tensor.dim() <= axis < tensor.dim()}
    if not summed & gone.keys():
        return tensor
    made = tensor.nan_to_num(nan=0.0)
    return without(made, {axis: gone[axis] for axis in gone.keys() - summed})


def _product(first: int, second: int) -> Callable[[list[Any]], list[Any]]:
    def heal(arguments: list[Any]) -> list[Any]:
        arguments[first] = healed(arguments[first], -1)
        arguments[second] = healed(arguments[second], max(-2, -arguments[second].dim()))
        return arguments

    return heal


def _both_last(arguments: list[Any]) -> list[Any]:
    """The inner product of the last axes: linear layers, queries and keys."""
    return [healed(arguments[0], -1), healed(arguments[1], -1), *arguments[2:]]


def _convolution(transposed: int | bool, groups: int) -> Callable[[list[Any]], list[Any]]:
    def heal(arguments: list[Any]) -> list[Any]:
        turned = transposed if isinstance(transposed, bool) else arguments[transposed]
        data, weight, *rest = arguments
        if not turned:
            return [healed(data, 1), healed(weight, 1), *rest]
        split = weight.unflatten(0, (arguments[groups], -1))
        return [healed(data, 1), healed(split, 1).flatten(0, 1), *rest]

    return heal


def _recurrent(arguments: list[Any]) -> list[Any]:
    data, state, weights, *rest = arguments
    cleared = [healed(weight, 1) if weight.dim() > 1 else weight for weight in weights]
    return [healed(data, -1), state, cleared, *rest]


def _cell(arguments: list[Any]) -> list[Any]:
    """One step of a recurrent layer: what it reads may get less, its state stays as wide as it is."""
    data, state, weight, *rest = arguments
    return [healed(data, -1), state, healed(weight, 1), *rest]


def _einsum(arguments: list[Any]) -> list[Any]:
    """Labels that the result does not have are summed over."""
    equation, operands, *rest = arguments
    inputs, _, output = equation.replace(" ", "").partition("->")
    if "." in equation or not output:
        return arguments
    cleared = [
        healed(operand, *(axis for axis, label in enumerate(labels) if label not in output))
        for labels, operand in zip(inputs.split(","), operands, strict=True)
    ]
    return [equation, cleared, *rest]


#: What sums over channels: its arguments on the full side, lost ones at zero along the axis summed over.
SUMMING: dict[str, Callable[[list[Any]], list[Any]]] = {
    "aten::linear": _both_last,
    "aten::einsum": _einsum,
    "aten::scaled_dot_product_attention": _both_last,
    **dict.fromkeys(("aten::mm", "aten::bmm", "aten::matmul"), _product(0, 1)),
    **dict.fromkeys(("aten::addmm", "aten::baddbmm"), _product(1, 2)),
    **dict.fromkeys((f"aten::conv{n}d" for n in (1, 2, 3)), _convolution(False, 6)),
    **dict.fromkeys((f"aten::conv_transpose{n}d" for n in (1, 2, 3)), _convolution(True, 6)),
    **dict.fromkeys(("aten::_convolution", "aten::convolution"), _convolution(6, 8)),
    **dict.fromkeys((f"aten::{kind}_cell" for kind in ("lstm", "gru", "rnn_tanh", "rnn_relu")), _cell),
    **dict.fromkeys(("aten::lstm", "aten::gru", "aten::rnn_tanh", "aten::rnn_relu"), _recurrent),
}


def remarked(made: torch.Tensor, arguments: Sequence[Any]) -> torch.Tensor:
    """What an operator made, losing also what arguments of the same shape lose (some functions drop NaN)."""
    for argument in arguments:
        if isinstance(argument, torch.Tensor) and argument.shape == made.shape:
            made = without(made, lost(argument))
    return made
