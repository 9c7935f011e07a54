"""TorchScript files as networks: structure, edits, inputs, runs."""

import numpy as np
import onnxruntime as ort
import pytest
import torch
from torch import nn

from api_schemas.jobs import InputSpec
from api_schemas.models import ModelFormat
from tests.engine.formats.files import (
    frozen,
    reloaded,
    save_jit,
    save_script,
    scripted,
    traced,
    value_named,
    values,
    writable,
)
from worker.engine.errors import InvalidModelError, InvalidRecipeError, ModelNotRunnableError
from worker.engine.formats import LoadOptions, load, runner


def convolutional() -> nn.Module:
    torch.manual_seed(0)
    layers = [
        nn.Conv2d(3, 8, 3),
        nn.BatchNorm2d(8),
        nn.ReLU(inplace=True),
        nn.ConvTranspose2d(8, 4, 3, groups=2),
    ]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(4 * 64, 5)).eval()


def parameters_of(module: torch.jit.ScriptModule) -> dict[str, np.ndarray]:
    state = dict(module.named_parameters()) | dict(module.named_buffers())
    return {name: tensor.detach().numpy() for name, tensor in state.items()}


IMAGE = {"input": [1, 3, 8, 8]}


@pytest.mark.parametrize("make", [scripted, lambda module: traced(module, torch.rand(1, 3, 8, 8))])
def test_the_graph_is_that_of_the_module_with_its_names(tmp_path, make):
    module = make(convolutional())
    network = load(save_jit(module, tmp_path / "m.pt"), LoadOptions(inputs=IMAGE))
    assert network.structure_warning is None
    operators = [node.op_type for node in network.structure.graph]
    assert operators == ["Conv", "BatchNormalization", "Relu", "ConvTranspose", "Flatten", "Gemm"]
    state = parameters_of(module)
    for value in network.structure.graph.initializers.values():
        np.testing.assert_array_equal(network.read(value), state[value.name])
    assert {value.name for value in writable(network)} == set(state) - {"1.num_batches_tracked"}
    assert network.format is ModelFormat.TORCHSCRIPT
    assert [(i.name, i.dtype, i.shape) for i in network.inputs] == [("input", "float32", [1, 3, 8, 8])]
    assert [(o.name, o.dtype, o.shape) for o in network.outputs] == [("output", "float32", [1, 5])]


def test_the_structure_of_a_plain_net_computes_what_the_module_computes(tmp_path):
    """Its initializers hold the module's weights, so ONNX Runtime must agree with torch."""
    import onnx_ir as ir

    path = save_script(convolutional(), tmp_path / "m.pt")
    network = load(path, LoadOptions(inputs=IMAGE))
    ir.save(network.structure, tmp_path / "m.onnx")
    feeds = {"input": np.random.default_rng(0).random((1, 3, 8, 8)).astype(np.float32)}
    session = ort.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    (expected,) = runner(path, LoadOptions(inputs=IMAGE), 1).run(feeds)
    np.testing.assert_allclose(session.run(None, feeds)[0], expected, rtol=1e-4, atol=1e-5)


def test_written_weights_are_in_the_saved_module_and_nothing_else_changed(tmp_path):
    path = save_script(convolutional(), tmp_path / "m.pt")
    network = load(path, LoadOptions(inputs=IMAGE))
    before = parameters_of(reloaded(path))
    value = value_named(network, "3.weight")
    replacement = np.arange(network.read(value).size, dtype=np.float32).reshape(network.read(value).shape)
    network.write(value, replacement)
    np.testing.assert_array_equal(network.read(value), replacement)
    for name in ("a.pt", "b.pt"):
        network.save(tmp_path / name)
    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "b.pt").read_bytes()
    after = parameters_of(reloaded(tmp_path / "a.pt"))
    np.testing.assert_array_equal(after.pop("3.weight"), replacement)
    del before["3.weight"]
    for name, array in before.items():
        np.testing.assert_array_equal(after[name], array)
    network.write(
        value, load(path, LoadOptions(inputs=IMAGE)).read(value_named(network, "3.weight"))
    ) if False else None


def test_saving_without_edits_gives_the_upload(tmp_path):
    path = save_script(convolutional(), tmp_path / "m.pt")
    load(path, LoadOptions()).save(tmp_path / "n.pt")
    assert (tmp_path / "n.pt").read_bytes() == path.read_bytes()


