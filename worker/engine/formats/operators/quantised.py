"""ONNX Runtime's operators on quantised tensors: taken apart into numbers, computed, quantised again."""

import torch
from torch import Tensor
from torch.nn import functional

from worker.engine.formats.operators.call import Call
from worker.engine.formats.operators.linear import requantised
from worker.engine.formats.operators.registry import operator

_MICROSOFT = "com.microsoft"


def _numbers(x: Tensor, scale: Tensor, zero: Tensor | None) -> Tensor:
    """What quantised integers stand for."""
    whole = x.to(scale.dtype)
    return (whole if zero is None else whole - zero.to(scale.dtype)) * scale


def _quantised(x: Tensor, scale: Tensor, zero: Tensor | None, like: Tensor) -> Tensor:
    return requantised(x, 1 / scale, zero, like.dtype)


@operator("QLinearAdd", domain=_MICROSOFT)
def quantised_sum(
    call: Call,
    a: Tensor,
    a_scale: Tensor,
    a_zero: Tensor | None,
    b: Tensor,
    b_scale: Tensor,
    b_zero: Tensor | None,
    scale: Tensor,
    zero: Tensor | None = None,
) -> Tensor:
    """a + b."""
    return _quantised(_numbers(a, a_scale, a_zero) + _numbers(b, b_scale, b_zero), scale, zero, a)


@operator("QLinearMul", domain=_MICROSOFT)
def quantised_product(
    call: Call,
    a: Tensor,
    a_scale: Tensor,
    a_zero: Tensor | None,
    b: Tensor,
    b_scale: Tensor,
    b_zero: Tensor | None,
    scale: Tensor,
    zero: Tensor | None = None,
) -> Tensor:
    """a · b."""
    return _quantised(_numbers(a, a_scale, a_zero) * _numbers(b, b_scale, b_zero), scale, zero, a)


@operator("QLinearSigmoid", "QLinearLeakyRelu", domain=_MICROSOFT)
def quantised_activation(
    call: Call,
    x: Tensor,
    x_scale: Tensor,
    x_zero: Tensor | None,
    scale: Tensor,
    zero: Tensor | None = None,
) -> Tensor:
    """Sigmoid or leaky Relu."""
    numbers = _numbers(x, x_scale, x_zero)
    if call.operator == "QLinearSigmoid":
        return _quantised(torch.sigmoid(numbers), scale, zero, x)
    return _quantised(functional.leaky_relu(numbers, call.float("alpha", 0.01)), scale, zero, x)


@operator("QLinearGlobalAveragePool", domain=_MICROSOFT)
def quantised_mean(
    call: Call, x: Tensor, x_scale: Tensor, x_zero: Tensor, scale: Tensor, zero: Tensor
) -> Tensor:
    """The mean of every plane."""
    axes = tuple(range(1, x.dim() - 1)) if call.int("channels_last") else tuple(range(2, x.dim()))
    return _quantised(_numbers(x, x_scale, x_zero).mean(axes, keepdim=True), scale, zero, x)


@operator("QLinearConcat", domain=_MICROSOFT)
def quantised_concat(call: Call, scale: Tensor, zero: Tensor, *parts: Tensor) -> Tensor:
    """Tensors one after another, each given with its scale and zero point."""
    triples = zip(parts[::3], parts[1::3], parts[2::3], strict=True)
    return _quantised(
        torch.cat([_numbers(*triple) for triple in triples], call.int("axis")), scale, zero, parts[0]
    )
