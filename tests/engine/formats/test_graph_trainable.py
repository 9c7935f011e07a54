"""Training ONNX files: the same steps as native PyTorch, written back into the file and nothing else."""

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from tests.engine.formats.graphs import by_runtime, gap, model, network
from tests.zoo.entry import ZOO
from tests.zoo.exporting import export
from worker.engine.formats import LoadOptions, load

RNG = np.random.default_rng(1)


def steps(module, parameters, inputs, count=3):
    """Outputs of every step of AdamW on the mean square of the first output."""
    optimiser, made = torch.optim.AdamW(parameters, lr=1e-3), []
    for _ in range(count):
        optimiser.zero_grad()
        output = module(*inputs)
        output = output if isinstance(output, torch.Tensor) else output[0]
        output.square().mean().backward()
        optimiser.step()
        made.append(output.detach().clone())
    return made


@pytest.mark.parametrize("training", [True, False])
def test_training_is_that_of_the_native_network(training):
    loaded = load(export("resnet18", fold=False), LoadOptions())
    trainable = loaded.trainable()
    native = ZOO["resnet18"].make().requires_grad_(True)
    native.train(training)
    trainable.batch_norm(training=training)
    inputs = list(ZOO["resnet18"].inputs().values())
    ours = steps(trainable.module, trainable.parameters.values(), inputs)
    theirs = steps(native, native.parameters(), inputs)
    for found, wanted in zip(ours, theirs, strict=True):
        assert gap(found, wanted) < 1e-3
    buffers = dict(native.named_buffers())
    for value, tensor in trainable.statistics.items():
        assert gap(tensor, buffers[value.name]) < 1e-3
    before = {value: np.array(loaded.read(value)) for value in trainable.statistics}
    moved = [
        not np.array_equal(before[value], tensor.numpy()) for value, tensor in trainable.statistics.items()
    ]
    assert all(moved) if training else not any(moved)


def test_batch_norm_goes_back_to_what_is_stored():
    trainable = load(export("resnet18", fold=False), LoadOptions()).trainable()
    inputs = list(ZOO["resnet18"].inputs().values())
    before = trainable.module(*inputs)[0]
    trainable.batch_norm(training=True)
    changed = trainable.module(*inputs)[0]
    assert gap(changed, before.detach()) > 1e-3
    state = {name: tensor.clone() for name, tensor in trainable.module.state_dict().items()}
    trainable.batch_norm(training=False)
    trainable.module(*inputs)
    assert all(torch.equal(tensor, state[name]) for name, tensor in trainable.module.state_dict().items())


def test_one_value_per_channel_is_normalised_by_what_is_stored(tmp_path):
    text = "g (float[n,4] X) => (float[n,4] Y) { Y = BatchNormalization(X, s, b, m, v) }"
    tensors = {name: RNG.random(4).astype(np.float32) + 0.5 for name in "sbmv"}
    trainable = network(model(text, tensors), tmp_path).trainable()
    x = torch.randn(1, 4)
    stored = trainable.module(x)[0]
    trainable.batch_norm(training=True)
    assert torch.equal(trainable.module(x)[0], stored)
    assert all(np.array_equal(t.numpy(), tensors[value.name]) for value, t in trainable.statistics.items())


def test_trained_weights_reach_the_file_and_nothing_else_changes(tmp_path):
    loaded = load(export("resnet18", fold=False), LoadOptions())
    trainable = loaded.trainable()
    inputs = list(ZOO["resnet18"].inputs().values())
    chosen = [value for value in trainable.parameters if value.name in ("conv1.weight", "fc.bias")]
    chosen = chosen or list(trainable.parameters)[:2]
    with torch.no_grad():
        for value in chosen:
            trainable.parameters[value].mul_(1.5)
    trainable.store()
    loaded.save(tmp_path / "trained.onnx")
    wanted = trainable.module(*inputs)
    for found, ours in zip(by_runtime(tmp_path / "trained.onnx", inputs), wanted, strict=True):
        assert gap(ours, found) < 1e-4
    before, after = onnx.load(loaded.file), onnx.load(tmp_path / "trained.onnx")
    names = {value.name for value in chosen}
    for old, new in zip(before.graph.initializer, after.graph.initializer, strict=True):
        assert (old == new) == (old.name not in names)
    assert before.graph.node == after.graph.node


