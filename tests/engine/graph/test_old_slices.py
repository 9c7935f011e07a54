"""A Slice before opset 10 says in attributes what it takes; numbers made from a shape may pass through it."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from worker.engine import formats
from worker.engine.formats.base import LoadOptions
from worker.engine.graph.build import build


def test_a_slice_with_attributes_is_followed(tmp_path: Path) -> None:
    weight = np.ones((6, 3, 1, 1), np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["y"]),
        helper.make_node("Shape", ["y"], ["shape"]),
        helper.make_node("Slice", ["shape"], ["width"], starts=[1], ends=[2]),
        helper.make_node("Cast", ["width"], ["number"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["y", "number"], ["z"]),
    ]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, channels, 4, 4])
        for name, channels in (("x", 3), ("z", 6))
    ]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [numpy_helper.from_array(weight, "w")])
    path = tmp_path / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 9)], ir_version=4), path)
    (layer,) = build(formats.load(path, LoadOptions(scratch=tmp_path))).layers
    assert layer.weight == "w"
