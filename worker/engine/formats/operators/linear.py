"""Matrix products."""

import torch
from torch import Tensor

from worker.engine.formats.operators.call import Call
from worker.engine.formats.operators.registry import operator


@operator("MatMul")
def matmul(call: Call, a: Tensor, b: Tensor) -> Tensor:
    """Batched matrix product, as numpy's."""
    if a.dtype in (torch.uint32, torch.uint64):
        return torch.matmul(a.to(torch.int64), b.to(torch.int64)).to(a.dtype)
    return torch.matmul(a, b)


@operator("FusedMatMul", domain="com.microsoft")
def fused_matmul(call: Call, a: Tensor, b: Tensor) -> Tensor:
    """alpha · A B, the last axes transposed on demand."""
    left = a.mT if call.int("transA") else a
    right = b.mT if call.int("transB") else b
    return call.float("alpha", 1.0) * torch.matmul(left, right)


@operator("Gemm")
def gemm(call: Call, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    """alpha · A B + beta · C, A and B transposed on demand."""
    left = a.mT if call.int("transA") else a
    right = b.mT if call.int("transB") else b
    alpha, beta = call.float("alpha", 1.0), call.float("beta", 1.0)
    if c is not None and left.is_floating_point():
        return torch.addmm(c, left, right, alpha=alpha, beta=beta)
    product = matmul(call, left, right)
    product = product if alpha == 1 else (alpha * product).to(product.dtype)
    return product if c is None else (product + (c if beta == 1 else beta * c)).to(product.dtype)


@operator("Einsum", since=12)
def einsum(call: Call, *operands: Tensor) -> Tensor:
    """Sums of products as the equation says."""
    equation = call.string("equation").replace(" ", "")
    if not operands[0].is_floating_point() and operands[0].dtype.itemsize < 8:
        # Sums of narrow integers wrap late in torch's matrix product and early here: the bits are the same.
        return torch.einsum(equation, *(one.to(torch.int64) for one in operands)).to(operands[0].dtype)
    return torch.einsum(equation, *operands)


@operator("MatMulInteger", since=10)
def matmul_integer(
    call: Call, a: Tensor, b: Tensor, a_zero: Tensor | None = None, b_zero: Tensor | None = None
) -> Tensor:
    """Product of 8-bit integers less their zero points, in 32 bits."""
    left, right = _less(a, _rows(a_zero)), _less(b, b_zero)
    return torch.matmul(left, right).to(torch.int32)


@operator("QLinearMatMul", since=10)
def qlinear_matmul(
    call: Call,
    a: Tensor,
    a_scale: Tensor,
    a_zero: Tensor,
    b: Tensor,
    b_scale: Tensor,
    b_zero: Tensor,
    y_scale: Tensor,
    y_zero: Tensor,
) -> Tensor:
    """Product of quantised matrices, quantised again."""
    product = torch.matmul(_less(a, _rows(a_zero)), _less(b, b_zero))
    scale = _rows(a_scale) * b_scale / _rows(y_scale)  # type: ignore[operator]
    return requantised(product, scale, _rows(y_zero), y_zero.dtype)


@operator("QGemm", domain="com.microsoft")
def qgemm(
    call: Call,
    a: Tensor,
    a_scale: Tensor,
    a_zero: Tensor,
    b: Tensor,
    b_scale: Tensor,
    b_zero: Tensor,
    c: Tensor | None = None,
    y_scale: Tensor | None = None,
    y_zero: Tensor | None = None,
) -> Tensor:
    """Gemm of quantised matrices; quantised again where a scale is given. C is of the product's scale."""
    left, right = _less(a, a_zero), _less(b, b_zero if not call.int("transB") else _rows(b_zero))
    left = left.mT if call.int("transA") else left
    product = torch.matmul(left, right.mT if call.int("transB") else right)
    product = product if c is None else product + c
    scale = call.float("alpha", 1.0) * a_scale * b_scale
    if y_scale is None or y_zero is None:
        return (product * scale).to(a_scale.dtype)
    return requantised(product, scale / y_scale, y_zero, y_zero.dtype)


def requantised(product: Tensor, scale: Tensor, zero: Tensor | None, dtype: torch.dtype) -> Tensor:
    """Accumulated products in 8 bits: scaled, rounded half to even, moved, saturated."""
    rounded = torch.round(product.to(scale.dtype) * scale)
    moved = rounded if zero is None else rounded + zero.to(rounded.dtype)
    limits = torch.iinfo(dtype)
    return moved.clamp(limits.min, limits.max).to(dtype)


def _less(x: Tensor, zero: Tensor | None) -> Tensor:
    """Exact integers in float64, which torch multiplies fast."""
    return x.double() if zero is None else x.double() - zero.double()


def _rows(value: Tensor | None) -> Tensor | None:
    """One number per row as a column."""
    return value.unsqueeze(-1) if value is not None and value.dim() == 1 and value.numel() > 1 else value
