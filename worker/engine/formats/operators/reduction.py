"""Reductions along axes, running sums, the largest elements, softmax."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from worker.engine.formats.operators.arithmetic import UNSIGNED, narrowed, ordered, unordered, wide
from worker.engine.formats.operators.call import Call, Value
from worker.engine.formats.operators.registry import operator
from worker.engine.formats.operators.sizes import Sizes

Axes = tuple[int, ...]
Reduction = Callable[[Tensor, Axes, bool], Tensor]


def _sum(x: Tensor, axes: Axes, keep: bool) -> Tensor:
    return x.sum(axes, keepdim=keep, dtype=x.dtype)


def _mean(x: Tensor, axes: Axes, keep: bool) -> Tensor:
    if x.is_floating_point():
        return x.mean(axes, keepdim=keep)
    count = math.prod(x.shape[axis] for axis in axes)
    return torch.div(x.sum(axes, keepdim=keep), count, rounding_mode="trunc").to(x.dtype)


def _product(x: Tensor, axes: Axes, keep: bool) -> Tensor:
    for axis in sorted((axis % x.dim() for axis in axes), reverse=True):
        x = x.prod(axis, keepdim=keep, dtype=x.dtype)
    return x


def _largest(x: Tensor, axes: Axes, keep: bool) -> Tensor:
    return _extreme(x, axes, keep, largest=True)


def _smallest(x: Tensor, axes: Axes, keep: bool) -> Tensor:
    return _extreme(x, axes, keep, largest=False)


def _extreme(x: Tensor, axes: Axes, keep: bool, *, largest: bool) -> Tensor:
    if x.dtype == torch.bool:
        return x.any(axes, keepdim=keep) if largest else x.all(axes, keepdim=keep)
    if any(x.shape[axis] == 0 for axis in axes):
        return x.sum(axes, keepdim=keep).to(x.dtype) + _limit(x.dtype, largest=not largest)
    comparable = ordered(x)
    found = comparable.amax(axes, keepdim=keep) if largest else comparable.amin(axes, keepdim=keep)
    return unordered(found, x.dtype)


def _limit(dtype: torch.dtype, *, largest: bool) -> float:
    if dtype.is_floating_point:
        return math.inf if largest else -math.inf
    return torch.iinfo(dtype).max if largest else torch.iinfo(dtype).min


def _norm_1(x: Tensor, axes: Axes, keep: bool) -> Tensor:
    return _sum(x if x.dtype in UNSIGNED else x.abs(), axes, keep)


def _norm_2(x: Tensor, axes: Axes, keep: bool) -> Tensor:
    if x.is_floating_point():
        norm: Tensor = torch.linalg.vector_norm(x, 2, axes, keepdim=keep)
        return norm
    return x.double().square().sum(axes, keepdim=keep).sqrt().to(x.dtype)


def _sum_of_squares(x: Tensor, axes: Axes, keep: bool) -> Tensor:
    return _sum(x * x, axes, keep)


def _log_sum(x: Tensor, axes: Axes, keep: bool) -> Tensor:
    return _floating(x).sum(axes, keepdim=keep).log().to(x.dtype)


def _log_sum_exp(x: Tensor, axes: Axes, keep: bool) -> Tensor:
    return torch.logsumexp(_floating(x), axes, keepdim=keep).to(x.dtype)


def _floating(x: Tensor) -> Tensor:
    return x if x.is_floating_point() else x.double()


_REDUCTIONS: dict[str, Reduction] = {
    "ReduceSum": _sum,
    "ReduceMean": _mean,
    "ReduceProd": _product,
    "ReduceMax": _largest,
    "ReduceMin": _smallest,
    "ReduceL1": _norm_1,
    "ReduceL2": _norm_2,
    "ReduceSumSquare": _sum_of_squares,
    "ReduceLogSum": _log_sum,
    "ReduceLogSumExp": _log_sum_exp,
}
_HOST: dict[str, Callable[[tuple[int, ...]], int]] = {
    "ReduceSum": sum,
    "ReduceProd": math.prod,
    "ReduceMax": max,
    "ReduceMin": min,
}


@operator(*_REDUCTIONS, sizes=True)
def reduced_by_attribute(call: Call, x: Value) -> Value:
    """A reduction along the axes of an attribute, all of them by default."""
    return _reduced(call, x, call.ints("axes"))


@operator("ReduceSum", since=13, sizes=True)
@operator(*(name for name in _REDUCTIONS if name != "ReduceSum"), since=18, sizes=True)
def reduced(call: Call, x: Value, axes: Value = None) -> Value:
    """A reduction along the axes of an operand; without any along all, or none with a `noop` set."""
    along = () if axes is None else call.ints_of(axes)
    if not along and call.int("noop_with_empty_axes"):
        return _of_nothing(call, call.tensor_of(x))
    return _reduced(call, x, along)


def _of_nothing(call: Call, x: Tensor) -> Tensor:
    """A reduction along no axis: what it does to single elements."""
    return _REDUCTIONS[call.operator](x.unsqueeze(0), (0,), False)


def _reduced(call: Call, x: Value, axes: Axes) -> Value:
    keep = bool(call.int("keepdims", 1))
    if isinstance(x, Sizes) and x.rank == 1 and call.operator in _HOST and len(x):
        return Sizes([_HOST[call.operator](x.values)], int(keep), x.dtype)
    tensor = call.tensor_of(x)
    if tensor.dim() == 0:
        return _of_nothing(call, tensor)
    along = axes or tuple(range(tensor.dim()))
    made = _REDUCTIONS[call.operator](_summable(call, tensor), along, keep)
    return made if made.dtype == tensor.dtype else narrowed(made, tensor)


def _summable(call: Call, x: Tensor) -> Tensor:
    """Unsigned integers in a type that torch adds; order is seen to where it matters."""
    return x if call.operator in ("ReduceMax", "ReduceMin") else wide(x)


@operator("ArgMax", "ArgMin")
def extreme_place(call: Call, x: Tensor) -> Tensor:
    """Where along an axis the largest or smallest element is; the first of equals, or the last on demand."""
    axis, keep = call.int("axis"), bool(call.int("keepdims", 1))
    comparable = ordered(x)
    find = torch.argmax if call.operator == "ArgMax" else torch.argmin
    if not call.int("select_last_index"):
        return find(comparable, axis, keepdim=keep)
    return x.shape[axis] - 1 - find(comparable.flip(axis), axis, keepdim=keep)


@operator("CumSum", since=11, sizes=True)
def running_sum(call: Call, x: Value, axis: Value) -> Tensor:
    """Sums of the elements so far along an axis."""
    return _running(call, x, axis, torch.cumsum, 0)


@operator("CumProd", since=26, sizes=True)
def running_product(call: Call, x: Value, axis: Value) -> Tensor:
    """Products of the elements so far along an axis."""
    return _running(call, x, axis, torch.cumprod, 1)


def _running(call: Call, x: Value, axis: Value, function: Callable[..., Tensor], neutral: int) -> Tensor:
    tensor, along = call.tensor_of(x), call.int_of(axis)
    values = wide(tensor)
    values = values.flip(along) if call.int("reverse") else values
    if call.int("exclusive"):
        first = torch.full_like(values.narrow(along, 0, min(1, values.shape[along])), neutral)
        values = torch.cat([first, values], along).narrow(along, 0, values.shape[along])
    made = function(values, along, dtype=values.dtype)
    return narrowed(made.flip(along) if call.int("reverse") else made, tensor)


@operator("TopK")
def largest_by_attribute(call: Call, x: Tensor) -> tuple[Tensor, Tensor]:
    """The k largest elements along an axis and where they are."""
    return _top(x, call.int("k"), call.int("axis", -1), largest=True)


@operator("TopK", since=10, sizes=True)
def largest(call: Call, x: Value, count: Value) -> tuple[Tensor, Tensor]:
    """The k largest or smallest elements along an axis, in order, and where they are; the first of equals."""
    found = bool(call.int("largest", 1))
    return _top(call.tensor_of(x), call.int_of(count), call.int("axis", -1), largest=found)


def _top(x: Tensor, count: int, axis: int, *, largest: bool) -> tuple[Tensor, Tensor]:
    """Sorted stably, because torch's own top-k takes any of equals."""
    values, places = torch.sort(ordered(x), dim=axis, descending=largest, stable=True)
    return unordered(values.narrow(axis, 0, count), x.dtype), places.narrow(axis, 0, count)


