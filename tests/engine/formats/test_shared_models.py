"""The real models beside the checkout: all load, come back unchanged, and take edits."""

import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from api_schemas.jobs import InputSpec
from tests.engine.formats.files import SHARED, needs_shared, values, writable
from worker.engine.errors import EngineError, ModelNotRunnableError, UnsupportedFormatError
from worker.engine.formats import LoadOptions, load, runner

pytestmark = [pytest.mark.shared, needs_shared]

ONNX = sorted(path for path in SHARED.rglob("*.onnx") if "negative" not in path.parts)
#: Inputs whose open dimensions cannot be chosen freely.
OPEN = {("speech_silero_vad_If_lstm.onnx", "input"): [1, 576]}
TORCH = {
    "cnn_mnist_scripted.pt": {"x": [1, 1, 28, 28]},
    "g1_motion_lstm.pt": {"x": [1, 47]},
    "reddit_bytelstm.pt": {"byte_input": InputSpec(shape=[1, 20], dtype="int64")},
    "silero_vad.jit": {"x": [1, 512], "sr": InputSpec(value=16000)},
    "vit4mnist_dynquant.ptl": {"img": [1, 1, 28, 28]},
}


@pytest.mark.parametrize("path", ONNX, ids=lambda path: path.name)
def test_an_onnx_file_comes_back_byte_by_byte_and_zeroed_where_written(path, tmp_path):
    options = LoadOptions(scratch=tmp_path)
    network = load(path, options)
    before = {value: np.array(network.read(value)) for value in writable(network)}
    for value, array in before.items():
        network.write(value, np.zeros_like(array))
    network.save(tmp_path / "zero.onnx")
    zeroed = load(tmp_path / "zero.onnx", options)
    assert not any(np.any(zeroed.read(value).astype(np.float64)) for value in writable(zeroed))
    assert [value.name for value in values(zeroed)] == [value.name for value in values(network)]
    for value, array in before.items():
        network.write(value, array)
    network.save(tmp_path / "same.onnx")
    assert (tmp_path / "same.onnx").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("path", ONNX, ids=lambda path: path.name)
def test_an_onnx_file_runs(path, tmp_path):
    network = load(path, LoadOptions(scratch=tmp_path))
    ready = runner(path, LoadOptions(scratch=tmp_path), 2)
    assert ready.input_names == tuple(info.name for info in network.inputs)
    generator = np.random.default_rng(0)
    feeds = {}
    for info in network.inputs:
        shape = OPEN.get((path.name, info.name)) or [
            size if isinstance(size, int) else 32 if axis > 1 else 1 for axis, size in enumerate(info.shape)
        ]
        feeds[info.name] = np.asarray(generator.random(shape), info.dtype)
    if "silero" in path.name:
        feeds["sr"] = np.array(16000)
    outputs = ready.run(feeds)
    assert len(outputs) == len(network.outputs)
    assert all(np.isfinite(output).all() for output in outputs)


@pytest.mark.parametrize("name", TORCH)
def test_a_torchscript_file_comes_back_runs_and_is_zeroed(name, tmp_path):
    path, options = SHARED / "torchscript" / name, LoadOptions(inputs=TORCH[name], scratch=tmp_path)
    network = load(path, options)
    network.save(tmp_path / "same.pt")
    assert (tmp_path / "same.pt").read_bytes() == path.read_bytes()
    ready = runner(path, options, 2)
    feeds = {
        info.name: np.ones(info.shape, info.dtype)
        if info.dtype == "int64"
        else np.full(info.shape, 0.5, info.dtype)
        for info in network.inputs
    }
    first = [output.copy() for output in ready.run(feeds)]
    assert [list(output.shape) for output in first] == [info.shape for info in network.outputs]
    for output, again in zip(first, ready.run(feeds), strict=True):
        np.testing.assert_array_equal(output, again)
    for value in writable(network):
        network.write(value, np.zeros_like(network.read(value)))
    network.save(tmp_path / "zero.pt")
    after = runner(tmp_path / "zero.pt", options, 2).run(feeds)
    if name == "vit4mnist_dynquant.ptl":
        assert writable(network) == []
        assert "packed" in network.structure_warning
    else:
        assert not np.array_equal(first[0], after[0])
    with zipfile.ZipFile(tmp_path / "zero.pt") as archive:
        assert archive.testzip() is None


EXPECTED = {
    "cnn_mnist_scripted.pt": {"Conv": 3, "Gemm": 3, "BatchNormalization": 3},
    "g1_motion_lstm.pt": {"LSTM": 1, "Gemm": 2},
    "reddit_bytelstm.pt": {"LSTM": 2, "Gemm": 2, "Gather": 1},
}


@pytest.mark.parametrize("name", EXPECTED)
def test_the_layers_of_a_torchscript_file_are_in_its_graph(name):
    network = load(SHARED / "torchscript" / name, LoadOptions(inputs=TORCH[name]))
    assert network.structure_warning is None
    found = Counter(node.op_type for node in network.structure.graph)
    assert {operator: found[operator] for operator in EXPECTED[name]} == EXPECTED[name]


@pytest.mark.parametrize("name", TORCH)
def test_a_torchscript_file_is_inspected_without_shapes(name):
    network = load(SHARED / "torchscript" / name, LoadOptions())
    assert network.needs_inputs
    assert network.structure_warning
    least = 0 if name == "vit4mnist_dynquant.ptl" else 4
    assert len(writable(network)) >= least


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("git_lfs_pointer_mobilenetv2.onnx", UnsupportedFormatError, "git lfs pull"),
        ("resnet2b_state_dict_pickle.pth", UnsupportedFormatError, "pickle"),
        ("qonnx_espcn_quant.onnx", ModelNotRunnableError, r"onnx\.brevitas:Quant"),
        ("superres_custom_op.onnx", ModelNotRunnableError, "DecodeImage"),
    ],
)
def test_what_cannot_be_used_is_refused_in_words(name, error, message):
    path = SHARED / "negative" / name
    with pytest.raises(EngineError, match=message) as caught:
        load(path, LoadOptions())
        runner(path, LoadOptions(), 1)
    assert type(caught.value) is error
    assert str(path.parent) not in str(caught.value)


def test_a_model_without_layers_loads_and_runs():
    path = Path(SHARED / "negative" / "sklearn_randomforest.onnx")
    assert writable(load(path, LoadOptions())) == []
    outputs = runner(path, LoadOptions(), 1).run({"X": np.ones((1, 4), np.float32)})
    assert all(isinstance(output, np.ndarray) for output in outputs)
