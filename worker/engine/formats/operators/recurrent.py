"""LSTM, GRU and RNN: a step per time of the input, in one or both directions.

Plain layers go to torch's fused kernels (`recurrent_fused`); what those do not offer (peepholes, clipping,
other activations, samples of different length) is computed step by step here.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from worker.engine.formats.operators import recurrent_fused
from worker.engine.formats.operators.call import Call
from worker.engine.formats.operators.registry import operator

Activation = Callable[[Tensor], Tensor]
#: The state of a layer: (hidden,) or (hidden, cell).
State = tuple[Tensor, ...]

#: Activations by ONNX's names in lower case, with the defaults of alpha and beta.
_ACTIVATIONS: dict[str, tuple[Callable[[Tensor, float, float], Tensor], float, float]] = {
    "sigmoid": (lambda x, _a, _b: torch.sigmoid(x), 0.0, 0.0),
    "tanh": (lambda x, _a, _b: torch.tanh(x), 0.0, 0.0),
    "relu": (lambda x, _a, _b: torch.relu(x), 0.0, 0.0),
    "affine": (lambda x, a, b: a * x + b, 1.0, 0.0),
    "leakyrelu": (lambda x, a, _b: functional.leaky_relu(x, a), 0.01, 0.0),
    "thresholdedrelu": (lambda x, a, _b: torch.where(x > a, x, torch.zeros_like(x)), 1.0, 0.0),
    "scaledtanh": (lambda x, a, b: a * torch.tanh(b * x), 1.0, 1.0),
    "hardsigmoid": (lambda x, a, b: (a * x + b).clamp(0, 1), 0.2, 0.5),
    "elu": (lambda x, a, _b: functional.elu(x, a), 1.0, 0.0),
    "softsign": (lambda x, _a, _b: functional.softsign(x), 0.0, 0.0),
    "softplus": (lambda x, _a, _b: functional.softplus(x), 0.0, 0.0),
}


@dataclass(frozen=True)
class Layer:
    """The tensors of one operator in ONNX's layout: a leading axis of directions, gates stacked in rows."""

    inputs: Tensor
    weight: Tensor
    recurrence: Tensor
    bias: Tensor | None = None
    lengths: Tensor | None = None
    hidden: Tensor | None = None
    cell: Tensor | None = None
    peepholes: Tensor | None = None

    def initial(self, given: Tensor | None) -> Tensor:
        """A state that was given, or zeros: (directions, batch, size)."""
        if given is not None:
            return given
        directions, _, size = self.recurrence.shape
        return self.inputs.new_zeros(directions, self.inputs.shape[1], size)


@operator("LSTM")
def lstm(
    call: Call,
    inputs: Tensor,
    weight: Tensor,
    recurrence: Tensor,
    bias: Tensor | None = None,
    lengths: Tensor | None = None,
    hidden: Tensor | None = None,
    cell: Tensor | None = None,
    peepholes: Tensor | None = None,
) -> tuple[Tensor, ...]:
    """Long short-term memory; gates in the order input, output, forget, cell."""
    layer = Layer(inputs, weight, recurrence, bias, lengths, hidden, cell, peepholes)
    return _run(call, layer, _lstm_step, ("sigmoid", "tanh", "tanh"))


@operator("GRU")
def gru(
    call: Call,
    inputs: Tensor,
    weight: Tensor,
    recurrence: Tensor,
    bias: Tensor | None = None,
    lengths: Tensor | None = None,
    hidden: Tensor | None = None,
) -> tuple[Tensor, ...]:
    """Gated recurrent unit; gates in the order update, reset, hidden."""
    layer = Layer(inputs, weight, recurrence, bias, lengths, hidden)
    return _run(call, layer, _gru_step, ("sigmoid", "tanh"))


@operator("RNN")
def rnn(
    call: Call,
    inputs: Tensor,
    weight: Tensor,
    recurrence: Tensor,
    bias: Tensor | None = None,
    lengths: Tensor | None = None,
    hidden: Tensor | None = None,
) -> tuple[Tensor, ...]:
    """The plain recurrent layer."""
    return _run(call, Layer(inputs, weight, recurrence, bias, lengths, hidden), _rnn_step, ("tanh",))


@dataclass(frozen=True)
class _Cell:
    """One direction: what a step needs besides the input and the state."""

    recurrence: Tensor
    #: Bias of the recurrent product, by gate; the input's own is in the input's product.
    bias: Tensor
    activations: Sequence[Activation]
    clip: Activation
    peepholes: Tensor | None = None
    #: LSTM: input gate bound to the forget gate; GRU: the reset gate after the product.
    variant: int = 0


Step = Callable[[_Cell, Tensor, State], State]


def _lstm_step(cell: _Cell, projected: Tensor, state: State) -> State:
    hidden, memory = state
    f, g, h = cell.activations
    gates = projected + functional.linear(hidden, cell.recurrence, cell.bias)
    into, out, forget, new = gates.chunk(4, dim=-1)
    if cell.peepholes is None:
        peep_in = peep_out = peep_forget = memory.new_zeros(())
    else:
        peep_in, peep_out, peep_forget = cell.peepholes.chunk(3, dim=-1)
    write = f(cell.clip(into + peep_in * memory))
    # Coupled gates keep what they do not write, as ONNX Runtime has it.
    keep = 1 - write if cell.variant else f(cell.clip(forget + peep_forget * memory))
    memory = keep * memory + write * g(cell.clip(new))
    return f(cell.clip(out + peep_out * memory)) * h(memory), memory


