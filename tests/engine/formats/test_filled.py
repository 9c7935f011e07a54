"""Weights stored as a shape and one number: masked, made smaller, un-shared."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from api_schemas.recipe import RecipeRequest, resolve
from api_schemas.report import Report
from worker.engine.catalogue import catalogue
from worker.engine.context import Context
from worker.engine.errors import TooLargeError
from worker.engine.formats import LoadOptions, load
from worker.engine.graph.build import constants_in
from worker.engine.pipeline import Source, prune

LIGHT = Path(onnx.__file__).parent / "backend/test/data/light"
CHANNELS = {"preset": "lookahead_channels", "target": {"sparsity": 0.5}}
ELEMENTS = {"preset": "lookahead", "target": {"sparsity": 0.8}}


def pruned(file: Path, request: object, folder: Path) -> tuple[onnx.ModelProto, Report]:
    """The model that comes out, and its report."""
    (folder / "out").mkdir()
    recipe = resolve(RecipeRequest.model_validate(request), catalogue().preset_axes())
    saved, report = prune(Source(file, file.name), recipe, folder / "out", Context(folder))
    return onnx.load(saved), report


def drawn(text: str, file: Path, **arrays: np.ndarray) -> Path:
    model = onnx.parser.parse_model(f'<ir_version: 9, opset_import: ["" : 18]> g {text}')
    for name, array in arrays.items():
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    onnx.checker.check_model(model)
    onnx.save(model, file)
    return file


def ran(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found = session.run(None, {"x": x})[0]
    return np.asarray(found)


@pytest.mark.parametrize("name", ["light_squeezenet", "light_shufflenet"])
def test_channels_leave_and_the_weights_stay_a_shape_and_a_number(name: str, tmp_path: Path) -> None:
    model, report = pruned(LIGHT / f"{name}.onnx", CHANNELS, tmp_path)
    before = sum(layer.parameters for layer in report.layers)
    assert sum(layer.parameters - layer.zeros_after for layer in report.layers) < 0.6 * before
    assert not any(node.op_type == "Constant" for node in model.graph.node)
    # Indices of channel shuffles come in; weights, of megabytes, must not.
    assert model.ByteSize() < 1.2 * (LIGHT / f"{name}.onnx").stat().st_size


@pytest.mark.parametrize("name", ["light_squeezenet", "light_shufflenet"])
def test_of_equal_weights_exactly_the_asked_for_number_goes(name: str, tmp_path: Path) -> None:
    _, report = pruned(LIGHT / f"{name}.onnx", ELEMENTS, tmp_path)
    for layer in report.layers:
        assert abs(layer.zeros_after - 0.8 * layer.parameters) <= 0.5


TWO = """(float[N,8] x) => (float[N,4] y)
    <int64[2] square = {8, 8}> {
        w = ConstantOfShape<value = float[1] {0.5}>(square)
        a = MatMul(x, w)
        b = Relu(a)
        c = Mul(b, scale)
        d = MatMul(c, last)
        y = Relu(d)
    }"""


def test_a_mask_makes_a_whole_tensor_of_it_in_the_same_place(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    scale, last = rng.standard_normal(8).astype(np.float32), rng.standard_normal((8, 4)).astype(np.float32)
    file = drawn(TWO, tmp_path / "m.onnx", scale=scale, last=last)
    model, report = pruned(file, {"preset": "magnitude", "target": {"sparsity": 0.5}}, tmp_path)
    node = model.graph.node[0]
    assert (node.op_type, list(node.input), list(node.output)) == ("Constant", [], ["w"])
    weight = numpy_helper.to_array(node.attribute[0].t)
    assert set(np.unique(weight)) <= {np.float32(0), np.float32(0.5)}
    x = rng.standard_normal((3, 8)).astype(np.float32)
    kept = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}["last"]
    expected = np.maximum(np.maximum(x @ weight, 0) * scale @ kept, 0)
    np.testing.assert_allclose(ran(model, x), expected, rtol=1e-5, atol=1e-6)
    assert [layer.zeros_before for layer in report.layers] == [0, 0]


def test_a_shape_that_other_nodes_read_stays_as_it_is(tmp_path: Path) -> None:
    """Two filled weights share one shape; only what each keeps may decide its own."""
    text = """(float[N,8] x) => (float[N,8] y)
        <int64[2] square = {8, 8}> {
            v = ConstantOfShape<value = float[1] {0.5}>(square)
            w = ConstantOfShape<value = float[1] {0.25}>(square)
            a = MatMul(x, v)
            b = Relu(a)
            y = MatMul(b, w)
        }"""
    model, _ = pruned(drawn(text, tmp_path / "m.onnx"), CHANNELS, tmp_path)
    shapes = {tensor.name: numpy_helper.to_array(tensor).tolist() for tensor in model.graph.initializer}
    assert [shapes[node.input[0]] for node in model.graph.node[:2]] == [[8, 4], [4, 8]]
    np.testing.assert_allclose(ran(model, np.ones((1, 8), np.float32)), np.full((1, 8), 4.0))


def test_a_bias_read_by_two_layers_gets_apart_where_they_keep_other_channels(tmp_path: Path) -> None:
    """Of the first layer the later half is worth nothing, of the second the earlier."""
    text = """(float[N,6] x) => (float[N,3] y)
        <int64[1] long = {8}> {
            bias = ConstantOfShape<value = float[1] {1.5}>(long)
            a = Gemm(x, w1, bias)
            b = Relu(a)
            c = Gemm(b, w2, bias)
            d = Relu(c)
            y = MatMul(d, w3)
        }"""
    rng = np.random.default_rng(1)
    late, early = np.r_[np.ones(4), np.zeros(4) + 1e-3], np.r_[np.zeros(4) + 1e-3, np.ones(4)]
    first = (rng.standard_normal((6, 8)) * late).astype(np.float32)
    second = (rng.standard_normal((8, 8)) * early).astype(np.float32)
    third = rng.standard_normal((8, 3)).astype(np.float32)
    file = drawn(text, tmp_path / "m.onnx", w1=first, w2=second, w3=third)
    model, _ = pruned(file, CHANNELS, tmp_path)
    x = rng.standard_normal((5, 6)).astype(np.float32)
    hidden = np.maximum(x @ first[:, :4] + 1.5, 0)
    expected = np.maximum(hidden @ second[:4, 4:] + 1.5, 0) @ third[4:]
    np.testing.assert_allclose(ran(model, x), expected, rtol=1e-4)


def test_a_default_fill_of_zeros_is_no_weight(tmp_path: Path) -> None:
    text = """(float[N,8] x) => (float[N,8] y)
        <int64[2] square = {8, 8}> { z = ConstantOfShape(square) y = MatMul(x, z) }"""
    network = load(drawn(text, tmp_path / "m.onnx"), LoadOptions())
    assert [value.name for value in constants_in(network.structure)] == ["square"]


def test_a_shape_beyond_the_limit_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    shape = helper.make_tensor("s", TensorProto.INT64, [2], [1 << 20, 1 << 20])
    fill = helper.make_tensor("v", TensorProto.FLOAT, [1], [1.0])
    graph = helper.make_graph(
        [
            helper.make_node("ConstantOfShape", ["s"], ["w"], value=fill),
            helper.make_node("MatMul", ["x", "w"], ["y"]),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1 << 20])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 1 << 20])],
        [shape],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(TooLargeError, match="ConstantOfShape"):
        load(tmp_path / "m.onnx", LoadOptions())


def test_weights_behind_identity_that_stay_equal_are_stored_once(tmp_path: Path) -> None:
    text = """(float[N,8] x) => (float[N,4] y)
        {
            again = Identity(w)
            s = MatMul(x, first)
            a = MatMul(s, w)
            b = Relu(a)
            c = MatMul(b, again)
            d = Relu(c)
            y = MatMul(d, last)
        }"""
    rng = np.random.default_rng(0)
    shapes = {"first": (8, 8), "w": (8, 8), "last": (8, 4)}
    arrays = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    model, _ = pruned(drawn(text, tmp_path / "m.onnx", **arrays), CHANNELS, tmp_path)
    left = {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}
    assert left == {"first": [8, 4], "w": [4, 4], "last": [4, 4]}
    aliases = {node.output[0]: node.input[0] for node in model.graph.node if node.op_type == "Identity"}
    read = [node.input[1] for node in model.graph.node if node.op_type == "MatMul"]
    assert [aliases.get(name, name) for name in read] == ["first", "w", "w", "last"]
