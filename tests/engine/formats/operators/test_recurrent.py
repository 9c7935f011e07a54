"""Recurrent layers against ONNX Runtime, by the fused kernels and step by step."""

import numpy as np
import pytest
import torch

from tests.engine.formats.conformance.suite import by_torch
from tests.engine.formats.operators.nodes import agree, both, node_model, shaped
from worker.engine.errors import ModelNotRunnableError
from worker.engine.formats.operators import recurrent_fused

_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
_TIMES, _BATCH, _INPUTS, _SIZE = 5, 3, 4, 2


def _tensors(name, directions, *, bias, lengths, states, peepholes):
    rng = np.random.default_rng(3)

    def floats(*shape):
        return rng.uniform(-1, 1, shape).astype(np.float32)

    rows = _GATES[name] * _SIZE
    tensors = [
        floats(_TIMES, _BATCH, _INPUTS),
        floats(directions, rows, _INPUTS),
        floats(directions, rows, _SIZE),
        floats(directions, 2 * rows) if bias else None,
        np.array([5, 2, 3], np.int32) if lengths else None,
        floats(directions, _BATCH, _SIZE) if states else None,
    ]
    if name == "LSTM":
        tensors += [
            floats(directions, _BATCH, _SIZE) if states else None,
            floats(directions, 3 * _SIZE) if peepholes else None,
        ]
    while tensors[-1] is None:
        tensors.pop()
    return tensors


def _outputs(name):
    return (1, 1, 1) if name == "LSTM" else (1, 1)


@pytest.mark.parametrize("name", _GATES)
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("lengths", [False, True])
@pytest.mark.parametrize("states", [False, True])
def test_directions_states_and_lengths(name, direction, bias, lengths, states):
    directions = 2 if direction == "bidirectional" else 1
    for extra in ({}, {"linear_before_reset": 1}) if name == "GRU" else ({},):
        inputs = _tensors(name, directions, bias=bias, lengths=lengths, states=states, peepholes=False)
        agree(name, inputs, _outputs(name), {"hidden_size": _SIZE, "direction": direction, **extra}, opset=14)


@pytest.mark.parametrize(
    ("name", "attributes"),
    [
        ("LSTM", {"input_forget": 1}),
        ("LSTM", {"clip": 0.3}),
        ("GRU", {"clip": 0.3}),
        ("GRU", {"clip": 0.3, "linear_before_reset": 1}),
        ("RNN", {"clip": 0.3}),
        ("RNN", {"activations": ["Relu"]}),
        ("RNN", {"activations": ["ScaledTanh"], "activation_alpha": [0.5], "activation_beta": [0.8]}),
        ("LSTM", {"activations": ["HardSigmoid", "Softsign", "Relu"], "activation_alpha": [0.3]}),
        ("GRU", {"activations": ["Sigmoid", "LeakyRelu"], "activation_alpha": [0.2]}),
        ("GRU", {"activations": ["HardSigmoid", "Elu"], "activation_alpha": [0.3, 0.5]}),
        ("RNN", {"activations": ["Affine"], "activation_alpha": [0.5], "activation_beta": [0.1]}),
        ("RNN", {"activations": ["ThresholdedRelu"], "activation_alpha": [0.1]}),
    ],
)
def test_variants(name, attributes):
    for peepholes in (False, True) if name == "LSTM" else (False,):
        inputs = _tensors(name, 1, bias=True, lengths=False, states=True, peepholes=peepholes)
        agree(name, inputs, _outputs(name), {"hidden_size": _SIZE, **attributes}, opset=14)


@pytest.mark.parametrize("name", _GATES)
def test_batch_first_is_the_same_with_axes_exchanged(name):
    inputs = _tensors(name, 2, bias=True, lengths=True, states=True, peepholes=False)
    settings = {"hidden_size": _SIZE, "direction": "bidirectional"}
    found, _ = both(node_model(name, inputs, _outputs(name), settings, 14), inputs)
    turned = [
        one.swapaxes(0, 1) if place in (0, 5, 6) and one is not None else one
        for place, one in enumerate(inputs)
    ]
    model = node_model(name, turned, _outputs(name), {**settings, "layout": 1}, 14)
    wanted = [found[0].transpose(2, 0, 1, 3), *(one.swapaxes(0, 1) for one in found[1:])]
    batch_first = by_torch(shaped(model, wanted))([one for one in turned if one is not None])
    for one, other in zip(batch_first, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", _GATES)
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_fused_kernels_compute_the_same_as_steps(name, direction, monkeypatch):
    directions = 2 if direction == "bidirectional" else 1
    inputs = _tensors(name, directions, bias=True, lengths=False, states=True, peepholes=False)
    settings = {"hidden_size": _SIZE, "direction": direction}
    if name == "GRU":
        settings["linear_before_reset"] = 1
    model = node_model(name, inputs, _outputs(name), settings, 14)
    calls = []
    kernel = recurrent_fused.run
    monkeypatch.setattr(recurrent_fused, "run", lambda *given: calls.append(kernel(*given)) or calls[-1])
    fused, _ = both(model, inputs)
    assert calls[0] is not None
    monkeypatch.setattr(recurrent_fused, "run", lambda call, layer: None)
    stepped, _ = both(model, inputs)
    for one, other in zip(fused, stepped, strict=True):
        torch.testing.assert_close(torch.from_numpy(one), torch.from_numpy(other))


@pytest.mark.parametrize("name", _GATES)
@pytest.mark.parametrize("wrong", [0, 2, 3, 5])
def test_shapes_that_do_not_fit_are_an_error_and_no_crash(name, wrong):
    """torch's kernels do not look: a state of another batch had them write out of bounds."""
    inputs = _tensors(name, 1, bias=True, lengths=False, states=True, peepholes=False)
    attributes = {"hidden_size": _SIZE, **({"linear_before_reset": 1} if name == "GRU" else {})}
    state = np.empty((1, _BATCH, _SIZE), np.float32)
    wanted = [np.empty((_TIMES, 1, _BATCH, _SIZE), np.float32), *[state] * (len(_outputs(name)) - 1)]
    module = by_torch(shaped(node_model(name, inputs, _outputs(name), attributes, opset=14), wanted))
    inputs[wrong] = np.concatenate([inputs[wrong], inputs[wrong]], axis=1 if wrong == 5 else -1)
    with pytest.raises(ModelNotRunnableError, match="shape"):
        module([tensor for tensor in inputs if tensor is not None])