def test_equal_weights_are_kept_apart(tmp_path):
    module = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)).eval()
    module[1].load_state_dict(module[0].state_dict())
    path = save_script(module, tmp_path / "m.pt")
    network = load(path, LoadOptions(inputs={"input": [1, 4]}))
    network.write(value_named(network, "0.weight"), np.zeros((4, 4), np.float32))
    network.save(tmp_path / "n.pt")
    again = reloaded(tmp_path / "n.pt")
    weights = parameters_of(again)
    assert not weights["0.weight"].any()
    np.testing.assert_array_equal(weights["1.weight"], module[1].weight.detach().numpy())


def test_the_structure_does_not_depend_on_the_weights(tmp_path):
    """A pruned file must look like the one it was made from, even when its weights became equal."""
    path = save_jit(frozen(convolutional()), tmp_path / "m.pt")
    network = load(path, LoadOptions(inputs=IMAGE))
    for value in writable(network):
        network.write(value, np.zeros_like(network.read(value)))
    network.save(tmp_path / "n.pt")
    again = load(tmp_path / "n.pt", LoadOptions(inputs=IMAGE))
    assert [value.name for value in values(again)] == [value.name for value in values(network)]
    assert [node.op_type for node in again.structure.graph] == [
        node.op_type for node in network.structure.graph
    ]


def test_weights_frozen_into_the_code_are_written_too(tmp_path):
    path = save_jit(frozen(convolutional()), tmp_path / "m.pt")
    network = load(path, LoadOptions(inputs=IMAGE))
    assert [node.op_type for node in network.structure.graph] == [
        "Conv",
        "Relu",
        "ConvTranspose",
        "Flatten",
        "Gemm",
    ]
    assert len(writable(network)) == 6
    for value in writable(network):
        network.write(value, np.zeros_like(network.read(value)))
    network.save(tmp_path / "n.pt")
    feeds = {"input": np.ones((1, 3, 8, 8), np.float32)}
    assert runner(path, LoadOptions(inputs=IMAGE), 1).run(feeds)[0].any()
    assert not runner(tmp_path / "n.pt", LoadOptions(inputs=IMAGE), 1).run(feeds)[0].any()


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(6, 6, bias=False), nn.Linear(6, 6, bias=False)
        self.b.weight = self.a.weight

    def forward(self, x):
        return self.b(torch.relu(self.a(x)))


def test_a_tied_weight_is_one_weight_and_stays_tied(tmp_path):
    network = load(save_script(Tied(), tmp_path / "m.pt"), LoadOptions(inputs={"x": [1, 6]}))
    (value,) = writable(network)
    assert len(value.uses()) == 2
    network.write(value, np.eye(6, dtype=np.float32))
    network.save(tmp_path / "n.pt")
    module = reloaded(tmp_path / "n.pt")
    assert torch.equal(module.a.weight, torch.eye(6))
    assert module.a.weight.data_ptr() == module.b.weight.data_ptr()


class Recurrent(nn.Module):
    def __init__(self, kind, directions):
        super().__init__()
        self.e = nn.Embedding(10, 8)
        self.r = kind(8, 5, num_layers=2, bidirectional=directions == 2, batch_first=True)
        self.o = nn.Linear(5 * directions, 3)

    def forward(self, t):
        return self.o(self.r(self.e(t))[0][:, -1])


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("directions", [1, 2])
def test_recurrent_operators_read_their_own_parameters(tmp_path, kind, directions):
    path = save_script(Recurrent(kind, directions), tmp_path / "m.pt")
    network = load(path, LoadOptions(inputs={"t": [2, 7]}))
    assert network.structure_warning is None
    assert [info.dtype for info in network.inputs] == ["int64"]
    nodes = [node for node in network.structure.graph if node.op_type == kind.__name__]
    pairs = [[node.inputs[i].producer().inputs[0].name for i in (1, 2)] for node in nodes]
    ends = [f"l{layer}{end}" for layer in (0, 1) for end in ("", "_reverse")[:directions]]
    assert pairs == [[f"r.weight_ih_{end}", f"r.weight_hh_{end}"] for end in ends]
    assert {name for pair in pairs for name in pair} <= {value.name for value in writable(network)}


