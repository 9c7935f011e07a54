"""Channels leave files in which exporters computed what could have been stored."""

from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from api_schemas.recipe import RecipeRequest, resolve
from worker.engine.catalogue import catalogue
from worker.engine.context import Context
from worker.engine.pipeline import Source, prune


def test_a_bias_computed_from_the_weights_shape(tmp_path: Path) -> None:
    """torch's newer exporter writes a missing bias as Expand(CastLike(0), Shape(weight))."""
    rng = np.random.default_rng(0)
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
    for name, shape in {"a": (8, 3, 1, 1), "b": (4, 8, 1, 1)}.items():
        array = rng.standard_normal(shape).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    onnx.save(model, tmp_path / "m.onnx")
    request = RecipeRequest.model_validate({"preset": "lookahead_channels", "target": {"sparsity": 0.5}})
    (tmp_path / "out").mkdir()
    source = Source(tmp_path / "m.onnx", "m.onnx")
    recipe = resolve(request, catalogue().preset_axes())
    saved, report = prune(source, recipe, tmp_path / "out", Context(tmp_path))
    assert [layer.shape_after for layer in report.layers] == [[4, 3, 1, 1], [4, 4, 1, 1]]
    assert saved.is_file()
