"""Operators that move, reshape or describe tensors."""

import torch
from torch import Tensor

from worker.engine.formats.operators.call import Call, Value
from worker.engine.formats.operators.registry import operator
from worker.engine.formats.operators.sizes import Sizes


@operator("Identity", sizes=True)
def identity(call: Call, x: Value) -> Value:
    """x."""
    return x


@operator("Reshape", sizes=True)
def reshape(call: Call, x: Value, shape: Value) -> Value:
    """The elements in another shape; 0 keeps a size unless `allowzero`, -1 is what is left."""
    sizes = call.ints_of(shape)
    if isinstance(x, Sizes) and len(sizes) == 1:
        return Sizes(x.values, 1, x.dtype)
    tensor = call.tensor_of(x)
    if not call.int("allowzero"):
        sizes = tuple(tensor.shape[i] if size == 0 else size for i, size in enumerate(sizes))
    return tensor.reshape(sizes)


@operator("Transpose")
def transpose(call: Call, x: Tensor) -> Tensor:
    """Axes in another order, reversed by default."""
    order = call.ints("perm") or tuple(reversed(range(x.dim())))
    return x.permute(order)


@operator("Flatten")
def flatten(call: Call, x: Tensor) -> Tensor:
    """A matrix: the axes before `axis` by the rest."""
    axis = call.int("axis", 1)
    axis += x.dim() if axis < 0 else 0
    rows = torch.Size(x.shape[:axis]).numel()
    return x.reshape(rows, -1) if rows else x.reshape(rows, torch.Size(x.shape[axis:]).numel())


@operator("Shape", sizes=True)
def shape(call: Call, x: Value) -> Value:
    """The sizes of the axes from `start` to `end`."""
    whole = ((len(x),) if x.rank else ()) if isinstance(x, Sizes) else tuple(call.tensor_of(x).shape)
    end = call.attributes.get("end")
    return Sizes(whole[call.int("start") : end])
