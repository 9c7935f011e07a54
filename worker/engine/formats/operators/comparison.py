"""Comparison, logic and operators on bits."""

import operator as python
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from worker.engine.formats.operators.arithmetic import UNSIGNED, narrowed, on_host, ordered, pairwise, wide
from worker.engine.formats.operators.call import Call, Value
from worker.engine.formats.operators.registry import operator
from worker.engine.formats.operators.sizes import Sizes


def _compared(call: Call, function: Callable[[Any, Any], Any], a: Value, b: Value) -> Value:
    if on_host(a, b):
        return pairwise(function, a, b, torch.bool)  # type: ignore[arg-type]
    if isinstance(b, Sizes) and b.rank == 0 and isinstance(a, Tensor) and a.dtype not in UNSIGNED:
        made: Tensor = function(a, b.values[0])
        return made
    result: Tensor = function(ordered(call.tensor_of(a)), ordered(call.tensor_of(b)))
    return result


@operator("Equal", scalars=True)
def equal(call: Call, a: Value, b: Value) -> Value:
    """a = b."""
    return _compared(call, python.eq, a, b)


@operator("Greater", scalars=True)
def greater(call: Call, a: Value, b: Value) -> Value:
    """a > b."""
    return _compared(call, python.gt, a, b)


@operator("GreaterOrEqual", since=12, scalars=True)
def greater_or_equal(call: Call, a: Value, b: Value) -> Value:
    """a ≥ b."""
    return _compared(call, python.ge, a, b)


@operator("Less", scalars=True)
def less(call: Call, a: Value, b: Value) -> Value:
    """a < b."""
    return _compared(call, python.lt, a, b)


@operator("LessOrEqual", since=12, scalars=True)
def less_or_equal(call: Call, a: Value, b: Value) -> Value:
    """a ≤ b."""
    return _compared(call, python.le, a, b)


@operator("And", sizes=True)
def both(call: Call, a: Value, b: Value) -> Value:
    """a and b."""
    return _logic(call, torch.logical_and, python.and_, a, b)


@operator("Or", sizes=True)
def either(call: Call, a: Value, b: Value) -> Value:
    """a or b."""
    return _logic(call, torch.logical_or, python.or_, a, b)


@operator("Xor", sizes=True)
def different(call: Call, a: Value, b: Value) -> Value:
    """One of a and b."""
    return _logic(call, torch.logical_xor, python.xor, a, b)


def _logic(
    call: Call,
    function: Callable[[Tensor, Tensor], Tensor],
    host: Callable[[Any, Any], Any],
    a: Value,
    b: Value,
) -> Value:
    if isinstance(a, Sizes) and isinstance(b, Sizes):
        return pairwise(host, a, b)
    return function(call.tensor_of(a), call.tensor_of(b))


@operator("Not", sizes=True)
def negation(call: Call, a: Value) -> Value:
    """Not a."""
    if isinstance(a, Sizes):
        return a.alike([not value for value in a.values])
    return torch.logical_not(call.tensor_of(a))


@operator("BitwiseAnd", since=18)
def bits_of_both(call: Call, a: Tensor, b: Tensor) -> Tensor:
    """Bits set in both."""
    return narrowed(wide(a) & wide(b), a)


@operator("BitwiseOr", since=18)
def bits_of_either(call: Call, a: Tensor, b: Tensor) -> Tensor:
    """Bits set in one or both."""
    return narrowed(wide(a) | wide(b), a)


@operator("BitwiseXor", since=18)
def bits_of_one(call: Call, a: Tensor, b: Tensor) -> Tensor:
    """Bits set in one alone."""
    return narrowed(wide(a) ^ wide(b), a)


@operator("BitwiseNot", since=18)
def bits_turned(call: Call, a: Tensor) -> Tensor:
    """Every bit turned."""
    return narrowed(~wide(a), a)


@operator("BitShift", since=11)
def bit_shift(call: Call, x: Tensor, amount: Tensor) -> Tensor:
    """Bits moved left or right; signed numbers keep their sign to the right."""
    bits = 8 * x.dtype.itemsize
    value, by = wide(x), wide(amount).to(torch.int64)
    over = (by < 0) | (by >= bits)
    by = by.clamp(0, bits - 1).to(value.dtype)
    if call.string("direction") == "LEFT":
        return narrowed(torch.where(over, torch.zeros_like(value), value << by), x)
    shifted = value >> by
    if x.dtype == torch.uint64:
        # The highest bits are copies of the sign of int64, which uint64 does not have.
        shifted = torch.where(
            by > 0, shifted & ~(torch.full_like(value, -1) << (64 - by).clamp(max=63)), value
        )
    beyond = value >> (bits - 1) if x.dtype.is_signed else torch.zeros_like(value)
    return narrowed(torch.where(over, beyond, shifted), x)


@operator("IsNaN", since=9)
def is_nan(call: Call, x: Tensor) -> Tensor:
    """Whether an element is no number."""
    return torch.isnan(x)


@operator("IsInf", since=10)
def is_infinite(call: Call, x: Tensor) -> Tensor:
    """Whether an element is infinite, of the signs asked for."""
    above = torch.isposinf(x) if call.int("detect_positive", 1) else torch.zeros_like(x, dtype=torch.bool)
    return above | torch.isneginf(x) if call.int("detect_negative", 1) else above
