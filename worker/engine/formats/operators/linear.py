"""Matrix products."""

import torch
from torch import Tensor

from worker.engine.formats.operators.call import Call
from worker.engine.formats.operators.registry import operator


@operator("MatMul")
def matmul(call: Call, a: Tensor, b: Tensor) -> Tensor:
    """Batched matrix product, as numpy's."""
    return torch.matmul(a, b)


@operator("Gemm")
def gemm(call: Call, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    """alpha · A B + beta · C, A and B transposed on demand."""
    left = a.mT if call.int("transA") else a
    right = b.mT if call.int("transB") else b
    alpha, beta = call.float("alpha", 1.0), call.float("beta", 1.0)
    if c is not None and beta != 0 and left.is_floating_point():
        return torch.addmm(c, left, right, alpha=alpha, beta=beta)
    product = torch.matmul(left, right) if alpha == 1 else alpha * torch.matmul(left, right)
    return product if c is None else product + beta * c
