"""Square matrices: determinants and identities."""

import torch
from torch import Tensor

from worker.engine.formats.operators.call import Call
from worker.engine.formats.operators.registry import operator


@operator("Det", since=11)
def det(call: Call, x: Tensor) -> Tensor:
    """The determinant of each matrix."""
    found: Tensor = torch.linalg.det(x)
    return found


@operator("EyeLike", since=9)
def eye_like(call: Call, x: Tensor) -> Tensor:
    """Ones on a diagonal, zeros elsewhere, in the shape of a matrix."""
    dtype = call.dtype(call.int("dtype")) if call.has("dtype") else x.dtype
    rows = torch.arange(x.shape[0], device=x.device).unsqueeze(1) + call.int("k", 0)
    return (rows == torch.arange(x.shape[1], device=x.device)).to(dtype)
