"""Seeded random values for a network: no two tensors equal by accident, activations in a sane range."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def randomise(module: nn.Module, inputs: Mapping[str, Tensor]) -> None:
    """Draw every parameter anew (from torch's global generator) and give batch norms fitting statistics."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            _draw(name.rpartition(".")[2], parameter)
        _calibrate(module, inputs)


def freshen(module: nn.Module) -> None:
    """The values of an untrained network: equal slopes, zero biases, untouched statistics, He-like weights.

    Exporters merge equal tensors, so these files share initializers between layers of the same width.
    """
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            last = name.rpartition(".")[2]
            if parameter.dim() >= 2:
                _draw(last, parameter)
            elif last == "bias":
                parameter.zero_()


def _draw(name: str, parameter: Tensor) -> None:
    if parameter.dim() < 2:
        if name == "weight":  # slopes of norms
            parameter.uniform_(0.6, 1.4)
        elif "scale" in name:  # layer scale: a damped branch
            parameter.uniform_(0.2, 0.6)
        else:
            parameter.normal_(0, 0.1)
        return
    if "embedding" in name or "token" in name or "table" in name:
        parameter.normal_(0, 0.3)
        return
    fan_in = parameter.shape[1:].numel()
    parameter.normal_(
        0, (1.6 / fan_in) ** 0.5
    )  # between He (2) and LeCun (1): holds for ReLU and smooth alike


def _calibrate(module: nn.Module, inputs: Mapping[str, Tensor]) -> None:
    """Set running statistics from one pass, then move them a little so that no output is exactly whitened."""
    norms = [part for part in module.modules() if isinstance(part, _BatchNorm) and part.track_running_stats]
    if not norms:
        return
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    module(**inputs)
    for norm in norms:
        norm.eval()
        norm.momentum = 0.1
        norm.running_mean.add_(torch.randn_like(norm.running_mean) * norm.running_var.sqrt() * 0.1)
        floor = 0.1 * float(
            norm.running_var.mean()
        )  # a dead channel must not become an amplifier of rounding
        norm.running_var.mul_(torch.empty_like(norm.running_var).uniform_(0.8, 1.3)).clamp_(min=floor)
