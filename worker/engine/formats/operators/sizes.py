"""Small integers kept on the host: shapes and what is computed from them.

Shape arithmetic on tensors would make a GPU wait at every Reshape and break graphs of `torch.compile`.
"""

from collections.abc import Sequence
from typing import Any, final

import torch
from torch import Tensor

#: Constants with more elements than this stay tensors.
_MOST = {torch.int64: 64, torch.bool: 64, torch.float32: 8, torch.float64: 8}


@final
class Sizes:
    """A host value of rank 0 or 1. Its integers are symbolic while `torch.compile` traces.

    Only operators that ask for `scalars` or `floats` ever see floats in it, which are fixed.
    """

    __slots__ = ("dtype", "rank", "values")

    def __init__(self, values: Sequence[Any], rank: int = 1, dtype: torch.dtype = torch.int64) -> None:
        self.values = tuple(values)
        self.rank = rank
        self.dtype = dtype

    def __len__(self) -> int:
        return len(self.values)

    def __repr__(self) -> str:
        return f"Sizes({self.values}, rank={self.rank}, dtype={self.dtype})"

    @property
    def floating(self) -> bool:
        """Whether it holds a float."""
        return self.dtype.is_floating_point

    def alike(self, values: Sequence[Any]) -> "Sizes":
        """Other values of the same rank and type."""
        return Sizes(values, self.rank, self.dtype)

    def tensor(self, device: torch.device) -> Tensor:
        """The same as a tensor."""
        if self.rank == 0:
            return torch.tensor(self.values[0], dtype=self.dtype, device=device)
        return torch.tensor(list(self.values), dtype=self.dtype, device=device)


def sizes_of(tensor: Tensor) -> Sizes | None:
    """A stored tensor as host values: small ones of int64 or bool, and a few floats."""
    most = _MOST.get(tensor.dtype, -1)
    if tensor.dim() > 1 or tensor.numel() > most:
        return None
    return Sizes(tensor.reshape(-1).tolist(), tensor.dim(), tensor.dtype)
