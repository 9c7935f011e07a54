"""Arithmetic with broadcasting, on tensors and on host integers."""

import operator as python
from collections.abc import Callable
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from worker.engine.formats.operators.call import Call, Value
from worker.engine.formats.operators.registry import operator
from worker.engine.formats.operators.sizes import Sizes

#: Unsigned types that torch stores but hardly computes with.
UNSIGNED = (torch.uint16, torch.uint32, torch.uint64)


def wide(value: Any) -> Any:
    """The value in int64 where torch cannot compute with its unsigned type (of uint64 the bits)."""
    if isinstance(value, Tensor) and value.dtype in UNSIGNED:
        return value.view(torch.int64) if value.dtype == torch.uint64 else value.to(torch.int64)
    return value


def narrowed(made: Tensor, like: Tensor) -> Tensor:
    """The result in the unsigned type of an operand that was widened; overflow wraps."""
    if like.dtype not in UNSIGNED or made.dtype != torch.int64:
        return made
    return made.view(torch.uint64) if like.dtype == torch.uint64 else made.to(like.dtype)


def on_host(a: Value, b: Value) -> bool:
    """Whether both are host integers."""
    return isinstance(a, Sizes) and isinstance(b, Sizes) and not (a.floating or b.floating)


def operand(call: Call, value: Value, other: Value) -> Any:
    """What torch is given: a plain number for a fixed single one beside a tensor, else a tensor."""
    if isinstance(value, Sizes) and value.rank == 0 and isinstance(other, Tensor):
        return value.values[0]
    return wide(call.tensor_of(value))


def pairwise(
    function: Callable[[Any, Any], Any], a: Sizes, b: Sizes, dtype: torch.dtype | None = None
) -> Sizes:
    """A function of two host values that broadcast."""
    length = max(len(a), len(b)) if len(a) and len(b) else 0
    left = a.values * length if len(a) == 1 else a.values
    right = b.values * length if len(b) == 1 else b.values
    made = [function(x, y) for x, y in zip(left, right, strict=True)]
    return Sizes(made, max(a.rank, b.rank), dtype or a.dtype)


def arithmetic(call: Call, function: Callable[[Any, Any], Any], a: Value, b: Value) -> Value:
    """A function of two operands: on the host where both are host integers, else on tensors."""
    if isinstance(a, Tensor) and isinstance(b, Tensor) and a.dtype not in UNSIGNED:
        made: Tensor = function(a, b)
        return made
    if on_host(a, b):
        return pairwise(function, a, b)  # type: ignore[arg-type]
    made = function(operand(call, a, b), operand(call, b, a))
    return narrowed(made, a if isinstance(a, Tensor) else call.tensor_of(b))


@operator("Add", scalars=True)
def add(call: Call, a: Value, b: Value) -> Value:
    """a + b."""
    return arithmetic(call, python.add, a, b)


@operator("Sub", scalars=True)
def subtract(call: Call, a: Value, b: Value) -> Value:
    """a - b."""
    return arithmetic(call, python.sub, a, b)


@operator("Mul", scalars=True)
def multiply(call: Call, a: Value, b: Value) -> Value:
    """a · b."""
    return arithmetic(call, python.mul, a, b)


@operator("Div", scalars=True)
def divide(call: Call, a: Value, b: Value) -> Value:
    """a / b; of integers what is left of the point."""
    return arithmetic(call, _quotient, a, b)


def _quotient(a: Any, b: Any) -> Any:
    tensor = a if isinstance(a, Tensor) else b
    if isinstance(tensor, Tensor):
        return a / b if tensor.is_floating_point() else torch.div(a, b, rounding_mode="trunc")
    if isinstance(a, int) and isinstance(b, int) and (a < 0) != (b < 0):
        return -(-a // b)
    return a // b


@operator("Mod", since=10, sizes=True)
def modulo(call: Call, a: Value, b: Value) -> Value:
    """What division leaves: with the sign of b, or of a with `fmod`."""
    if on_host(a, b) and not call.int("fmod"):
        return arithmetic(call, python.mod, a, b)
    function = torch.fmod if call.int("fmod") else torch.remainder
    return arithmetic(call, function, call.tensor_of(a), call.tensor_of(b))


@operator("Pow", scalars=True)
def power(call: Call, base: Value, exponent: Value) -> Value:
    """base to the exponent, in the type of the base."""
    x, dtype = wide(call.tensor_of(base)), call.tensor_of(base).dtype
    if isinstance(exponent, Sizes) and exponent.rank == 0 and x.is_floating_point():
        return torch.pow(x, exponent.values[0])
    y = wide(call.tensor_of(exponent))
    if y.is_floating_point() and not x.is_floating_point():
        return torch.pow(x.double(), y.double()).to(dtype)
    return torch.pow(x, y.to(x.dtype) if x.is_floating_point() else y).to(dtype)


@operator("Sum")
def total(call: Call, *operands: Tensor) -> Tensor:
    """The sum of any number of operands."""
    return reduce(torch.add, operands)


@operator("Mean")
def mean(call: Call, *operands: Tensor) -> Tensor:
    """The mean of any number of operands."""
    return reduce(torch.add, operands) / len(operands)


@operator("Max", sizes=True)
def maximum(call: Call, *operands: Value) -> Value:
    """The largest of the operands."""
    return _extreme(call, max, torch.maximum, operands)


@operator("Min", sizes=True)
def minimum(call: Call, *operands: Value) -> Value:
    """The smallest of the operands."""
    return _extreme(call, min, torch.minimum, operands)


def _extreme(
    call: Call,
    host: Callable[[Any, Any], Any],
    function: Callable[[Tensor, Tensor], Tensor],
    operands: tuple[Value, ...],
) -> Value:
    if all(isinstance(value, Sizes) for value in operands):
        return reduce(lambda a, b: pairwise(host, a, b), operands)  # type: ignore[arg-type]
    tensors = [ordered(call.tensor_of(value)) for value in operands]
    return unordered(reduce(function, tensors), call.tensor_of(operands[0]).dtype)


def ordered(x: Tensor) -> Tensor:
    """The same order in a type that torch compares: uint64 with its highest bit turned."""
    if x.dtype == torch.uint64:
        return x.view(torch.int64) ^ torch.iinfo(torch.int64).min
    return x.to(torch.int64) if x.dtype in UNSIGNED else x


def unordered(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Back from `ordered`."""
    if dtype == torch.uint64:
        return (x ^ torch.iinfo(torch.int64).min).view(torch.uint64)
    return x.to(dtype) if dtype in UNSIGNED else x