def _over_rest(function: Callable[[Tensor, int], Tensor], x: Tensor, axis: int) -> Tensor:
    """A function over all axes from one on, taken together, as up to opset 12."""
    axis = axis % x.dim() if x.dim() else 0
    return function(x.flatten(axis), axis).reshape(x.shape) if axis < x.dim() - 1 else function(x, axis)


@operator("Softmax")
def softmax_over_rest(call: Call, x: Tensor) -> Tensor:
    """Softmax over all axes from `axis` on."""
    return _over_rest(torch.softmax, x, call.int("axis", 1))


@operator("Softmax", since=13)
def softmax(call: Call, x: Tensor) -> Tensor:
    """Softmax along an axis."""
    return torch.softmax(x, call.int("axis", -1))


@operator("LogSoftmax")
def log_softmax_over_rest(call: Call, x: Tensor) -> Tensor:
    """Logarithm of softmax over all axes from `axis` on."""
    return _over_rest(torch.log_softmax, x, call.int("axis", 1))


@operator("LogSoftmax", since=13)
def log_softmax(call: Call, x: Tensor) -> Tensor:
    """Logarithm of softmax along an axis."""
    return torch.log_softmax(x, call.int("axis", -1))


@operator("Hardmax")
def hardmax_over_rest(call: Call, x: Tensor) -> Tensor:
    """One at the largest element over all axes from `axis` on, zero elsewhere."""
    return _over_rest(_one_at_largest, x, call.int("axis", 1))


@operator("Hardmax", since=13)
def hardmax(call: Call, x: Tensor) -> Tensor:
    """One at the largest element along an axis, zero elsewhere."""
    return _one_at_largest(x, call.int("axis", -1))


def _one_at_largest(x: Tensor, axis: int) -> Tensor:
    return torch.zeros_like(x).scatter(axis, x.argmax(axis, keepdim=True), 1)
