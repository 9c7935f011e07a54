"""Runners that are plain functions, and a small ONNX file for the real one."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Function = Callable[[np.ndarray], "list[np.ndarray]"]


class FunctionRunner:
    """Runs a function of the input `x`; counts its runs."""

    runtime = "numpy"
    device = "cpu"
    threads = 1

    def __init__(self, function: Function, names: tuple[str, ...] = ("y",)) -> None:
        self.output_names = names
        self.runs = 0
        self._function = function

    def run(self, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        self.runs += 1
        return self._function(feeds["x"])


def linear_model(weight: np.ndarray, **changes: object) -> onnx.ModelProto:
    """y = 2 (x @ weight) + 1: weights in an initializer, a Constant node and the branches of an If."""
    rows, columns = weight.shape
    branch = helper.make_graph(
        [helper.make_node("Add", ["h", "inner"], ["b"], name="inner_add")],
        "branch",
        [],
        [helper.make_tensor_value_info("b", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.ones(columns, np.float32), "inner")],
    )
    scale = numpy_helper.from_array(np.full(columns, 2.0, np.float32), "scale")
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"], name="matmul"),
        helper.make_node("Constant", [], ["s"], name="constant", value=scale),
        helper.make_node("Mul", ["m", "s"], ["h"], name="mul"),
        helper.make_node("If", ["yes"], ["y"], name="if", then_branch=branch, else_branch=branch),
    ]
    graph = helper.make_graph(
        nodes,
        str(changes.get("graph", "linear")),
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", rows])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", columns])],
        [
            numpy_helper.from_array(weight.astype(np.float32), "w"),
            numpy_helper.from_array(np.array(True), "yes"),
        ],
    )
    model = helper.make_model(
        graph, producer_name="tests", opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )
    helper.set_model_props(model, {"author": "somebody"})
    return model


def saved(path: Path, model: onnx.ModelProto) -> Path:
    """Write a model file."""
    onnx.save(model, str(path))
    return path
