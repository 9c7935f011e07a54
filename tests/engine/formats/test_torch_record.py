"""Graphs recorded from one run. ONNX Runtime on the recorded graph must agree with torch on the module."""

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
from torch import nn

from api_schemas.jobs import InputSpec
from tests.engine.formats.files import SHARED, needs_shared, save_script, value_named, writable
from worker.engine.errors import InvalidModelError
from worker.engine.formats import LoadOptions, load, runner
from worker.engine.formats.torch_operators import OPERATORS


@pytest.fixture
def no_exporter(monkeypatch):
    """The exporter gives up on everything."""

    def refuse(*_):
        raise InvalidModelError("switched off")

    monkeypatch.setattr("worker.engine.formats.torchscript.export", refuse)


class Applied(nn.Module):
    """A layer between two others, so that the recording has weights around what is tested."""

    def __init__(self, function, channels: int):
        super().__init__()
        self.first = nn.Conv2d(3, channels, 3, padding=1)
        self.function = function

    def forward(self, x):
        return self.function(self.first(x))


class Shapes(nn.Module):
    def forward(self, x):
        a, b = x.chunk(2, 1)
        c = torch.stack([a, b], 2).flatten(1, 2).permute(0, 2, 3, 1)
        d = torch.cat([c[:, 1:, :, ::2], c[:, :-1, :, 1::2]], -1).transpose(1, 2)
        e, f = d.unsqueeze(1).expand(-1, 2, -1, -1, -1).unbind(1)
        g, h = torch.split(e + f.squeeze(0), [1, 3], 3)
        return torch.cat([g.sum(3), h.mean([3])], 2) * d.select(1, 0).amax() - d.reshape(1, -1).mean()


class Arithmetic(nn.Module):
    def forward(self, x):
        y = torch.add(x, x, alpha=2) / 3 - torch.rsqrt(x.abs() + 1)
        y = torch.maximum(y, 1 - x) * torch.exp(-(x**2)) + torch.sqrt(x.abs())
        y += torch.clamp(x, min=0.1) + torch.clamp(x, -0.3, 0.3)
        return torch.log_softmax(y, 1) + torch.softmax(y, -1)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.q, self.o = nn.Linear(8, 24), nn.Linear(8, 8)
        self.n, self.g = nn.LayerNorm(8), nn.GroupNorm(2, 4)

    def forward(self, x):
        x = self.g(x).flatten(2)[..., :8]
        q, k, v = self.q(self.n(x)).split(8, 2)
        return self.o(nn.functional.scaled_dot_product_attention(q, k, v)) + x


CASES = {
    "batch norm": nn.BatchNorm2d(4),
    "batch norm without weights": nn.BatchNorm2d(4, affine=False),
    "depthwise": nn.Conv2d(4, 8, 3, stride=2, dilation=2, padding=2, groups=4, bias=False),
    "transposed": nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2),
    "max pool": nn.MaxPool2d(3, stride=2, padding=1, ceil_mode=True),
    "average pool": nn.AvgPool2d(3, padding=1, count_include_pad=False),
    "global pool": nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)),
    "adaptive pool": nn.AdaptiveAvgPool2d(4),
    "activations": nn.Sequential(
        nn.SiLU(), nn.GELU(), nn.ELU(0.7), nn.LeakyReLU(0.2), nn.Hardswish(), nn.Hardsigmoid(), nn.Mish()
    ),
    "more activations": nn.Sequential(
        nn.ReLU6(), nn.Softplus(), nn.SELU(), nn.PReLU(4), nn.Tanh(), nn.Sigmoid(), nn.GELU("tanh")
    ),
    "in place": nn.Sequential(nn.ReLU(inplace=True), nn.Conv2d(4, 4, 1), nn.SiLU(inplace=True)),
    "pad": nn.Sequential(
        nn.ReflectionPad2d((1, 2, 0, 1)), nn.ReplicationPad2d(1), nn.ConstantPad2d((1, 0, 2, 1), 0.5)
    ),
    "resize": nn.Sequential(nn.Upsample(scale_factor=2), nn.Upsample(scale_factor=2, mode="bilinear")),
    "resize to corners": nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True),
    "shuffle": nn.PixelShuffle(2),
    "shapes": Shapes(),
    "arithmetic": Arithmetic(),
    "attention": Attention(),
}


@pytest.mark.usefixtures("no_exporter")
@pytest.mark.parametrize("name", CASES)
def test_the_recorded_graph_computes_what_the_module_computes(tmp_path, name):
    torch.manual_seed(0)
    module = Applied(CASES[name], 4).eval()
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.uniform_(-1, 1)
            part.running_var.uniform_(0.5, 2)
    path, options = save_script(module, tmp_path / "m.pt"), LoadOptions(inputs={"x": [1, 3, 8, 8]})
    network = load(path, options)
    assert network.structure_warning is None
    assert not [node.op_type for node in network.structure.graph if node.domain == "aten"]
    assert next(iter(network.structure.graph)).op_type == "Conv"
    ir.save(network.structure, tmp_path / "m.onnx")
    feeds = {"x": torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(1)).numpy()}
    session = ort.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    (expected,) = runner(path, options, 1).run(feeds)
    (found,) = session.run(None, feeds)
    torch.testing.assert_close(torch.from_numpy(found), torch.from_numpy(expected), rtol=1e-4, atol=1e-5)