def test_without_shapes_the_layers_are_seen_one_by_one(tmp_path):
    path = save_script(convolutional(), tmp_path / "m.pt")
    network = load(path, LoadOptions())
    assert network.needs_inputs
    assert "shape of its input" in network.structure_warning
    nodes = list(network.structure.graph)
    assert [(node.op_type, node.name) for node in nodes] == [
        ("Conv", "0"),
        ("ConvTranspose", "3"),
        ("Gemm", "5"),
    ]
    assert [value.name for value in writable(network)] == ["0.weight", "3.weight", "5.weight"]
    assert [(i.name, i.dtype, i.shape) for i in network.inputs] == [("input", "unknown", None)]
    assert len({node.inputs[0] for node in nodes}) == 3
    state = parameters_of(reloaded(path))
    for value in writable(network):
        np.testing.assert_array_equal(network.read(value), state[value.name])


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_layers_are_seen_without_shapes(tmp_path, kind):
    network = load(save_script(Recurrent(kind, 2), tmp_path / "m.pt"), LoadOptions())
    operators = [
        node.op_type for node in network.structure.graph if node.op_type not in ("Constant", "Unsqueeze")
    ]
    assert operators == ["Gather", *[kind.__name__] * 4, "Gemm"]


class Stateful(nn.Module):
    def __init__(self, by_buffer: bool):
        super().__init__()
        self.n, self.count, self.by_buffer = nn.Linear(4, 4), 0, by_buffer
        self.register_buffer("h", torch.zeros(1, 4))

    def forward(self, x):
        if self.by_buffer:
            self.h += self.n(x)
        else:
            self.count += 1
        return self.n(x) * (self.count + 1) + self.h


@pytest.mark.parametrize("by_buffer", [False, True])
def test_every_run_starts_from_the_state_in_the_file(tmp_path, by_buffer):
    path = save_script(Stateful(by_buffer), tmp_path / "m.pt")
    ready = runner(path, LoadOptions(inputs={"x": [1, 4]}), 1)
    feeds = {"x": np.ones((1, 4), np.float32)}
    first = ready.run(feeds)[0].copy()
    for _ in range(2):
        np.testing.assert_array_equal(ready.run(feeds)[0], first)


class Mixed(nn.Module):
    def __init__(self):
        super().__init__()
        self.n, self.e = nn.Linear(4, 4), nn.Embedding(5, 4)

    def forward(self, x, i, scale: float, times: int = 2):
        return {"a": self.n(x) * scale}, [self.e(i)] * times, 7


def test_arguments_of_every_kind(tmp_path):
    path = save_script(Mixed(), tmp_path / "m.pt")
    inputs = {"x": [2, 4], "i": [3], "scale": InputSpec(value=2)}
    network = load(path, LoadOptions(inputs=inputs))
    assert [(i.name, i.dtype, i.shape) for i in network.inputs] == [
        ("x", "float32", [2, 4]),
        ("i", "int64", [3]),
    ]
    assert [output.shape for output in network.outputs] == [[2, 4], [3, 4], [3, 4], []]
    ready = runner(path, LoadOptions(inputs=inputs), 1)
    assert ready.input_names == ("x", "i")
    feeds = {"x": np.ones((2, 4), np.float32), "i": np.array([0, 1, 4])}
    outputs = ready.run(feeds)
    module = reloaded(path)
    expected = module(torch.ones(2, 4), torch.tensor([0, 1, 4]), 2.0)
    np.testing.assert_array_equal(outputs[0], expected[0]["a"].detach().numpy())
    np.testing.assert_array_equal(outputs[2], expected[1][1].detach().numpy())
    assert (outputs[3], ready.output_names) == (7, ("output_0", "output_1", "output_2", "output_3"))
    given = ready.run({**feeds, "scale": np.float32(1), "times": np.int64(1)})
    np.testing.assert_array_equal(given[0] * 2, outputs[0])
    assert len(given) == 3
    with pytest.raises(ModelNotRunnableError, match="no data for input 'i'"):
        ready.run({"x": feeds["x"]})


