"""Functions of one operand: signs, rounding, powers, trigonometry."""

import torch
from torch import Tensor

from worker.engine.formats.operators.arithmetic import UNSIGNED, narrowed, wide
from worker.engine.formats.operators.call import Call, Value
from worker.engine.formats.operators.registry import operator
from worker.engine.formats.operators.sizes import Sizes

_PLAIN = {
    "Acos": torch.acos,
    "Acosh": torch.acosh,
    "Asin": torch.asin,
    "Asinh": torch.asinh,
    "Atan": torch.atan,
    "Atanh": torch.atanh,
    "Cos": torch.cos,
    "Cosh": torch.cosh,
    "Erf": torch.erf,
    "Exp": torch.exp,
    "Log": torch.log,
    "Reciprocal": torch.reciprocal,
    "Round": torch.round,
    "Sin": torch.sin,
    "Sinh": torch.sinh,
    "Sqrt": torch.sqrt,
    "Tan": torch.tan,
    "Tanh": torch.tanh,
}


@operator(*_PLAIN)
def plain(call: Call, x: Tensor) -> Tensor:
    """The function of torch that has the operator's name (Round takes halves to even)."""
    return _PLAIN[call.operator](x)


@operator("Abs", sizes=True)
def absolute(call: Call, x: Value) -> Value:
    """|x|."""
    if isinstance(x, Sizes):
        return x.alike([abs(value) for value in x.values])
    tensor = call.tensor_of(x)
    return tensor if tensor.dtype in UNSIGNED else torch.abs(tensor)


@operator("Neg", sizes=True)
def negative(call: Call, x: Value) -> Value:
    """-x."""
    if isinstance(x, Sizes):
        return x.alike([-value for value in x.values])
    return torch.neg(call.tensor_of(x))


@operator("Sign", since=9)
def sign(call: Call, x: Tensor) -> Tensor:
    """-1, 0 or 1."""
    return narrowed((x != 0).to(torch.int64), x) if x.dtype in UNSIGNED else torch.sign(x)


@operator("Ceil", "Floor", sizes=True)
def rounded(call: Call, x: Value) -> Value:
    """The next integer above or below."""
    if isinstance(x, Sizes):
        return x
    return torch.ceil(call.tensor_of(x)) if call.operator == "Ceil" else torch.floor(call.tensor_of(x))


@operator("Clip", since=7)
def clip_by_attributes(call: Call, x: Tensor) -> Tensor:
    """x held between two fixed bounds."""
    return x.clamp(call.attributes.get("min"), call.attributes.get("max")) if call.attributes else x


@operator("Clip", since=11, scalars=True)
def clip(call: Call, x: Value, low: Value = None, high: Value = None) -> Value:
    """x held between bounds; where they cross, the upper one."""
    tensor = call.tensor_of(x)
    if low is None and high is None:
        return tensor
    if all(bound is None or isinstance(bound, Sizes) for bound in (low, high)):
        return tensor.clamp(*(bound.values[0] if isinstance(bound, Sizes) else None for bound in (low, high)))
    bounds = [None if bound is None else wide(call.tensor_of(bound)).reshape(()) for bound in (low, high)]
    return narrowed(torch.clamp(wide(tensor), *bounds), tensor)