class Masked(nn.Module):
    """An optional argument, a loop over data and kept state: nothing of it can be exported."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.unused = nn.Linear(4, 6), nn.Linear(6, 4), nn.Linear(4, 3)
        self.steps: int = 0

    def forward(self, x, mask: torch.Tensor | None = None):
        self.steps += 1
        if mask is not None:
            return self.unused(x * mask)
        while bool(x.sum() > 100):
            x = x / 2
        return self.b(torch.relu(self.a(x)))


def test_what_cannot_be_exported_is_followed_and_the_rest_stands_apart(tmp_path):
    network = load(save_script(Masked(), tmp_path / "m.pt"), LoadOptions(inputs={"x": [1, 4]}))
    assert network.structure_warning is None
    names = [value.name for value in writable(network)]
    assert names == ["a.weight", "a.bias", "b.weight", "b.bias", "unused.weight"]
    products = {node.name: node for node in network.structure.graph if node.op_type == "Gemm"}
    assert set(products) == {"a", "b", "unused"}
    (relu,) = [node for node in network.structure.graph if node.op_type == "Relu"]
    assert relu.inputs[0].producer() is products["a"]
    assert products["b"].inputs[0] is relu.outputs[0]
    assert products["unused"].inputs[0].is_graph_input()
    weight = value_named(network, "a.weight")
    assert network.read(weight).shape == (6, 4)


@pytest.mark.shared
@needs_shared
def test_a_real_model_with_state_and_branches_is_recorded_exactly(tmp_path):
    """silero: SetAttr, If, LSTMCell in place; ONNX Runtime gives torch's own answer on the recorded graph."""
    options = LoadOptions(inputs={"x": [1, 512], "sr": InputSpec(value=16000)})
    path = SHARED / "torchscript" / "silero_vad.jit"
    network = load(path, options)
    assert network.structure_warning is None
    assert not [node.op_type for node in network.structure.graph if node.domain == "aten"]
    ir.save(network.structure, tmp_path / "m.onnx")
    session = ort.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    sound = torch.sin(torch.arange(512) / 10)[None].numpy()
    feeds = {"x": sound}
    for apart in session.get_inputs()[1:]:
        feeds[apart.name] = np.zeros(
            [size if isinstance(size, int) else 300 for size in apart.shape], np.float32
        )
    (expected,) = runner(path, options, 1).run({"x": sound})
    found = session.run([session.get_outputs()[0].name], feeds)[0]
    np.testing.assert_allclose(found, expected, rtol=1e-4)


class Overwritten(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        y = self.a(x)
        y[:, :2].zero_()
        return self.b(y)


@pytest.mark.usefixtures("no_exporter")
def test_a_tensor_changed_through_a_view_is_not_taken_for_what_it_was(tmp_path):
    network = load(save_script(Overwritten(), tmp_path / "m.pt"), LoadOptions(inputs={"x": [1, 4]}))
    second = next(node for node in network.structure.graph if node.name == "b")
    assert second.inputs[0].producer().domain == "aten"


@pytest.mark.usefixtures("no_exporter")
def test_an_unknown_operation_is_opaque(tmp_path):
    class Sorted(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x):
            return self.b(torch.sort(self.a(x))[0])

    assert "sort" not in OPERATORS
    network = load(save_script(Sorted(), tmp_path / "m.pt"), LoadOptions(inputs={"x": [1, 4]}))
    (opaque,) = [node for node in network.structure.graph if node.domain == "aten"]
    assert (opaque.op_type, opaque.inputs[0].producer().name) == ("sort", "a")


@pytest.mark.usefixtures("no_exporter")
@pytest.mark.parametrize("directions", [1, 2])
def test_a_recorded_lstm_is_an_lstm_over_its_parameters(tmp_path, directions):
    class Reader(nn.Module):
        def __init__(self):
            super().__init__()
            self.r = nn.LSTM(3, 5, bidirectional=directions == 2)
            self.o = nn.Linear(5 * directions, 2)

        def forward(self, x):
            return self.o(self.r(x)[0])

    network = load(save_script(Reader(), tmp_path / "m.pt"), LoadOptions(inputs={"x": [4, 1, 3]}))
    nodes = [node for node in network.structure.graph if node.op_type == "LSTM"]
    read = [[node.inputs[i].producer().inputs[0].name for i in (1, 2)] for node in nodes]
    ends = ["l0", "l0_reverse"][:directions]
    assert read == [[f"r.weight_ih_{end}", f"r.weight_hh_{end}"] for end in ends]
