"""Pooling over windows and over whole planes."""

import torch
from torch import Tensor
from torch.nn import functional

from worker.engine.errors import InvalidRecipeError
from worker.engine.formats.operators.call import Call, Value
from worker.engine.formats.operators.registry import operator
from worker.engine.formats.operators.windows import Window, window

_MAXIMA = {1: functional.max_pool1d, 2: functional.max_pool2d, 3: functional.max_pool3d}
_MEANS = {1: functional.avg_pool1d, 2: functional.avg_pool2d, 3: functional.avg_pool3d}
_SUMS = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}


def _window(call: Call, x: Tensor) -> Window:
    if x.dim() - 2 not in _MAXIMA:
        raise InvalidRecipeError(f"torch pools one to three spatial axes, {call.name!r} has {x.dim() - 2}")
    return window(call, x.shape[2:], call.ints("kernel_shape"), crop=True)


def _simple(geometry: Window) -> bool:
    """Whether torch's own pooling takes the padding."""
    halves = all(2 * pad <= kernel for pad, kernel in zip(geometry.begins, geometry.kernel, strict=True))
    return geometry.symmetric and halves and min(geometry.begins) >= 0


def _padded(call: Call, x: Tensor, geometry: Window, value: float) -> Tensor:
    """The input with its padding and with what windows reach over it."""
    padding = geometry.padding()
    if call.int("ceil_mode"):
        for axis, over in enumerate(reversed(geometry.overhang(x.shape[2:]))):
            padding[2 * axis + 1] += over
    return functional.pad(x, padding, value=value) if any(padding) else x


@operator("MaxPool")
def max_pool(call: Call, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
    """The largest element of every window; on demand where in the whole tensor it lies."""
    geometry, pool = _window(call, x), _MAXIMA[x.dim() - 2]
    strides, dilations = geometry.strides, geometry.dilations
    if not x.is_floating_point():
        return _integer_max_pool(call, x)
    if _simple(geometry) and call.outputs == 1:
        ceil = bool(call.int("ceil_mode"))
        made: Tensor = pool(x, geometry.kernel, strides, geometry.begins, dilations, ceil)
        return made
    padded = _padded(call, x, geometry, float("-inf"))
    if call.outputs == 1:
        return pool(padded, geometry.kernel, strides, 0, dilations)
    largest, places = pool(padded, geometry.kernel, strides, 0, dilations, return_indices=True)
    return largest, _in_whole(places, padded, x, geometry, call.int("storage_order"))


def _integer_max_pool(call: Call, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
    """Integers of up to 32 bits by way of float64, which holds them."""
    made = max_pool(call, x.double())
    return (made[0].to(x.dtype), made[1]) if isinstance(made, tuple) else made.to(x.dtype)


def _in_whole(places: Tensor, padded: Tensor, x: Tensor, geometry: Window, column_major: int) -> Tensor:
    """Indices within padded planes as indices into the whole unpadded tensor."""
    coordinates = []
    for axis in reversed(range(x.dim() - 2)):
        size = padded.shape[2 + axis]
        coordinates.append(places % size - geometry.begins[axis])
        places = places // size
    coordinates.reverse()
    order = range(len(coordinates)) if not column_major else reversed(range(len(coordinates)))
    flat = torch.zeros_like(places)
    for axis in order:
        flat = flat * x.shape[2 + axis] + coordinates[axis]
    planes = torch.arange(x.shape[0] * x.shape[1], device=x.device).reshape(
        *x.shape[:2], *(1,) * len(coordinates)
    )
    return flat + planes * torch.Size(x.shape[2:]).numel()


@operator("AveragePool")
def average_pool(call: Call, x: Tensor) -> Tensor:
    """The mean of every window, with padding counted or not."""
    geometry, pool = _window(call, x), _MEANS[x.dim() - 2]
    counted = bool(call.int("count_include_pad"))
    if _simple(geometry) and set(geometry.dilations) == {1}:
        ceil = bool(call.int("ceil_mode"))
        made: Tensor = pool(x, geometry.kernel, geometry.strides, geometry.begins, ceil, counted)
        return made
    ones = x.new_ones(1, 1, *x.shape[2:])
    inner = functional.pad(ones, geometry.padding(), value=float(counted))
    over = [0, 0] * (x.dim() - 2)
    if call.int("ceil_mode"):
        over[1::2] = reversed(geometry.overhang(x.shape[2:]))
    counts = _summed(functional.pad(inner, over), geometry)
    return _summed(_padded(call, x, geometry, 0.0), geometry) / counts


def _summed(x: Tensor, geometry: Window) -> Tensor:
    """Sums of windows of a padded input."""
    planes = x.reshape(-1, 1, *x.shape[2:])
    ones = x.new_ones(1, 1, *geometry.kernel)
    sums = _SUMS[x.dim() - 2](planes, ones, None, geometry.strides, 0, geometry.dilations)
    return sums.reshape(*x.shape[:2], *sums.shape[2:])


@operator("LpPool")
def lp_pool(call: Call, x: Tensor) -> Tensor:
    """The p-norm of every window."""
    geometry, p = _window(call, x), call.int("p", 2)
    return _root(_summed(_padded(call, x, geometry, 0.0).abs() ** p, geometry), p)


def _root(x: Tensor, p: int) -> Tensor:
    return x if p == 1 else torch.sqrt(x) if p == 2 else x ** (1 / p)


@operator("GlobalAveragePool")
def global_average_pool(call: Call, x: Tensor) -> Tensor:
    """The mean of every plane."""
    return x.mean(tuple(range(2, x.dim())), keepdim=True)


@operator("GlobalMaxPool")
def global_max_pool(call: Call, x: Tensor) -> Tensor:
    """The largest element of every plane."""
    return x.amax(tuple(range(2, x.dim())), keepdim=True)


@operator("GlobalLpPool")
def global_lp_pool(call: Call, x: Tensor) -> Tensor:
    """The p-norm of every plane."""
    p = call.int("p", 2)
    return _root((x.abs() ** p).sum(tuple(range(2, x.dim())), keepdim=True), p)


@operator("MaxUnpool", since=9, sizes=True)
def max_unpool(call: Call, values: Value, places: Value, shape: Value = None) -> Tensor:
    """Elements put back where MaxPool found them, zero elsewhere."""
    x, indices = call.tensor_of(values), call.tensor_of(places)
    geometry = _window(call, x)
    inferred = [
        (size - 1) * stride + kernel - begin - end
        for size, stride, kernel, begin, end in zip(
            x.shape[2:], geometry.strides, geometry.kernel, geometry.begins, geometry.ends, strict=True
        )
    ]
    whole = call.ints_of(shape) if shape is not None else (*x.shape[:2], *inferred)
    flat = x.new_zeros(torch.Size(whole).numel())
    return flat.scatter(0, indices.reshape(-1), x.reshape(-1)).reshape(whole)