def test_nothing_trained_is_nothing_written(tmp_path):
    loaded = load(export("vit_b_16"), LoadOptions())
    trainable = loaded.trainable()
    trainable.module(*ZOO["vit_b_16"].inputs().values())
    trainable.store()
    loaded.save(tmp_path / "same.onnx")
    assert (tmp_path / "same.onnx").read_bytes() == loaded.file.read_bytes()


@pytest.mark.parametrize("kind", [np.float16, "bfloat16"])
def test_half_precision_has_masters_in_single_and_is_stored_rounded(kind, tmp_path):
    dtype = onnx.helper.tensor_dtype_to_np_dtype(onnx.TensorProto.BFLOAT16) if kind == "bfloat16" else kind
    word = "bfloat16" if kind == "bfloat16" else "float16"
    text = f"g ({word}[n,4] X) => ({word}[n,4] Y) {{ H = MatMul(X, W)  R = Relu(H)  Y = MatMul(R, V) }}"
    weights = {name: RNG.normal(size=(4, 4)).astype(dtype) for name in "WV"}
    loaded = network(model(text, weights), tmp_path)
    trainable = loaded.trainable()
    assert {p.dtype for p in trainable.parameters.values()} == {torch.float32}
    by_name = {value.name: parameter for value, parameter in trainable.parameters.items()}
    with torch.no_grad():
        by_name["W"] += 1e-7  # less than half a step: the same once rounded
        by_name["V"] += 0.25
    trainable.store()
    read = {value.name: loaded.read(value) for value in trainable.parameters}
    assert read["W"].tobytes() == weights["W"].tobytes()
    assert read["V"].dtype == dtype
    assert np.array_equal(read["V"], by_name["V"].detach().numpy().astype(dtype))


def test_half_precision_is_computed_as_onnx_runtime_does(tmp_path):
    text = "g (float16[n,64] X) => (float16[n,64] Y) { H = MatMul(X, W)  R = Relu(H)  Y = MatMul(R, V) }"
    weights = {name: (RNG.normal(size=(64, 64)) / 8).astype(np.float16) for name in "WV"}
    trainable = network(model(text, weights), tmp_path).trainable()
    x = torch.randn(5, 64).half()
    found = trainable.module(x)[0].half()
    assert gap(found, by_runtime(tmp_path / "model.onnx", [x])[0]) < 1e-3


def test_quantised_tensors_are_no_parameters_and_stay(tmp_path):
    text = """g (float[n,4] X) => (float[n,4] Y) {
        D = DequantizeLinear(q, s, z)  H = MatMul(X, D)  Y = MatMul(H, W)
    }"""
    weights = {
        "q": RNG.integers(-9, 9, (4, 4), np.int8),
        "s": np.float32(0.1).reshape(()),
        "z": np.int8(1).reshape(()),
        "W": RNG.normal(size=(4, 4)).astype(np.float32),
    }
    loaded = network(model(text, weights), tmp_path)
    trainable = loaded.trainable()
    assert [value.name for value in trainable.parameters] == ["W"]
    steps(trainable.module, trainable.parameters.values(), [torch.randn(3, 4)])
    trainable.store()
    loaded.save(tmp_path / "trained.onnx")
    after = {
        one.name: numpy_helper.to_array(one) for one in onnx.load(tmp_path / "trained.onnx").graph.initializer
    }
    assert all(np.array_equal(after[name], weights[name]) == (name != "W") for name in weights)


def test_a_weight_stored_as_a_shape_and_a_number_is_trained(tmp_path):
    text = """g (float[n,4] X) => (float[n,4] Y) {
        W = ConstantOfShape<value = float[1] {0.5}>(shape)  Y = MatMul(X, W)
    }"""
    loaded = network(model(text, {"shape": np.array([4, 4])}), tmp_path)
    trainable = loaded.trainable()
    ((value, parameter),) = trainable.parameters.items()
    with torch.no_grad():
        parameter[0, 0] = 2
    trainable.store()
    assert np.array_equal(loaded.read(value), parameter.detach().numpy())
    loaded.save(tmp_path / "trained.onnx")
    x = torch.randn(2, 4)
    assert gap(trainable.module(x)[0], by_runtime(tmp_path / "trained.onnx", [x])[0]) < 1e-6


def test_names_are_those_of_the_file():
    loaded = load(export("two_inputs"), LoadOptions())
    trainable = loaded.trainable()
    assert trainable.input_names == tuple(info.name for info in loaded.inputs)
    assert trainable.output_names == tuple(info.name for info in loaded.outputs)
