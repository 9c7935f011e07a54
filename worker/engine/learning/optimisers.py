"""The optimisers of recipes: which weights decay, where masks hold, how half precision is stepped."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, final

import torch

OptimiserName = Literal["adamw", "adam", "sgd"]
_HALVES = (torch.float16, torch.bfloat16)


@final
@dataclass(frozen=True)
class Settings:
    """What an optimiser is told; `momentum` and `nesterov` are SGD's."""

    name: OptimiserName = "adamw"
    weight_decay: float = 0.01
    momentum: float = 0.9
    nesterov: bool = True


@final
class Optimiser:
    """Steps over parameters, of which pruned places never move.

    Gradients are masked, so that no momentum gathers at pruned places, and so are weights after each step.
    Parameters in half precision are stepped as copies in float32, for small steps would round to nothing.
    """

    def __init__(
        self, parameters: Sequence[torch.nn.Parameter], masks: Mapping[int, torch.Tensor], settings: Settings
    ) -> None:
        self._parameters = list(parameters)
        # As numbers: a product is many times faster than filling by a mask, and zeros stay positive zeros.
        self._kept = [(p, masks[id(p)].to(p.dtype)) for p in parameters if id(p) in masks]
        self._masters = {
            id(p): torch.nn.Parameter(p.detach().float()) for p in parameters if p.dtype in _HALVES
        }
        stepped = [self._masters.get(id(p), p) for p in self._parameters]
        self.torch = _made(settings, stepped)

    def set_rate(self, rate: float) -> None:
        """The learning rate of the next step."""
        for group in self.torch.param_groups:
            group["lr"] = rate

    def clear(self) -> None:
        """Forget gradients."""
        self.torch.zero_grad(set_to_none=True)
        for parameter in self._parameters:
            parameter.grad = None

    def step(self, scaler: torch.amp.GradScaler, clip: float | None) -> None:
        """One step along the gradients, clipped to that norm over all parameters, masks holding."""
        for parameter, kept in self._kept:
            if parameter.grad is not None:
                parameter.grad.mul_(kept)
        for parameter in self._parameters:
            if id(parameter) in self._masters and parameter.grad is not None:
                self._masters[id(parameter)].grad = parameter.grad.float()
        scaler.unscale_(self.torch)
        if clip is not None:
            stepped = [p for group in self.torch.param_groups for p in group["params"]]
            torch.nn.utils.clip_grad_norm_(stepped, clip)
        scaler.step(self.torch)
        scaler.update()
        self._settle()

    @torch.no_grad()
    def _settle(self) -> None:
        for parameter in self._parameters:
            if id(parameter) in self._masters:
                parameter.copy_(self._masters[id(parameter)])
        for parameter, kept in self._kept:
            parameter.mul_(kept)

    @torch.no_grad()
    def adopt(self) -> None:
        """Start from the parameters as they are now, without memory of earlier steps."""
        for parameter in self._parameters:
            if id(parameter) in self._masters:
                self._masters[id(parameter)].copy_(parameter)
        self.torch.state.clear()

    def tensors(self) -> dict[str, torch.Tensor]:
        """All that the next step depends on but the parameters, by name."""
        found: dict[str, torch.Tensor] = {}
        for index, parameter in enumerate(self._parameters):
            if self._half(parameter):
                found[f"master.{index}"] = self._masters[id(parameter)]
        for index, state in self.torch.state_dict()["state"].items():
            for key, value in state.items():
                if isinstance(value, torch.Tensor):
                    found[f"optimiser.{index}.{key}"] = value
        return {name: tensor.detach() for name, tensor in found.items()}

    @torch.no_grad()
    def restore(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Put back what `tensors` gave."""
        for index, parameter in enumerate(self._parameters):
            if self._half(parameter):
                self._masters[id(parameter)].copy_(tensors[f"master.{index}"])
        state: dict[int, dict[str, torch.Tensor]] = {}
        for name, tensor in tensors.items():
            kind, _, rest = name.partition(".")
            if kind == "optimiser":
                number, _, key = rest.partition(".")
                # torch counts Adam's steps on the host, and would wait for a device to read them there
                state.setdefault(int(number), {})[key] = tensor.cpu() if key == "step" else tensor
        self.torch.load_state_dict({"state": state, "param_groups": self.torch.state_dict()["param_groups"]})

    def _half(self, parameter: torch.nn.Parameter) -> bool:
        return id(parameter) in self._masters


def _made(settings: Settings, parameters: Sequence[torch.nn.Parameter]) -> torch.optim.Optimizer:
    """Weights decay; biases and the scales of norms, which have one axis or none, do not."""
    groups: list[dict[str, Any]] = [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if settings.name == "sgd":
        nesterov = settings.nesterov and settings.momentum > 0
        return torch.optim.SGD(groups, lr=0.0, momentum=settings.momentum, nesterov=nesterov)
    made = torch.optim.AdamW if settings.name == "adamw" else torch.optim.Adam
    return made(groups, lr=0.0)
