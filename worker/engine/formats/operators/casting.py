"""Types of elements, and sizes of tensors as values."""

import math

import torch
from torch import Tensor

from worker.engine.formats.operators.call import TORCH_TYPES, Call, Value
from worker.engine.formats.operators.registry import operator
from worker.engine.formats.operators.sizes import Sizes

#: ONNX's numbers of integers narrower than a byte: lowest value and how many there are.
_NARROW = {21: (0, 16), 22: (-8, 16), 25: (0, 4), 26: (-2, 4)}
_FLOAT8 = (torch.float8_e4m3fn, torch.float8_e4m3fnuz, torch.float8_e5m2, torch.float8_e5m2fnuz)
#: 448 is the largest of float8_e4m3fn, 480 would be the next.
_E4M3FN_END = 464.0


@operator("Cast", sizes=True)
def cast(call: Call, x: Value) -> Value:
    """Elements in another type; floats towards integers lose what is behind the point."""
    code = call.int("to")
    dtype = call.dtype(code)
    if isinstance(x, Sizes) and dtype in (torch.int64, torch.int32, torch.bool):
        return Sizes([bool(v) for v in x.values] if dtype == torch.bool else x.values, x.rank, dtype)
    tensor = call.tensor_of(x)
    if code in _NARROW:
        low, count = _NARROW[code]
        return ((tensor.to(torch.int64) - low) % count + low).to(dtype)
    exact = TORCH_TYPES[code]
    if exact != dtype and call.mode.floating is None:
        # Half precision is held in single, but what a file rounds is rounded.
        return tensor.to(exact).to(dtype)
    if dtype == torch.float8_e8m0fnu:
        return _power_of_two(tensor, call.string("round_mode", "up")).to(dtype)
    return float8(call, tensor, dtype) if dtype in _FLOAT8 else tensor.to(dtype)


def _power_of_two(x: Tensor, mode: str) -> Tensor:
    """The power of two above or below; torch itself takes the nearest."""
    if mode == "nearest":
        return x
    fraction, exponent = torch.frexp(x)
    exact = (fraction == 0.5) | ~torch.isfinite(x) | (x == 0)
    power = torch.ldexp(torch.ones_like(x), exponent if mode == "up" else exponent - 1)
    return torch.where(exact, x, power)


def float8(call: Call, x: Tensor, dtype: torch.dtype) -> Tensor:
    """Saturated unless the node says otherwise; else what is too large is infinite or no number."""
    limit = torch.finfo(dtype).max
    if call.int("saturate", 1):
        return x.clamp(-limit, limit).to(dtype)
    if dtype != torch.float8_e4m3fn:
        return x.to(dtype)
    # torch saturates this type by itself; from half a step past the largest on it should be no number.
    return torch.where(x.abs() > _E4M3FN_END, x.new_tensor(math.nan), x).to(dtype)


@operator("CastLike", since=15, sizes=True)
def cast_like(call: Call, x: Value, like: Value) -> Value:
    """Elements in the type of another tensor."""
    dtype = like.dtype if isinstance(like, Sizes) else call.tensor_of(like).dtype
    return float8(call, call.tensor_of(x), dtype) if dtype in _FLOAT8 else call.tensor_of(x).to(dtype)


@operator("BitCast", since=26)
def bit_cast(call: Call, x: Tensor) -> Tensor:
    """The same bits as another type of the same width; halves, held in single precision, as halves."""
    bits = x.to(TORCH_TYPES.get(call.types[0], x.dtype)).view(TORCH_TYPES[call.int("to")])
    return bits.to(call.dtype(call.int("to")))


@operator("Shape", sizes=True)
def shape(call: Call, x: Value) -> Value:
    """The sizes of the axes from `start` to `end`."""
    whole = _sizes(call, x)
    return Sizes(whole[call.int("start") : call.attributes.get("end")])


@operator("Size", sizes=True)
def size(call: Call, x: Value) -> Value:
    """How many elements there are."""
    return Sizes([math.prod(_sizes(call, x))], 0)


def _sizes(call: Call, x: Value) -> tuple[int, ...]:
    if isinstance(x, Sizes):
        return (len(x),) if x.rank else ()
    return tuple(call.tensor_of(x).shape)


@operator("ConstantOfShape", since=9, sizes=True)
def constant_of_shape(call: Call, sizes: Value) -> Value:
    """One value throughout a shape."""
    wanted, value = call.ints_of(sizes), call.tensor("value")
    if value is None:
        return torch.zeros(wanted, dtype=call.dtype(1), device=call.device)
    return value.reshape(()).expand(wanted)


@operator("Range", since=11, sizes=True)
def numbers(call: Call, start: Value, limit: Value, delta: Value) -> Value:
    """Numbers from a start up to a limit."""
    if isinstance(start, Sizes) and isinstance(limit, Sizes) and isinstance(delta, Sizes):
        bounds = (start.values[0], limit.values[0], delta.values[0])
        return torch.arange(*bounds, dtype=start.dtype, device=call.device)
    first, last, step = (call.tensor_of(value) for value in (start, limit, delta))
    if not first.is_floating_point():
        return torch.arange(first.item(), last.item(), step.item(), dtype=first.dtype, device=call.device)
    count = max(0, math.ceil(((last - first) / step).item()))
    return first + torch.arange(count, dtype=first.dtype, device=call.device) * step
