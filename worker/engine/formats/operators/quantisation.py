"""Between floats and narrow integers: quantise, dequantise, choose a scale from the data."""

import torch
from torch import Tensor

from worker.engine.formats.operators.call import TORCH_TYPES, Call
from worker.engine.formats.operators.casting import float8
from worker.engine.formats.operators.registry import operator

#: Ranges of integers narrower than the type that holds them, by ONNX's number.
_NARROW = {21: (0, 15), 22: (-8, 7), 25: (0, 3), 26: (-2, 1)}


@operator("QuantizeLinear", since=10)
def quantize_linear(call: Call, x: Tensor, scale: Tensor, zero_point: Tensor | None = None) -> Tensor:
    """`x / scale + zero_point`, rounded half to even and kept in the range of the output's type."""
    dtype = _quantised(call, zero_point)
    steps = x / _spread(call, scale, x)
    if dtype.is_floating_point:
        return float8(call, steps, dtype)
    rounded = steps.round()
    if zero_point is not None:
        rounded = rounded + _spread(call, zero_point, x).to(rounded.dtype)
    return rounded.clamp(*_limits(call, dtype)).to(dtype)


def _quantised(call: Call, zero_point: Tensor | None) -> torch.dtype:
    if zero_point is not None:
        return zero_point.dtype
    return TORCH_TYPES[call.int("output_dtype", 0) or 2]


def _limits(call: Call, dtype: torch.dtype) -> tuple[int, int]:
    code = call.int("output_dtype", 0) or (call.types[2] if len(call.types) > 2 else 0)
    return _NARROW.get(code) or (torch.iinfo(dtype).min, torch.iinfo(dtype).max)


def _spread(call: Call, value: Tensor, like: Tensor) -> Tensor:
    """A scale or zero point beside every element: one for all, one per index of an axis, one per block."""
    if value.numel() == 1 and not call.int("block_size", 0):
        return value.reshape(())
    axis = call.int("axis", 1) % like.dim()
    block = call.int("block_size", 0)
    if block:
        return value.repeat_interleave(block, dim=axis).narrow(axis, 0, like.shape[axis])
    shape = [1] * like.dim()
    shape[axis] = -1
    return value.reshape(shape)


@operator("DequantizeLinear", since=10)
def dequantize_linear(call: Call, x: Tensor, scale: Tensor, zero_point: Tensor | None = None) -> Tensor:
    """`(x - zero_point) · scale`."""
    steps = x.to(scale.dtype)
    if zero_point is not None:
        steps = steps - _spread(call, zero_point, x).to(scale.dtype)
    out = steps * _spread(call, scale, x)
    code = call.int("output_dtype", 0)
    return out.to(call.dtype(code)) if code else out


@operator("DynamicQuantizeLinear", since=11)
def dynamic_quantize_linear(call: Call, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Bytes over the range of the data, zero included; the scale and zero point that were chosen."""
    low, high = x.amin().clamp(max=0), x.amax().clamp(min=0)
    scale = (high - low) / 255
    # All zeros: any scale will do, but none may divide by zero.
    step = torch.where(scale == 0, torch.ones_like(scale), scale)
    zero_point = (-low / step).round().clamp(0, 255)
    quantised = ((x / step).round() + zero_point).clamp(0, 255)
    return quantised.to(torch.uint8), scale, zero_point.to(torch.uint8)