def test_a_number_without_a_value_is_asked_for(tmp_path):
    network = load(save_script(Mixed(), tmp_path / "m.pt"), LoadOptions(inputs={"x": [2, 4], "i": [3]}))
    assert network.needs_inputs
    assert "scale" in network.structure_warning
    assert [(i.name, i.dtype, i.shape) for i in network.inputs][2] == ("scale", "float64", [])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_other_types_are_run_and_edited(tmp_path, dtype):
    module = nn.Sequential(nn.Linear(4, 4), nn.ReLU()).to(getattr(torch, dtype))
    path = save_script(module, tmp_path / "m.pt")
    options = LoadOptions(inputs={"input": InputSpec(shape=[1, 4], dtype=dtype)})
    network = load(path, options)
    value = value_named(network, "0.weight")
    assert network.read(value).dtype.name == dtype
    network.write(value, np.zeros_like(network.read(value)))
    network.save(tmp_path / "n.pt")
    feeds = {"input": np.ones((1, 4)).astype(network.read(value).dtype)}
    (output,) = runner(tmp_path / "n.pt", options, 1).run(feeds)
    assert output.dtype.name == dtype
    expected = np.maximum(module[0].bias.detach().float().numpy(), 0)
    np.testing.assert_array_equal(output[0].astype(np.float32), expected)


def test_an_unknown_dtype_is_a_fault_of_the_request(tmp_path):
    path = save_script(nn.Linear(4, 4), tmp_path / "m.pt")
    with pytest.raises(InvalidRecipeError, match="no dtype"):
        load(path, LoadOptions(inputs={"input": InputSpec(shape=[1, 4], dtype="nn")}))


def test_shapes_that_do_not_fit_are_told(tmp_path):
    path = save_script(nn.Linear(4, 4), tmp_path / "m.pt")
    network = load(path, LoadOptions(inputs={"input": [1, 5]}))
    assert "does not run with the inputs given" in network.structure_warning
    assert len(writable(network)) == 1
    with pytest.raises(ModelNotRunnableError, match="torch fails"):
        runner(path, LoadOptions(inputs={"input": [1, 5]}), 1).run({"input": np.ones((1, 5), np.float32)})


def test_a_module_saved_in_training_mode_is_run_for_evaluation(tmp_path):
    module = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), nn.BatchNorm1d(4)).train()
    path = save_jit(scripted(module), tmp_path / "m.pt")
    feeds = {"input": np.random.default_rng(0).random((3, 4)).astype(np.float32)}
    options = LoadOptions(inputs={"input": [3, 4]})
    (output,) = runner(path, options, 1).run(feeds)
    expected = module.eval()(torch.from_numpy(feeds["input"])).detach().numpy()
    np.testing.assert_allclose(output, expected, rtol=1e-6)
    network = load(path, options)
    assert "BatchNormalization" in [node.op_type for node in network.structure.graph]


def test_a_module_without_forward_is_refused(tmp_path):
    class Empty(nn.Module):
        @torch.jit.export
        def other(self, x: torch.Tensor):
            return x

    with pytest.raises(InvalidModelError, match="no forward"):
        load(save_script(Empty(), tmp_path / "m.pt"), LoadOptions())


def test_another_shape_or_type_is_no_replacement(tmp_path):
    network = load(save_script(nn.Linear(4, 4), tmp_path / "m.pt"), LoadOptions(inputs={"input": [1, 4]}))
    with pytest.raises(ValueError, match="another shape or type"):
        network.write(value_named(network, "weight"), np.zeros((4, 4)))
    with pytest.raises(ValueError, match="cannot be written"):
        network.write(network.structure.graph.outputs[0], np.zeros((1, 4), np.float32))


class Chatty(nn.Module):
    def __init__(self):
        super().__init__()
        self.n = nn.Linear(4, 4)

    def forward(self, x):
        if bool(x.sum() > 0):
            raise ValueError("no " + str(x.shape))
        return self.n(x)


def test_a_model_that_raises_is_quoted_without_its_stack(tmp_path):
    path = save_script(Chatty(), tmp_path / "m.pt")
    ready = runner(path, LoadOptions(inputs={"x": [1, 4]}), 1)
    with pytest.raises(ModelNotRunnableError) as caught:
        ready.run({"x": np.ones((1, 4), np.float32)})
    assert "no [1, 4]" in str(caught.value)
    assert "\n" not in str(caught.value)
    np.testing.assert_allclose(ready.run({"x": -np.ones((1, 4), np.float32)})[0].shape, (1, 4))
