"""Channels leave files in which exporters computed what could have been stored."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import DTypeLike
from onnx import TensorProto, numpy_helper

from api_schemas.recipe import RecipeRequest, resolve
from api_schemas.report import Report
from worker.engine.catalogue import catalogue
from worker.engine.context import Context
from worker.engine.pipeline import Source, prune

Array = np.ndarray[Any, np.dtype[Any]]


def test_a_bias_computed_from_the_weights_shape(tmp_path: Path) -> None:
    """torch's newer exporter writes a missing bias as Expand(CastLike(0), Shape(weight))."""
    model = onnx.parser.parse_model(
        """<ir_version: 9, opset_import: ["" : 18]> g (float[N,3,8,8] x) => (float[N,4,8,8] o)
            <float zero = {0.0}> {
            count = Shape<start=0, end=1>(a)
            like = CastLike(zero, x)
            bias = Expand(like, count)
            t = Conv(x, a, bias)
            r = Relu(t)
            o = Conv(r, b)
        }"""
    )
    _fill(model, {"a": (8, 3, 1, 1), "b": (4, 8, 1, 1)})
    saved, report = _halved(model, tmp_path)
    assert [layer.shape_after for layer in report.layers] == [[4, 3, 1, 1], [4, 4, 1, 1]]
    assert saved.is_file()


def _fill(model: onnx.ModelProto, shapes: dict[str, tuple[int, ...]], dtype: DTypeLike = np.float32) -> None:
    rng = np.random.default_rng(0)
    for name, shape in shapes.items():
        array: Array = rng.standard_normal(shape).astype(dtype)
        model.graph.initializer.append(numpy_helper.from_array(array, name))


def _halved(model: onnx.ModelProto, folder: Path) -> tuple[Path, Report]:
    """Half of the channels; the job proves the file equal to the masked model."""
    onnx.save(model, folder / "m.onnx")
    request = RecipeRequest.model_validate({"preset": "lookahead_channels", "target": {"sparsity": 0.5}})
    (folder / "out").mkdir()
    recipe = resolve(request, catalogue().preset_axes())
    return prune(Source(folder / "m.onnx", "m.onnx"), recipe, folder / "out", Context(folder))


def _sizes(path: Path) -> dict[str, tuple[int, list[int]]]:
    return {t.name: (t.data_type, list(t.dims)) for t in onnx.load(path).graph.initializer}


def test_weights_behind_a_cast_stay_in_their_type(tmp_path: Path) -> None:
    """Half precision in the file, single where it is multiplied."""
    model = onnx.parser.parse_model(
        """<ir_version: 9, opset_import: ["" : 18]> g (float[N,6] x) => (float[N,4] o) {
            c = Cast<to=1>(a)
            t = MatMul(x, c)
            r = Relu(t)
            turned = Transpose<perm=[1, 0]>(b)
            d = Cast<to=1>(turned)
            o = MatMul(r, d)
        }"""
    )
    _fill(model, {"a": (6, 8), "b": (4, 8)}, np.float16)
    saved, _ = _halved(model, tmp_path)
    assert _sizes(saved) == {"a": (TensorProto.FLOAT16, [6, 4]), "b": (TensorProto.FLOAT16, [4, 4])}


def test_weights_behind_a_cast_and_a_reshape_are_stored_as_they_are_read(tmp_path: Path) -> None:
    model = onnx.parser.parse_model(
        """<ir_version: 9, opset_import: ["" : 18]> g (float[N,6] x) => (float[N,4] o)
            <int64[2] shape = {6, 8}> {
            c = Cast<to=1>(a)
            w = Reshape(c, shape)
            t = MatMul(x, w)
            r = Relu(t)
            o = MatMul(r, b)
        }"""
    )
    _fill(model, {"a": (48,)}, np.float64)
    _fill(model, {"b": (8, 4)})
    saved, _ = _halved(model, tmp_path)
    assert sorted(_sizes(saved).values()) == [(TensorProto.FLOAT, [4, 4]), (TensorProto.FLOAT, [6, 4])]


def test_a_table_with_one_scale_keeps_its_integers(tmp_path: Path) -> None:
    model = onnx.parser.parse_model(
        """<ir_version: 9, opset_import: ["" : 18]> g (int64[N,3] x) => (float[N,3,4] o)
            <float scale = {0.05}> {
            table = DequantizeLinear(q, scale)
            e = Gather(table, x)
            t = MatMul(e, a)
            s = Add(e, t)
            o = MatMul(s, b)
        }"""
    )
    table = np.random.default_rng(0).integers(-100, 100, (9, 8)).astype(np.int8)
    model.graph.initializer.append(numpy_helper.from_array(table, "q"))
    _fill(model, {"a": (8, 8), "b": (8, 4)})
    saved, _ = _halved(model, tmp_path)
    assert _sizes(saved)["q"] == (TensorProto.INT8, [9, 4])