def _gru_step(cell: _Cell, projected: Tensor, state: State) -> State:
    (hidden,) = state
    f, g = cell.activations
    size = hidden.shape[-1]
    gates = functional.linear(hidden, cell.recurrence[: 2 * size], cell.bias[: 2 * size])
    update, reset = f(cell.clip(projected[:, : 2 * size] + gates)).chunk(2, dim=-1)
    last, bias = cell.recurrence[2 * size :], cell.bias[2 * size :]
    if cell.variant:
        recalled = reset * functional.linear(hidden, last, bias)
    else:
        recalled = functional.linear(reset * hidden, last, bias)
    new = g(cell.clip(projected[:, 2 * size :] + recalled))
    return ((1 - update) * new + update * hidden,)


def _rnn_step(cell: _Cell, projected: Tensor, state: State) -> State:
    gates = projected + functional.linear(state[0], cell.recurrence, cell.bias)
    return (cell.activations[0](cell.clip(gates)),)


def _run(call: Call, layer: Layer, step: Step, usual: tuple[str, ...]) -> tuple[Tensor, ...]:
    """All outputs as the node has them: every step, the last hidden state, the last cell."""
    if call.int("layout", 0):
        layer = _time_first(layer)
    found = recurrent_fused.run(call, layer)
    steps, last = found or _step_by_step(call, layer, step, usual)
    if call.int("layout", 0):
        return tuple([steps.permute(2, 0, 1, 3), *(state.transpose(0, 1) for state in last)][: call.outputs])
    return (steps, *last)[: call.outputs]


def _time_first(layer: Layer) -> Layer:
    """The layer of `layout` 1, whose tensors have the batch in front."""
    hidden, cell = (None if each is None else each.transpose(0, 1) for each in (layer.hidden, layer.cell))
    return Layer(
        layer.inputs.transpose(0, 1),
        layer.weight,
        layer.recurrence,
        layer.bias,
        layer.lengths,
        hidden,
        cell,
        layer.peepholes,
    )


def _step_by_step(call: Call, layer: Layer, step: Step, usual: tuple[str, ...]) -> tuple[Tensor, State]:
    direction = call.string("direction", "forward")
    functions = _activations(call, usual * layer.weight.shape[0])
    outputs, lasts = [], []
    for index in range(layer.weight.shape[0]):
        cell = _cell(call, layer, index, functions[index * len(usual) : (index + 1) * len(usual)])
        steps, last = _direction(cell, layer, index, step, backward=direction == "reverse" or index == 1)
        outputs.append(steps)
        lasts.append(last)
    return torch.stack(outputs, dim=1), tuple(torch.stack(column) for column in zip(*lasts, strict=True))


def _activations(call: Call, usual: tuple[str, ...]) -> list[Activation]:
    """The functions of all gates and directions; those that take alpha or beta use up the lists in order."""
    alphas, betas = list(call.floats("activation_alpha")), list(call.floats("activation_beta"))
    found: list[Activation] = []
    for name in call.strings("activations", usual):
        function, alpha, beta = _ACTIVATIONS[name.lower()]
        takes_alpha = name.lower() in _TAKE_ALPHA
        takes_beta = name.lower() in _TAKE_BETA
        alpha = alphas.pop(0) if takes_alpha and alphas else alpha
        beta = betas.pop(0) if takes_beta and betas else beta
        found.append(functools.partial(_apply, function, alpha, beta))
    return found


_TAKE_ALPHA = frozenset({"affine", "leakyrelu", "thresholdedrelu", "scaledtanh", "hardsigmoid", "elu"})
_TAKE_BETA = frozenset({"affine", "scaledtanh", "hardsigmoid"})


def _apply(
    function: Callable[[Tensor, float, float], Tensor], alpha: float, beta: float, inputs: Tensor
) -> Tensor:
    return function(inputs, alpha, beta)


def _cell(call: Call, layer: Layer, index: int, activations: Sequence[Activation]) -> _Cell:
    rows = layer.recurrence.shape[1]
    bias = layer.inputs.new_zeros(rows) if layer.bias is None else layer.bias[index, rows:]
    limit = call.float("clip") if call.has("clip") else None
    return _Cell(
        layer.recurrence[index],
        bias,
        activations,
        (lambda gate: gate) if limit is None else functools.partial(torch.clamp, min=-limit, max=limit),
        None if layer.peepholes is None else layer.peepholes[index],
        call.int("input_forget", 0) or call.int("linear_before_reset", 0),
    )


def _direction(cell: _Cell, layer: Layer, index: int, step: Step, *, backward: bool) -> tuple[Tensor, State]:
    """The hidden state of every step, zero after a sample's end, and the state at its last step."""
    rows = layer.weight.shape[1]
    bias = None if layer.bias is None else layer.bias[index, :rows]
    projected = functional.linear(layer.inputs, layer.weight[index], bias)
    state: State = (layer.initial(layer.hidden)[index],)
    if step is _lstm_step:
        state = (*state, layer.initial(layer.cell)[index])
    times = range(projected.shape[0])
    found: dict[int, Tensor] = {}
    for time in reversed(times) if backward else times:
        new = step(cell, projected[time], state)
        found[time] = new[0]
        if layer.lengths is not None:
            alive = (time < layer.lengths).unsqueeze(1)
            found[time] = torch.where(alive, new[0], torch.zeros_like(new[0]))
            new = tuple(torch.where(alive, fresh, old) for fresh, old in zip(new, state, strict=True))
        state = new
    return torch.stack([found[time] for time in times]), state
