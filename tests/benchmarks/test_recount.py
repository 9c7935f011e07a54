"""The recount tells a kept promise from a broken one, in both formats."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from benchmarks.model_run import passes_checker, runs, same_interface
from benchmarks.recount import recount, tensors
from tests.e2e import files

NAME = "fc0.weight"
Edit = Callable[[np.ndarray], np.ndarray]


def edited(path: Path, name: str, edit: Edit) -> Path:
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        if tensor.name == name:
            tensor.CopyFrom(numpy_helper.from_array(edit(numpy_helper.to_array(tensor).copy()), name))
    onnx.save(model, path.with_name("edited.onnx"))
    return path.with_name("edited.onnx")


def first_rows_zero(array: np.ndarray) -> np.ndarray:
    array[:4] = 0
    return array


def test_zeros_are_counted(tmp_path: Path) -> None:
    before = files.onnx_file(tmp_path)
    found = recount(before, edited(before, NAME, first_rows_zero), [NAME])
    width = tensors(before)[NAME].shape[1]
    assert (found.weights, found.zeros) == (16 * width, 4 * width)
    assert found.sparsity == 0.25 and found.kept_are_same and found.others_are_same


def test_a_kept_weight_that_moved_is_seen(tmp_path: Path) -> None:
    before = files.onnx_file(tmp_path)
    after = edited(before, NAME, lambda array: np.nextafter(array, np.float32(9)))
    assert not recount(before, after, [NAME]).kept_are_same


def test_a_change_elsewhere_is_seen(tmp_path: Path) -> None:
    before = files.onnx_file(tmp_path)
    found = recount(before, edited(before, "fc0.bias", lambda array: array + 1), [NAME])
    assert found.kept_are_same and not found.others_are_same


def test_a_weight_that_is_gone_is_an_error(tmp_path: Path) -> None:
    path = files.onnx_file(tmp_path)
    with pytest.raises(LookupError, match="nowhere"):
        recount(path, path, ["nowhere"])


def test_torchscript_tensors_go_by_their_module(tmp_path: Path) -> None:
    path = files.torchscript_file(tmp_path)
    assert {"conv.weight", "norm.running_var", "classes.bias"} <= tensors(path).keys()
    assert recount(path, path, ["conv.weight"]).others_are_same
    assert runs(path, {"x": [2, 3, 8, 8]})


def test_weights_inside_branches_are_found(tmp_path: Path) -> None:
    value = numpy_helper.from_array(np.zeros((2, 2), np.float32), "inner")
    out = helper.make_tensor_value_info("w", onnx.TensorProto.FLOAT, [2, 2])
    branch = helper.make_graph([helper.make_node("Constant", [], ["w"], value=value)], "b", [], [out])
    node = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
    ends = [
        helper.make_tensor_value_info("c", onnx.TensorProto.BOOL, []),
        helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [2, 2]),
    ]
    path = tmp_path / "if.onnx"
    onnx.save(helper.make_model(helper.make_graph([node], "g", ends[:1], ends[1:])), path)
    assert tensors(path)["w"].shape == (2, 2)


def test_interface_and_checker(tmp_path: Path) -> None:
    before = files.onnx_file(tmp_path)
    model = onnx.load(before)
    model.graph.output[0].name = "renamed"
    broken = tmp_path / "broken.onnx"
    onnx.save(model, broken)
    assert same_interface(before, before) and not same_interface(before, broken)
    assert passes_checker(before)
    assert runs(before, {})
