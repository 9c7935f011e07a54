"""The tensors that training changes: copies of them to come back to, and as bytes for a checkpoint."""

from collections.abc import Mapping, Sequence
from typing import final

import safetensors.torch
import torch

from worker.engine.formats.trainable import Trainable


@final
class Weights:
    """Parameters and running statistics of a network, in a fixed order."""

    def __init__(self, trainable: Trainable) -> None:
        self.parameters: Sequence[torch.nn.Parameter] = _once(list(trainable.parameters.values()))
        self.statistics: Sequence[torch.Tensor] = list(trainable.statistics.values())
        self._tensors = [*self.parameters, *self.statistics]

    def copies(self) -> list[torch.Tensor]:
        """What they are now."""
        return [tensor.detach().clone() for tensor in self._tensors]

    @torch.no_grad()
    def put_back(self, copies: Sequence[torch.Tensor]) -> None:
        """Make them what they were."""
        for tensor, copy in zip(self._tensors, copies, strict=True):
            tensor.copy_(copy)


def _once(parameters: Sequence[torch.nn.Parameter]) -> list[torch.nn.Parameter]:
    """Each tensor once, though two handles may mean the same one."""
    return list({id(parameter): parameter for parameter in parameters}.values())


def named(prefix: str, tensors: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tensors under numbered names."""
    return {f"{prefix}.{index}": tensor for index, tensor in enumerate(tensors)}


def numbered(prefix: str, tensors: Mapping[str, torch.Tensor]) -> list[torch.Tensor]:
    """The tensors that `named` gave names to, in their order."""
    count = sum(name.startswith(f"{prefix}.") for name in tensors)
    return [tensors[f"{prefix}.{index}"] for index in range(count)]


def as_bytes(tensors: Mapping[str, torch.Tensor]) -> bytes:
    """The tensors as a safetensors file."""
    return safetensors.torch.save(
        {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    )


def from_bytes(content: bytes, device: torch.device) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file on a device."""
    return {name: tensor.to(device) for name, tensor in safetensors.torch.load(content).items()}
