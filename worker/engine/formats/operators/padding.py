"""Padding: constant, reflected, of the edge, wrapped."""

import torch
from torch import Tensor
from torch.nn import functional

from worker.engine.formats.operators.arithmetic import narrowed, wide
from worker.engine.formats.operators.call import Call, Value
from worker.engine.formats.operators.registry import operator
from worker.engine.formats.operators.sizes import Sizes

#: What torch pads by itself, for the last axes of a tensor with batch and channels.
_NATIVE = {"reflect": "reflect", "edge": "replicate"}


@operator("Pad")
def pad_by_attributes(call: Call, x: Tensor) -> Tensor:
    """Padding of fixed sizes."""
    return _padded(call, x, call.ints("pads"), call.float("value"))


@operator("Pad", since=11, scalars=True)
def pad(call: Call, x: Value, pads: Value, value: Value = None, axes: Value = None) -> Tensor:
    """Padding by operands: sizes before all axes, then after all axes, or of those that are named."""
    tensor, sizes = call.tensor_of(x), call.ints_of(pads)
    if axes is not None:
        along, whole = call.ints_of(axes), [0] * (2 * tensor.dim())
        for index, axis in enumerate(along):
            whole[axis % tensor.dim()] = sizes[index]
            whole[axis % tensor.dim() + tensor.dim()] = sizes[index + len(along)]
        sizes = tuple(whole)
    return _padded(call, tensor, sizes, _number(call, value))


def _number(call: Call, value: Value) -> float:
    """What is padded with, on the host."""
    if value is None:
        return 0.0
    if isinstance(value, Sizes):
        return float(value.values[0])
    number: float = call.tensor_of(value).reshape(-1)[0].item()
    return number


def _padded(call: Call, x: Tensor, pads: tuple[int, ...], value: float) -> Tensor:
    befores, afters = pads[: x.dim()], pads[x.dim() :]
    flat = [size for pair in zip(reversed(befores), reversed(afters), strict=True) for size in pair]
    mode = call.string("mode", "constant")
    if mode == "constant":
        return narrowed(functional.pad(wide(x), flat, value=value), x)
    spatial = x.dim() - 2
    native = mode in _NATIVE and 1 <= spatial <= 3 and x.is_floating_point() and not any(flat[2 * spatial :])
    if native and min(flat) >= 0 and _fits(x, flat[: 2 * spatial], mode):
        return functional.pad(x, flat[: 2 * spatial], mode=_NATIVE[mode])
    for axis, (before, after) in enumerate(zip(befores, afters, strict=True)):
        if before or after:
            places = _places(x.shape[axis], before, after, mode)
            x = x.index_select(axis, torch.tensor(places, device=x.device))
    return x


def _fits(x: Tensor, flat: list[int], mode: str) -> bool:
    """torch reflects no further than the tensor is long."""
    sizes = reversed(x.shape[2:])
    pairs = [flat[i : i + 2] for i in range(0, len(flat), 2)]
    return mode != "reflect" or all(max(pair) < size for pair, size in zip(pairs, sizes, strict=True))


def _places(size: int, before: int, after: int, mode: str) -> list[int]:
    """Which element each place of a padded axis shows."""
    raw = range(-before, size + after)
    if mode == "edge":
        return [min(max(place, 0), size - 1) for place in raw]
    if mode == "wrap":
        # What lies outside repeats what negative padding has left of the axis.
        start, end = max(0, -before), size - max(0, -after)
        return [(place - start) % (end - start) + start for place in raw]
    period = max(1, 2 * (size - 1))
    return [min(place % period, period - place % period) if size > 1 else 0 for place in raw]
