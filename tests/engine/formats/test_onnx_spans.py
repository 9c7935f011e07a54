"""Weights replaced in the file itself: every other byte stays."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from tests.engine.formats.files import onnx_model, value_named
from worker.engine.formats import LoadOptions, load
from worker.engine.formats.onnx_spans import replaced

#: A field that no version of ONNX knows (number 1000, two bytes), inside one more piece of the graph.
UNKNOWN = bytes([0x3A, 5, 0xC2, 0x3E, 2]) + b"hi"


def file_of(folder: Path, *tensors: onnx.TensorProto) -> Path:
    path = folder / "m.onnx"
    path.write_bytes(onnx_model(list(tensors)).SerializeToString() + UNKNOWN)
    return path


def test_a_saved_file_differs_in_the_bytes_of_the_weight_alone(tmp_path: Path) -> None:
    before, after = np.arange(6, dtype=np.float32), -np.arange(6, dtype=np.float32)
    path = file_of(tmp_path, numpy_helper.from_array(before, "A"), numpy_helper.from_array(before + 9, "B"))
    network = load(path, LoadOptions())
    network.write(value_named(network, "A"), after)
    network.save(tmp_path / "out.onnx")
    expected = path.read_bytes().replace(before.tobytes(), after.tobytes())
    assert (tmp_path / "out.onnx").read_bytes() == expected


def test_graphs_in_pieces_are_one_graph(tmp_path: Path) -> None:
    """protobuf joins repeated messages: initializers count on."""
    first, second = np.full(3, 1, np.float32), np.full(3, 2, np.float32)
    path = file_of(tmp_path, numpy_helper.from_array(first, "A"))
    more = onnx.ModelProto()
    more.graph.initializer.append(numpy_helper.from_array(second, "B"))
    path.write_bytes(path.read_bytes() + more.SerializeToString())
    assert replaced(path, {1: np.full(3, 7, np.float32)})
    held = {
        tensor.name: numpy_helper.to_array(tensor).tolist() for tensor in onnx.load(path).graph.initializer
    }
    assert held == {"A": [1, 1, 1], "B": [7, 7, 7]}


@pytest.mark.parametrize(
    "tensor",
    [
        helper.make_tensor("A", onnx.TensorProto.FLOAT, [3], [1.0, 2.0, 3.0]),
        numpy_helper.from_array(np.zeros(4, np.float32), "A"),
    ],
    ids=["typed data", "another size"],
)
def test_what_does_not_fit_is_left_alone(tensor: onnx.TensorProto, tmp_path: Path) -> None:
    path = file_of(tmp_path, tensor)
    whole = path.read_bytes()
    assert not replaced(path, {0: np.zeros(3, np.float32)})
    assert not replaced(path, {5: np.zeros(3, np.float32)})
    assert path.read_bytes() == whole
