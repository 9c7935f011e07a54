"""Stored tensors as torch tensors and back, bit for bit, the types that numpy borrows included."""

import ml_dtypes
import numpy as np
import torch
from torch import Tensor

from worker.engine.errors import InvalidRecipeError
from worker.engine.formats.base import Array

#: Types of ml_dtypes that torch has too, by the integer type that carries their bits.
_BORROWED = {
    np.dtype(ml_dtypes.bfloat16): (np.uint16, torch.bfloat16),
    np.dtype(ml_dtypes.float8_e4m3fn): (np.uint8, torch.float8_e4m3fn),
    np.dtype(ml_dtypes.float8_e4m3fnuz): (np.uint8, torch.float8_e4m3fnuz),
    np.dtype(ml_dtypes.float8_e5m2): (np.uint8, torch.float8_e5m2),
    np.dtype(ml_dtypes.float8_e5m2fnuz): (np.uint8, torch.float8_e5m2fnuz),
    np.dtype(ml_dtypes.float8_e8m0fnu): (np.uint8, torch.float8_e8m0fnu),
}
#: Narrow integers, which torch holds in bytes.
_NARROW = {
    np.dtype(ml_dtypes.int4): np.int8,
    np.dtype(ml_dtypes.uint4): np.uint8,
    np.dtype(ml_dtypes.int2): np.int8,
    np.dtype(ml_dtypes.uint2): np.uint8,
}


def to_torch(array: Array) -> Tensor:
    """A copy of the array on the CPU. InvalidRecipeError for types that torch cannot hold (texts, float4)."""
    if array.dtype in _BORROWED:
        carrier, dtype = _BORROWED[array.dtype]
        return torch.from_numpy(array.view(carrier).copy()).view(dtype)
    if array.dtype in _NARROW:
        return torch.from_numpy(array.astype(_NARROW[array.dtype]))
    try:
        return torch.from_numpy(np.array(array, array.dtype.newbyteorder("="), order="C"))
    except TypeError:
        raise InvalidRecipeError(f"torch cannot hold tensors of type {array.dtype}") from None


def to_array(tensor: Tensor, dtype: np.dtype[np.generic]) -> Array:
    """The tensor as an array of a type of a file; floats are rounded to it."""
    tensor = tensor.detach().cpu()
    if dtype in _BORROWED:
        carrier, borrowed = _BORROWED[dtype]
        return (
            tensor.to(borrowed)
            .contiguous()
            .view(torch.from_numpy(np.empty(0, carrier)).dtype)
            .numpy()
            .view(dtype)
        )
    return tensor.numpy().astype(dtype)
