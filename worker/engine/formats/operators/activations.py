"""Activations."""

import torch
from torch import Tensor
from torch.nn import functional

from worker.engine.formats.operators.call import Call
from worker.engine.formats.operators.registry import operator


@operator("Relu")
def relu(call: Call, x: Tensor) -> Tensor:
    """max(0, x)."""
    return torch.relu(x)


@operator("LeakyRelu")
def leaky_relu(call: Call, x: Tensor) -> Tensor:
    """x above zero, alpha · x below."""
    return functional.leaky_relu(x, call.float("alpha", 0.01))


@operator("PRelu")
def prelu(call: Call, x: Tensor, slope: Tensor) -> Tensor:
    """x above zero, slope · x below; the slope broadcasts to x."""
    if slope.numel() == 1 or (slope.dim() == x.dim() - 1 and slope.numel() == slope.shape[0] == x.shape[1]):
        return functional.prelu(x, slope.reshape(-1))
    return torch.where(x < 0, slope * x, x)


@operator("ThresholdedRelu", since=10)
def thresholded_relu(call: Call, x: Tensor) -> Tensor:
    """x above alpha, zero below."""
    return torch.where(x > call.float("alpha", 1.0), x, torch.zeros_like(x))


@operator("Elu")
def elu(call: Call, x: Tensor) -> Tensor:
    """x above zero, alpha · (eˣ - 1) below."""
    return functional.elu(x, call.float("alpha", 1.0))


@operator("Celu", since=12)
def celu(call: Call, x: Tensor) -> Tensor:
    """max(0, x) + min(0, alpha · (e^(x/alpha) - 1))."""
    return functional.celu(x, call.float("alpha", 1.0))


@operator("Selu")
def selu(call: Call, x: Tensor) -> Tensor:
    """gamma · elu(x)."""
    alpha = call.float("alpha", 1.67326319217681884765625)
    return call.float("gamma", 1.05070102214813232421875) * functional.elu(x, alpha)


@operator("Gelu", since=20)
def gelu(call: Call, x: Tensor) -> Tensor:
    """x · Φ(x), exact or by tanh."""
    return functional.gelu(x, approximate=call.string("approximate", "none"))


@operator("Gelu", domain="com.microsoft")
def gelu_of_ort(call: Call, x: Tensor) -> Tensor:
    """x · Φ(x)."""
    return functional.gelu(x)


@operator("BiasGelu", domain="com.microsoft")
def bias_gelu(call: Call, x: Tensor, bias: Tensor) -> Tensor:
    """Gelu of x + bias."""
    return functional.gelu(x + bias)


@operator("FastGelu", domain="com.microsoft")
def fast_gelu(call: Call, x: Tensor, bias: Tensor | None = None) -> Tensor:
    """Gelu by tanh, of x + bias."""
    return functional.gelu(x if bias is None else x + bias, approximate="tanh")


@operator("QuickGelu", domain="com.microsoft")
def quick_gelu(call: Call, x: Tensor) -> Tensor:
    """x · sigmoid(alpha · x)."""
    return x * torch.sigmoid(call.float("alpha", 1.702) * x)


@operator("Sigmoid")
def sigmoid(call: Call, x: Tensor) -> Tensor:
    """1 / (1 + e⁻ˣ)."""
    return torch.sigmoid(x)


@operator("HardSigmoid")
def hard_sigmoid(call: Call, x: Tensor) -> Tensor:
    """alpha · x + beta, held between 0 and 1."""
    return torch.clamp(call.float("alpha", 0.2) * x + call.float("beta", 0.5), 0, 1)


@operator("HardSwish", since=14)
def hard_swish(call: Call, x: Tensor) -> Tensor:
    """x · (x / 6 + 1/2 held between 0 and 1)."""
    return functional.hardswish(x)


@operator("Swish", since=24)
def swish(call: Call, x: Tensor) -> Tensor:
    """x · sigmoid(alpha · x)."""
    alpha = call.float("alpha", 1.0)
    return functional.silu(x) if alpha == 1 else x * torch.sigmoid(alpha * x)


@operator("SwiGLU", since=28)
def swiglu(call: Call, gate: Tensor, x: Tensor) -> Tensor:
    """Swish of the gate, times x."""
    return swish(call, gate) * x


@operator("Softplus")
def softplus(call: Call, x: Tensor) -> Tensor:
    """log(1 + eˣ)."""
    return functional.softplus(x)


@operator("Softsign")
def softsign(call: Call, x: Tensor) -> Tensor:
    """x / (1 + |x|)."""
    return functional.softsign(x)


@operator("Mish", since=18)
def mish(call: Call, x: Tensor) -> Tensor:
    """x · tanh(softplus(x))."""
    return functional.mish(x)


@operator("Shrink", since=9)
def shrink(call: Call, x: Tensor) -> Tensor:
    """Zero between -lambd and lambd, outside x moved towards zero by the bias."""
    bound, bias = call.float("lambd", 0.5), call.float("bias", 0.0)
    below = torch.where(x < -bound, x + bias, torch.zeros_like(x))
    return torch.where(x > bound, x - bias, below).to(x.dtype)
