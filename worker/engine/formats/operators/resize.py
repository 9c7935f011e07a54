"""Resize and Upsample: each axis by itself, as a weighted sum of the places around each new one.

What torch's own `interpolate` computes alike goes there, because it is faster.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from worker.engine.formats.operators.call import Call, Value
from worker.engine.formats.operators.registry import operator


@dataclass(frozen=True)
class _Style:
    """How places of the output become places of the input, and what is read there."""

    mode: str
    transform: str = "asymmetric"
    rounding: str = "floor"
    cubic: float = -0.75
    antialias: bool = False
    exclude_outside: bool = False
    extrapolation: float = 0.0


@dataclass(frozen=True)
class _Axis:
    """One axis: its length before and after, and the scale between, which need not be their ratio."""

    axis: int
    length: int
    size: int
    scale: float
    start: float = 0.0
    end: float = 1.0


@operator("Upsample", floats=True)
def upsample(call: Call, inputs: Value, scales: Value = None) -> Tensor:
    """Resize as it was before opset 10; the scales are an attribute until opset 9."""
    data, factors = (
        call.tensor_of(inputs),
        call.floats("scales") if scales is None else call.floats_of(scales),
    )
    return _resized(data, _scaled(data, range(data.dim()), factors), _Style(call.string("mode", "nearest")))


@operator("Resize", since=10, floats=True)
def resize_10(call: Call, inputs: Value, scales: Value) -> Tensor:
    """Resize before it had coordinate transformations."""
    data = call.tensor_of(inputs)
    axes = _scaled(data, range(data.dim()), call.floats_of(scales))
    return _resized(data, axes, _Style(call.string("mode", "nearest")))


@operator("Resize", since=11, floats=True)
def resize(call: Call, inputs: Value, roi: Value = None, scales: Value = None, sizes: Value = None) -> Tensor:
    """The input at other lengths, by nearest neighbours, linear or cubic interpolation."""
    data = call.tensor_of(inputs)
    places = call.ints("axes") or tuple(range(data.dim()))
    chosen = [axis % data.dim() for axis in places]
    if sizes is None or not call.ints_of(sizes):
        axes = _scaled(data, chosen, call.floats_of(scales))
    else:
        axes = _sized(data, chosen, call.ints_of(sizes), call.string("keep_aspect_ratio_policy", "stretch"))
    style = _style(call)
    if style.transform == "tf_crop_and_resize":
        axes = _cropped(axes, call.floats_of(roi))
    return _resized(data, axes, style)


def _style(call: Call) -> _Style:
    return _Style(
        mode=call.string("mode", "nearest"),
        transform=call.string("coordinate_transformation_mode", "half_pixel"),
        rounding=call.string("nearest_mode", "round_prefer_floor"),
        cubic=call.float("cubic_coeff_a", -0.75),
        antialias=bool(call.int("antialias", 0)),
        exclude_outside=bool(call.int("exclude_outside", 0)),
        extrapolation=call.float("extrapolation_value", 0.0),
    )


def _scaled(data: Tensor, axes: Sequence[int], scales: Sequence[float]) -> list[_Axis]:
    found = []
    for axis, scale in zip(axes, scales, strict=True):
        length = data.shape[axis]
        found.append(_Axis(axis, length, math.floor(length * scale), scale))
    return found


def _sized(data: Tensor, axes: Sequence[int], sizes: Sequence[int], policy: str) -> list[_Axis]:
    lengths = [data.shape[axis] for axis in axes]
    scales = [size / length for size, length in zip(sizes, lengths, strict=True)]
    if policy != "stretch":
        common = min(scales) if policy == "not_larger" else max(scales)
        scales = [common] * len(scales)
        sizes = [math.floor(common * length + 0.5) for length in lengths]
    return [_Axis(*row) for row in zip(axes, lengths, sizes, scales, strict=True)]


def _cropped(axes: Sequence[_Axis], roi: Sequence[float]) -> list[_Axis]:
    """Regions of interest: all starts, then all ends, as shares of the input."""
    bounds = zip(roi[: len(axes)], roi[len(axes) :], strict=True)
    return [
        _Axis(one.axis, one.length, one.size, one.scale, start, end)
        for one, (start, end) in zip(axes, bounds, strict=True)
    ]


def _resized(data: Tensor, axes: Sequence[_Axis], style: _Style) -> Tensor:
    moved = [
        one for one in axes if one.size != one.length or one.scale != 1 or (one.start, one.end) != (0, 1)
    ]
    quick = _interpolated(data, moved, style)
    if quick is not None:
        return quick
    if style.mode == "nearest":
        return _nearest(data, moved, style)
    wide = data if data.is_floating_point() else data.float()
    out = wide
    for one in moved:
        out = _weighted(out, one, style)
    if style.transform == "tf_crop_and_resize":
        out = _extrapolated(out, moved, style)
    return out if data.is_floating_point() else _saturated(out, data.dtype)


def _saturated(values: Tensor, dtype: torch.dtype) -> Tensor:
    limits = torch.iinfo(dtype)
    return values.clamp(limits.min, limits.max).to(dtype)


def _interpolated(data: Tensor, axes: Sequence[_Axis], style: _Style) -> Tensor | None:
    """By torch's own kernels, where they are defined alike."""
    spatial = range(2, data.dim())
    if not axes or data.dim() not in (4, 5) or any(one.axis not in spatial for one in axes):
        return None
    sizes = list(data.shape[2:])
    for one in axes:
        sizes[one.axis - 2] = one.size
    if style.mode == "nearest":
        return functional.interpolate(data, sizes) if _repeats(axes, style) else None
    exact = all(abs(one.scale * one.length - one.size) < 1e-4 for one in axes)
    if style.mode != "linear" or style.antialias or not exact or not data.is_floating_point():
        return None
    if style.transform not in ("half_pixel", "pytorch_half_pixel", "align_corners"):
        return None
    if style.transform == "pytorch_half_pixel" and any(one.size == 1 for one in axes):
        # One place alone is the first there, the middle in torch of today.
        return None
    kernel = "bilinear" if data.dim() == 4 else "trilinear"
    return functional.interpolate(data, sizes, mode=kernel, align_corners=style.transform == "align_corners")


