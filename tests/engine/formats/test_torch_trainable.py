"""TorchScript modules in training: outputs, gradients, batch norm's mode, what is written back."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from tests.engine.formats.files import (
    SHARED,
    needs_shared,
    reloaded,
    save_jit,
    scripted,
    traced,
    value_named,
    writable,
)
from worker.engine.formats import LoadOptions, load, runner

IMAGE = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
SHAPES = {"input": [1, 3, 8, 8]}


def normed() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.5), nn.Flatten()]
    module = nn.Sequential(*layers, nn.Linear(8 * 36, 5)).eval()
    module[1].running_mean.uniform_(-1, 1)
    return module


def opened(tmp_path, module):
    return load(save_jit(module, tmp_path / "m.pt"), LoadOptions(inputs=SHAPES))


KINDS = pytest.mark.parametrize("make", [scripted, lambda module: traced(module, IMAGE[:1])])


@KINDS
def test_it_computes_what_the_file_computes_and_its_gradients_are_the_modules(tmp_path, make):
    module = normed()
    network = opened(tmp_path, make(module))
    trainable = network.trainable()
    (output,) = trainable.module(IMAGE)
    (expected,) = runner(tmp_path / "m.pt", LoadOptions(inputs=SHAPES), 1).run({"input": IMAGE.numpy()})
    np.testing.assert_array_equal(output.detach().numpy(), expected)
    output.square().sum().backward()
    module(IMAGE).square().sum().backward()
    for name, parameter in module.named_parameters():
        found = trainable.parameters[value_named(network, name)].grad
        torch.testing.assert_close(found, parameter.grad)
    assert len(trainable.parameters) == len(list(module.parameters()))


@KINDS
def test_batch_norm_runs_by_its_mode_and_dropout_never(tmp_path, make):
    module = normed()
    network = opened(tmp_path, make(module))
    trainable = network.trainable()
    trainable.batch_norm(training=True)
    module[1].train()
    torch.testing.assert_close(trainable.module(IMAGE)[0], module(IMAGE))
    mean = trainable.statistics[value_named(network, "1.running_mean")]
    torch.testing.assert_close(mean, module[1].running_mean)
    trainable.batch_norm(training=False)
    module[1].eval()
    torch.testing.assert_close(trainable.module(IMAGE)[0], module(IMAGE))
    trainable.store()
    network.save(tmp_path / "n.pt")
    np.testing.assert_array_equal(dict(reloaded(tmp_path / "n.pt").named_buffers())["1.running_mean"], mean)


@KINDS
def test_storing_what_did_not_change_gives_the_upload(tmp_path, make):
    network = opened(tmp_path, make(normed()))
    trainable = network.trainable()
    trainable.module(IMAGE)
    trainable.store()
    network.save(tmp_path / "n.pt")
    assert (tmp_path / "n.pt").read_bytes() == (tmp_path / "m.pt").read_bytes()


def test_what_was_written_is_what_is_trained_and_what_was_trained_is_stored(tmp_path):
    network = opened(tmp_path, scripted(normed()))
    value = value_named(network, "5.weight")
    network.write(value, np.zeros_like(network.read(value)))
    trainable = network.trainable()
    assert not trainable.parameters[value].any()
    with torch.no_grad():
        trainable.parameters[value].fill_(2.0)
    assert not network.read(value).any()
    before = {other: network.read(other).copy() for other in writable(network) if other is not value}
    trainable.store()
    assert (network.read(value) == 2.0).all()
    for other, array in before.items():
        np.testing.assert_array_equal(network.read(other), array)


def test_two_attributes_of_one_tensor_get_one_gradient(tmp_path):
    module = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4)).eval()
    module[2].weight = module[0].weight
    path = save_jit(scripted(module), tmp_path / "m.pt")
    network = load(path, LoadOptions(inputs={"input": [1, 4]}))
    trainable = network.trainable()
    rows = torch.rand(3, 4)
    trainable.module(rows)[0].sum().backward()
    module(rows).sum().backward()
    (shared,) = [p for value, p in trainable.parameters.items() if (value.name or "").endswith("weight")]
    torch.testing.assert_close(shared.grad, module[0].weight.grad)


class Remembering(nn.Module):
    """Changes a buffer in place and an attribute by assignment, both of which it reads."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.register_buffer("state", torch.zeros(1, 4))
        self.calls = 1

    def forward(self, x):
        y = torch.tanh(self.layer(x + self.state)) * self.calls
        self.state[:] = y.mean(0, keepdim=True)
        self.calls += 1
        return y


def test_a_module_that_remembers_is_trained_from_the_state_of_the_file(tmp_path):
    torch.manual_seed(0)
    path = save_jit(scripted(Remembering().eval()), tmp_path / "m.pt")
    trainable = load(path, LoadOptions(inputs={"x": [1, 4]})).trainable()
    rows = torch.rand(3, 4)
    outputs = [trainable.module(rows)[0] for _ in range(3)]
    assert torch.equal(outputs[0], outputs[1])
    assert torch.equal(outputs[1], outputs[2])
    module = copy.deepcopy(reloaded(path))
    expected = torch.autograd.grad(torch.tanh(module.layer(rows)).sum(), module.layer.weight)[0]
    outputs[2].sum().backward()
    (weight,) = [p for p in trainable.parameters.values() if p.dim() == 2]
    torch.testing.assert_close(weight.grad, expected)


@needs_shared
@pytest.mark.parametrize(
    ("name", "inputs"),
    [("cnn_mnist_scripted.pt", {"x": [1, 1, 28, 28]}), ("g1_motion_lstm.pt", {"x": [1, 47]})],
)
def test_modules_of_others_have_gradients_everywhere(name, inputs):
    network = load(SHARED / "torchscript" / name, LoadOptions(inputs=inputs))
    trainable = network.trainable()
    outputs = trainable.module(*(torch.rand(shape) for shape in inputs.values()))
    sum(output.sum() for output in outputs).backward()
    assert trainable.parameters
    assert all(parameter.grad is not None for parameter in trainable.parameters.values())
