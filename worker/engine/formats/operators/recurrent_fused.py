"""Recurrent layers by torch's fused kernels, whose gates stand in another order than ONNX's."""

from typing import Protocol

import torch
from torch import Tensor

from worker.engine.formats.operators.call import Call

#: Activations that the kernels have built in, as the attribute would spell them.
_BUILT_IN = {"LSTM": ("sigmoid", "tanh", "tanh"), "GRU": ("sigmoid", "tanh"), "RNN": ("tanh",)}
#: torch's order of gates, as places in ONNX's.
_ORDER = {"LSTM": (0, 2, 3, 1), "GRU": (1, 0, 2), "RNN": (0,)}


class Weights(Protocol):
    """The tensors of one operator, time first."""

    @property
    def inputs(self) -> Tensor: ...
    @property
    def weight(self) -> Tensor: ...
    @property
    def recurrence(self) -> Tensor: ...
    @property
    def bias(self) -> Tensor | None: ...
    @property
    def lengths(self) -> Tensor | None: ...
    @property
    def hidden(self) -> Tensor | None: ...
    @property
    def cell(self) -> Tensor | None: ...
    @property
    def peepholes(self) -> Tensor | None: ...

    def initial(self, given: Tensor | None) -> Tensor:
        """A state that was given, or zeros."""


def run(call: Call, layer: Weights) -> tuple[Tensor, tuple[Tensor, ...]] | None:
    """Every step as (time, directions, batch, size) and the last state; None where no kernel does it."""
    if not _offered(call, layer):
        return None
    backward = call.string("direction", "forward") == "reverse"
    inputs = layer.inputs.flip(0) if backward else layer.inputs
    found = _kernel(call, layer, inputs)
    directions = layer.weight.shape[0]
    steps = found[0].reshape(*found[0].shape[:2], directions, -1).transpose(1, 2)
    return steps.flip(0) if backward else steps, found[1:]


def _offered(call: Call, layer: Weights) -> bool:
    usual = _BUILT_IN[call.operator] * layer.weight.shape[0]
    named = tuple(name.lower() for name in call.strings("activations", usual))
    plain = layer.lengths is None and layer.peepholes is None and not call.has("clip")
    if call.operator == "GRU" and not call.int("linear_before_reset", 0):
        return False
    # An empty sequence or batch is a shape that the kernels refuse.
    return plain and named == usual and not call.int("input_forget", 0) and layer.inputs.numel() > 0


def _kernel(call: Call, layer: Weights, inputs: Tensor) -> tuple[Tensor, ...]:
    directions = layer.weight.shape[0]
    flat = [tensor for index in range(directions) for tensor in _flat(call.operator, layer, index)]
    # cuDNN keeps what a backward pass needs only in training; without dropout nothing else differs.
    settings = (layer.bias is not None, 1, 0.0, torch.is_grad_enabled(), directions == 2, False)
    hidden = layer.initial(layer.hidden).contiguous()
    _check(call.operator, layer, inputs)
    if call.operator == "LSTM":
        cell = layer.initial(layer.cell).contiguous()
        return torch.lstm(inputs, (hidden, cell), flat, *settings)
    kernel = torch.gru if call.operator == "GRU" else torch.rnn_tanh
    return kernel(inputs, hidden, flat, *settings)


def _check(name: str, layer: Weights, inputs: Tensor) -> None:
    """Hold every shape to the others: torch's modules do, but the kernels below them write out of bounds.

    Raises RuntimeError, as torch does for shapes that do not fit.
    """
    directions, gates, width = layer.weight.shape
    size = gates // len(_ORDER[name])
    state = (directions, inputs.shape[1], size)
    fits = {
        "inputs": inputs.shape[2] == width,
        "recurrence": tuple(layer.recurrence.shape) == (directions, gates, size),
        "bias": layer.bias is None or tuple(layer.bias.shape) == (directions, 2 * gates),
        "hidden state": tuple(layer.initial(layer.hidden).shape) == state,
        "cell state": name != "LSTM" or tuple(layer.initial(layer.cell).shape) == state,
    }
    wrong = [part for part, right in fits.items() if not right]
    if wrong:
        raise RuntimeError(f"{name}: the shape of its {wrong[0]} does not fit its weights and its batch")


def _flat(name: str, layer: Weights, index: int) -> list[Tensor]:
    """One direction's tensors as torch lists them."""
    tensors = [layer.weight[index], layer.recurrence[index]]
    if layer.bias is not None:
        tensors += layer.bias[index].chunk(2)
    return [_reordered(name, tensor) for tensor in tensors]


def _reordered(name: str, gates: Tensor) -> Tensor:
    order = _ORDER[name]
    parts = gates.chunk(len(order))
    return torch.cat([parts[place] for place in order])
