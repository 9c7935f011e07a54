"""Arithmetic with broadcasting."""

import operator as python
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from worker.engine.formats.operators.call import Call, Value
from worker.engine.formats.operators.registry import operator
from worker.engine.formats.operators.sizes import Sizes


def arithmetic(call: Call, function: Callable[[Any, Any], Any], a: Value, b: Value) -> Value:
    """A function of two operands: on the host where both are host integers, else on tensors."""
    if isinstance(a, Sizes) and isinstance(b, Sizes):
        length = max(len(a), len(b))
        left = a.values * length if len(a) == 1 else a.values
        right = b.values * length if len(b) == 1 else b.values
        return Sizes([function(x, y) for x, y in zip(left, right, strict=True)], max(a.rank, b.rank), a.dtype)
    made: Tensor = function(call.tensor_of(a), call.tensor_of(b))
    return made


@operator("Add", sizes=True)
def add(call: Call, a: Value, b: Value) -> Value:
    """a + b."""
    return arithmetic(call, python.add, a, b)


@operator("Sub", sizes=True)
def subtract(call: Call, a: Value, b: Value) -> Value:
    """a - b."""
    return arithmetic(call, python.sub, a, b)


@operator("Mul", sizes=True)
def multiply(call: Call, a: Value, b: Value) -> Value:
    """a · b."""
    return arithmetic(call, python.mul, a, b)


@operator("Relu")
def relu(call: Call, x: Tensor) -> Tensor:
    """max(0, x)."""
    return torch.relu(x)