def test_a_table_that_is_an_output_layer_of_other_channels(tmp_path: Path) -> None:
    """What is looked up stays whole; what the same tensor is multiplied with does not."""
    model = onnx.parser.parse_model(
        """<ir_version: 9, opset_import: ["" : 18]> g (int64[N,3] x) => (float[N,3,9] o) {
            e = Gather(table, x)
            t = MatMul(e, a)
            r = Relu(t)
            turned = Transpose<perm=[1, 0]>(table)
            o = MatMul(r, turned)
        }"""
    )
    _fill(model, {"table": (9, 8), "a": (8, 8)})
    saved, _ = _halved(model, tmp_path)
    assert _sizes(saved)["a"][1] == [8, 4]
    assert sorted(size for _, size in _sizes(saved).values()) == [[8, 4], [9, 4], [9, 8]]


def test_one_channel_that_gates_channels_that_are_not_followed(tmp_path: Path) -> None:
    model = onnx.parser.parse_model(
        """<ir_version: 9, opset_import: ["" : 18]> g (float[N,4,6,6] x) => (float[N,5,6,6] o) {
            gate = Conv(x, one)
            g = Mul(x, gate)
            t = Conv(g, a)
            r = Relu(t)
            o = Conv(r, b)
        }"""
    )
    _fill(model, {"one": (1, 4, 1, 1), "a": (8, 4, 1, 1), "b": (5, 8, 1, 1)})
    saved, _ = _halved(model, tmp_path)
    assert _sizes(saved)["a"][1] == [4, 4, 1, 1]
    assert _sizes(saved)["one"][1] == [1, 4, 1, 1]


def test_a_reshape_to_the_shape_of_something_that_stays(tmp_path: Path) -> None:
    """An optimizer writes Shape of the stream where sizes of the heads were put together."""
    model = onnx.parser.parse_model(
        """<ir_version: 9, opset_import: ["" : 18]> g (float[N,3,8] x) => (float[N,3,8] o)
            <int64[4] apart = {0, 0, 4, 2}> {
            t = MatMul(x, a)
            h = Reshape(t, apart)
            r = Relu(h)
            like = Shape(x)
            f = Reshape(r, like)
            p = MatMul(f, b)
            o = Add(p, x)
        }"""
    )
    _fill(model, {"a": (8, 8), "b": (8, 8)})
    saved, _ = _halved(model, tmp_path)
    assert [_sizes(saved)[name][1] for name in "ab"] == [[8, 4], [4, 8]]


def test_a_shape_that_two_expansions_take_is_edited_once(tmp_path: Path) -> None:
    """The same stored count stands for heads and, at the end, for features."""
    model = onnx.parser.parse_model(
        """<ir_version: 9, opset_import: ["" : 18]> g (float[N,4,3,4] x) => (float[N,4,3,5] o)
            <int64[1] four = {4}, int64[1] three = {3}, int64[1] two = {1}> {
            batch = Shape<start=0, end=1>(x)
            wide = Concat<axis=0>(batch, four, three, four)
            flat = ReduceMean(x, two)
            k = MatMul(flat, a)
            v = MatMul(flat, b)
            k2 = Expand(k, wide)
            v2 = Expand(v, wide)
            s = Add(k2, v2)
            r = Relu(s)
            o = MatMul(r, c)
        }"""
    )
    _fill(model, {"a": (4, 4), "b": (4, 4), "c": (4, 5)})
    saved, _ = _halved(model, tmp_path)
    assert [_sizes(saved)[name][1] for name in "abc"] == [[4, 2], [4, 2], [2, 5]]


def test_queries_and_keys_inside_an_attention_go_where_nothing_goes_around_it(tmp_path: Path) -> None:
    model = onnx.parser.parse_model(
        """<ir_version: 9, opset_import: ["" : 18, "com.microsoft" : 1]>
        g (float[N,3,6] x) => (float[N,3,8] o) {
            o = com.microsoft.Attention<num_heads=2>(x, a, b)
        }"""
    )
    _fill(model, {"a": (6, 24), "b": (24,)})
    saved, _ = _halved(model, tmp_path)
    assert _sizes(saved) == {"a": (TensorProto.FLOAT, [6, 16]), "b": (TensorProto.FLOAT, [16])}