def _repeats(axes: Sequence[_Axis], style: _Style) -> bool:
    """Whether each element is only repeated: a whole scale, read at the element's own place."""
    whole = all(one.scale == one.size // one.length and one.size % one.length == 0 for one in axes)
    own = style.transform == "asymmetric" and style.rounding == "floor"
    centred = style.transform == "half_pixel" and style.rounding.startswith("round")
    return whole and (own or centred)


def _places(one: _Axis, style: _Style, device: torch.device) -> Tensor:
    """Where on the input each place of the output lies.

    In single precision and in ONNX Runtime's order, so that what lies halfway is rounded as it does.
    """
    steps = torch.arange(one.size, dtype=torch.float32, device=device)
    last = one.length - 1
    match style.transform:
        case "align_corners":
            return steps * last / (one.size - 1) if one.size > 1 else steps
        case "asymmetric":
            return steps / one.scale
        case "tf_crop_and_resize":
            if one.size == 1:
                return steps + 0.5 * (one.start + one.end) * last
            return one.start * last + steps * (one.end - one.start) * last / (one.size - 1)
        case "tf_half_pixel_for_nn":
            return (steps + 0.5) / one.scale
        case "pytorch_half_pixel" if one.size == 1:
            return steps
        case "half_pixel_symmetric":
            offset = one.length / 2 * (1 - one.size / (steps.new_tensor(one.scale) * one.length))
            return offset + (steps + 0.5) / one.scale - 0.5
    return (steps + 0.5) / one.scale - 0.5


def _nearest(data: Tensor, axes: Sequence[_Axis], style: _Style) -> Tensor:
    out = data
    for one in axes:
        places = _rounded(_places(one, style, data.device), style.rounding)
        out = out.index_select(one.axis, places.long().clamp(0, one.length - 1))
    return _extrapolated(out, axes, style) if style.transform == "tf_crop_and_resize" else out


def _rounded(places: Tensor, rounding: str) -> Tensor:
    match rounding:
        case "floor":
            return places.floor()
        case "ceil":
            return places.ceil()
        case "round_prefer_ceil":
            return (places + 0.5).floor()
    return (places - 0.5).ceil()


def _weighted(data: Tensor, one: _Axis, style: _Style) -> Tensor:
    """One axis resized: the weights of a kernel at each tap, those outside read at the edge."""
    places = _places(one, style, data.device)
    stretch = min(one.scale, 1.0) if style.antialias else 1.0
    radius = 1 if style.mode == "linear" else 2
    first = math.floor(-radius / stretch) + 1
    reach = torch.arange(first, 2 - first, device=data.device)
    taps = places.ceil().long().unsqueeze(1) - 1 + reach
    weights = _kernel((taps - places.unsqueeze(1)).abs() * stretch, style)
    if style.exclude_outside:
        weights = weights * ((taps >= 0) & (taps < one.length))
    if style.exclude_outside or style.antialias:
        weights = weights / weights.sum(dim=1, keepdim=True)
    inside = taps.clamp(0, one.length - 1).reshape(-1)
    before, after = data.shape[: one.axis], data.shape[one.axis + 1 :]
    columns = data.index_select(one.axis, inside).reshape(*before, *taps.shape, *after)
    spread = weights.to(data.dtype).reshape(*taps.shape, *(1 for _ in after))
    return torch.sum(columns * spread, dim=one.axis + 1)


def _kernel(distance: Tensor, style: _Style) -> Tensor:
    if style.mode == "linear":
        return (1 - distance).clamp(min=0)
    a = style.cubic
    near = ((a + 2) * distance - (a + 3)) * distance * distance + 1
    far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    return torch.where(distance <= 1, near, torch.where(distance < 2, far, torch.zeros_like(far)))


def _extrapolated(out: Tensor, axes: Sequence[_Axis], style: _Style) -> Tensor:
    """A fixed value wherever any coordinate falls outside the input."""
    for one in axes:
        places = _places(one, style, out.device)
        shape = [1] * out.dim()
        shape[one.axis] = one.size
        outside = ((places < 0) | (places > one.length - 1)).reshape(shape)
        out = out.masked_fill(outside, style.extrapolation)
    return out


@operator("CenterCropPad", since=18, sizes=True)
def center_crop_pad(call: Call, inputs: Value, shape: Value) -> Tensor:
    """Cut or filled with zeros to the lengths given, the middle kept in the middle."""
    out = call.tensor_of(inputs)
    axes = call.ints("axes") or tuple(range(out.dim()))
    for axis, size in zip(axes, call.ints_of(shape), strict=True):
        length = out.shape[axis]
        if size <= length:
            out = out.narrow(axis, (length - size) // 2, size)
            continue
        before = (size - length) // 2
        padding = [0, 0] * (out.dim() - 1 - axis % out.dim())
        out = functional.pad(out, [*padding, before, size - length - before])
    return out
