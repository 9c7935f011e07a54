"""ONNX files that the checker is stricter about than any runtime: they load, and are pruned like others."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from tests.engine.formats import graphs
from tests.engine.masks import recipe
from worker.engine.context import Context
from worker.engine.errors import InvalidModelError
from worker.engine.formats import LoadOptions, load
from worker.engine.pipeline import Source, prune

TEXT = """
g (float[n, 8] x) => (float[n, 3] y) {
    h = MatMul(x, w)
    a = Relu(h)
    y = MatMul(a, v)
}
"""


def two_layers() -> onnx.ModelProto:
    random = np.random.default_rng(0)
    shapes = {"w": (8, 16), "v": (16, 3)}
    return graphs.model(TEXT, {name: random.normal(size=s).astype("f") for name, s in shapes.items()})


def without_shapes(model: onnx.ModelProto) -> None:
    for info in (*model.graph.input, *model.graph.output):
        info.type.tensor_type.ClearField("shape")


def without_import(model: onnx.ModelProto) -> None:
    model.graph.node[1].op_type, model.graph.node[1].domain = "Gelu", "com.microsoft"


def without_inputs_for_initializers(model: onnx.ModelProto) -> None:
    model.ir_version = 3


def pruned(model: onnx.ModelProto, folder: Path, **request: object) -> onnx.ModelProto:
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    (folder / "out").mkdir()
    asked = recipe(criterion="lookahead", target={"sparsity": 0.5}, **request)
    saved, report = prune(Source(path, path.name), asked, folder / "out", Context(folder))
    assert all(check.passed for check in report.checks)
    return onnx.load(saved)


@pytest.mark.parametrize("change", [without_import, without_shapes, without_inputs_for_initializers])
def test_what_only_the_checker_asks_for_may_be_missing(
    change: Callable[[onnx.ModelProto], None], tmp_path: Path
) -> None:
    model = two_layers()
    change(model)
    with pytest.raises(onnx.checker.ValidationError):
        onnx.checker.check_model(model)
    after = pruned(model, tmp_path)
    assert sum((onnx.numpy_helper.to_array(w) == 0).sum() for w in after.graph.initializer) == 88
    after.graph.ClearField("initializer")
    model.graph.ClearField("initializer")
    assert after == model


def test_channels_go_through_operators_whose_domain_is_not_imported(tmp_path: Path) -> None:
    model = two_layers()
    without_import(model)
    after = pruned(model, tmp_path, granularity="channel", apply="shrink")
    assert {w.name: list(w.dims) for w in after.graph.initializer} == {"w": [8, 8], "v": [8, 3]}


def test_external_data_does_not_make_the_check_stricter(tmp_path: Path) -> None:
    model = two_layers()
    without_shapes(model)
    path = tmp_path / "model.onnx"
    onnx.save_model(model, path, save_as_external_data=True, location="model.data", size_threshold=16)
    network = load(path, LoadOptions())
    assert len(network.structure.graph.initializers) == 2


def test_a_node_of_the_standard_that_is_wrong_is_still_refused(tmp_path: Path) -> None:
    model = two_layers()
    without_import(model)
    model.graph.node.append(helper.make_node("Conv", ["a"], ["z"]))
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(InvalidModelError, match="Conv"):
        load(path, LoadOptions())
