"""Mixed precision on CUDA: which type products are computed in, and the scaling of losses that fp16 needs."""

import contextlib
from dataclasses import dataclass
from typing import Any, Literal, final

import torch

PrecisionName = Literal["auto", "float32", "bfloat16", "float16"]


@final
@dataclass(frozen=True)
class Precision:
    """`product` is the type of matrix products and convolutions, None for the weights' own."""

    device: torch.device
    product: torch.dtype | None = None

    def computing(self) -> contextlib.AbstractContextManager[Any]:
        """A block in which products are computed in that type."""
        if self.product is None:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=self.product)

    def scaler(self) -> torch.amp.GradScaler:
        """Scales losses so that small gradients survive fp16; does nothing for other types."""
        return torch.amp.GradScaler(self.device.type, enabled=self.product is torch.float16)


def precision(name: PrecisionName, device: torch.device) -> Precision:
    """The precision that a recipe names. `auto` is bfloat16 where a CUDA device computes in it, else the
    weights' own; on a CPU there is no mixed precision, which would be slower there."""
    if device.type != "cuda" or name == "float32":
        return Precision(device)
    if name == "auto":
        return Precision(device, torch.bfloat16 if torch.cuda.is_bf16_supported() else None)
    return Precision(device, torch.bfloat16 if name == "bfloat16" else torch.float16)
