"""Shapes are found, or not known; what inference cannot read is no reason to end."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from worker.engine.formats import LoadOptions, load
from worker.engine.graph.build import build


def vectorised_dictionary() -> onnx.ModelProto:
    """A dictionary, as scikit-learn pipelines read it, made a row and multiplied."""
    words = helper.make_map_type_proto(
        TensorProto.STRING, helper.make_tensor_type_proto(TensorProto.FLOAT, [])
    )
    weight = np.random.default_rng(0).normal(size=(4, 2)).astype("f")
    vocabulary = ["a", "b", "c", "d"]
    graph = helper.make_graph(
        [
            helper.make_node(
                "DictVectorizer", ["words"], ["row"], domain="ai.onnx.ml", string_vocabulary=vocabulary
            ),
            helper.make_node("MatMul", ["row", "w"], ["y"]),
            helper.make_node("MatMul", ["x", "w"], ["z"]),
        ],
        "g",
        [
            helper.make_value_info("words", words),
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4]),
        ],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in "yz"],
        [numpy_helper.from_array(weight, "w")],
    )
    sets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 1)]
    return helper.make_model(graph, opset_imports=sets, ir_version=8)


def test_operators_over_maps_do_not_end_the_process(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(vectorised_dictionary().SerializeToString())
    network = load(path, LoadOptions())
    graph = build(network)
    assert [layer.name for layer in graph.layers] == ["w"]
    (z,) = (value for value in network.structure.graph.outputs if value.name == "z")
    assert graph.shapes.of(z) == (1, 2)
