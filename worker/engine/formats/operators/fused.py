"""Convolutions and matrix products with an activation inside, as ONNX Runtime's optimizer writes them."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from worker.engine.errors import InvalidRecipeError
from worker.engine.formats.operators.call import Call
from worker.engine.formats.operators.convolution import convolved
from worker.engine.formats.operators.linear import gemm
from worker.engine.formats.operators.registry import operator

_MICROSOFT = "com.microsoft"

#: Activations by name, and the numbers that they take where the node gives none.
_ACTIVATIONS: dict[str, tuple[Callable[..., Tensor], tuple[float, ...]]] = {
    "Relu": (torch.relu, ()),
    "Sigmoid": (torch.sigmoid, ()),
    "Tanh": (torch.tanh, ()),
    "LeakyRelu": (functional.leaky_relu, (0.01,)),
    "Clip": (torch.clamp, (-torch.inf, torch.inf)),
    "HardSigmoid": (lambda x, slope, shift: torch.clamp(slope * x + shift, 0, 1), (0.2, 0.5)),
    "Elu": (functional.elu, (1.0,)),
}


def _activated(call: Call, x: Tensor, given: tuple[float, ...]) -> Tensor:
    name = call.string("activation")
    if not name:
        return x
    if name not in _ACTIVATIONS:
        raise InvalidRecipeError(
            f"{call.operator} {call.name!r} has activation {name!r}, which is not computed"
        )
    function, defaults = _ACTIVATIONS[name]
    return function(x, *(*given, *defaults[len(given) :])[: len(defaults)])


@operator("FusedConv", domain=_MICROSOFT)
def convolution(
    call: Call, x: Tensor, w: Tensor, bias: Tensor | None = None, added: Tensor | None = None
) -> Tensor:
    """Convolution, plus something of the result's shape, then an activation."""
    made = convolved(call, x, w, bias)
    return _activated(call, made if added is None else made + added, call.floats("activation_params"))


@operator("FusedGemm", domain=_MICROSOFT)
def product(call: Call, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    """Gemm, then an activation, whose parameters have names of their own."""
    names = ("activation_alpha", "activation_beta")
    parameters = tuple(call.float(name) for name in names if call.has(name))
    return _activated(call, gemm(call, a, b, c), parameters)
