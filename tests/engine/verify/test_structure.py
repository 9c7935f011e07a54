"""Structure checks pass a pruned file and catch every other change."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.engine.verify.runners import linear_model, saved
from worker.engine.verify import check_structure
from worker.engine.verify.structure import check_smaller, check_validity

WEIGHT = np.random.default_rng(0).normal(size=(4, 3))


def pruned() -> onnx.ModelProto:
    """The model with zeros in an initializer, a Constant and a subgraph."""
    model = linear_model(WEIGHT * (np.abs(WEIGHT) > 1))
    model.graph.node[1].attribute[0].t.CopyFrom(numpy_helper.from_array(np.zeros(3, np.float32), "scale"))
    inner = model.graph.node[3].attribute[0].g.initializer[0]
    inner.CopyFrom(numpy_helper.from_array(np.zeros(3, np.float32), "inner"))
    return model


def failed(tmp_path: Path, model: onnx.ModelProto) -> list[str]:
    """Names of the checks that a file fails against the original."""
    before = saved(tmp_path / "before.onnx", linear_model(WEIGHT))
    after = saved(tmp_path / "after.onnx", model)
    return [check.name for check in check_structure(before, after) if not check.passed]


def test_pruned_weights_wherever_they_are_pass(tmp_path: Path) -> None:
    assert failed(tmp_path, pruned()) == []


def _rename_node(model: onnx.ModelProto) -> None:
    model.graph.node[0].name = "other"


def _rewire(model: onnx.ModelProto) -> None:
    model.graph.node[2].input[0] = "x"


def _attribute(model: onnx.ModelProto) -> None:
    model.graph.node[0].attribute.append(helper.make_attribute("alpha", 1.0))


def _inner_node(model: onnx.ModelProto) -> None:
    model.graph.node[3].attribute[1].g.node[0].op_type = "Sub"


def _input_shape(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 7


def _output_name(model: onnx.ModelProto) -> None:
    model.graph.output[0].name = "m"


def _opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 16


def _metadata(model: onnx.ModelProto) -> None:
    model.metadata_props[0].value = "somebody else"


def _producer(model: onnx.ModelProto) -> None:
    model.producer_name = "us"


def _extra_opset(model: onnx.ModelProto) -> None:
    model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))


def _tensor_type(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].data_type = TensorProto.INT32


def _tensor_gone(model: onnx.ModelProto) -> None:
    del model.graph.initializer[1]


def _inner_tensor(model: onnx.ModelProto) -> None:
    model.graph.node[3].attribute[1].g.initializer[0].dims[0] = 1


CHANGES = {
    "nodes and names": [_rename_node, _rewire, _attribute, _inner_node],
    "inputs and outputs": [_input_shape, _output_name],
    "opsets and metadata": [_opset, _metadata, _producer, _extra_opset],
    "tensors": [_tensor_type, _tensor_gone, _inner_tensor],
}


@pytest.mark.parametrize(
    ("name", "change"), [(name, change) for name, changes in CHANGES.items() for change in changes]
)
def test_any_other_change_is_caught(
    tmp_path: Path, name: str, change: Callable[[onnx.ModelProto], None]
) -> None:
    model = pruned()
    change(model)
    assert name in failed(tmp_path, model)


def test_a_weight_of_another_shape_is_caught_unless_the_file_was_to_shrink(tmp_path: Path) -> None:
    model = linear_model(WEIGHT)
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.ones((4, 2), np.float32), "w"))
    assert "tensors" in failed(tmp_path, model)
    assert {c.name for c in check_smaller(tmp_path / "before.onnx", tmp_path / "after.onnx")} == {
        "ONNX checker",
        "inputs and outputs",
        "opsets and metadata",
    }


def test_an_invalid_result_of_a_valid_file_fails_the_checker(tmp_path: Path) -> None:
    model = linear_model(WEIGHT)
    model.graph.node[0].input[1] = "missing"
    assert "ONNX checker" in failed(tmp_path, model)


def test_a_wrong_shape_is_found_by_the_full_check_only(tmp_path: Path) -> None:
    good = saved(tmp_path / "good.onnx", linear_model(WEIGHT))
    odd = linear_model(WEIGHT)
    odd.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 99
    bad = saved(tmp_path / "bad.onnx", odd)
    assert not check_validity(good, bad).passed
    result = check_validity(bad, bad)
    assert result.passed
    assert "no stricter" in result.detail


def test_an_upload_that_is_itself_invalid_is_said_to_be(tmp_path: Path) -> None:
    model = linear_model(WEIGHT)
    model.graph.node[0].op_type = "NoSuchOperator"
    path = saved(tmp_path / "bad.onnx", model)
    result = check_validity(path, path)
    assert result.passed
    assert result.detail.startswith("not applied")


def test_a_file_that_cannot_be_read_fails(tmp_path: Path) -> None:
    good = saved(tmp_path / "good.onnx", linear_model(WEIGHT))
    (tmp_path / "bad.onnx").write_bytes(b"\xff\xff\xff")
    (check,) = check_structure(good, tmp_path / "bad.onnx")
    assert not check.passed


def with_function(*, inner: str = "Neg", weights: float = 1.0) -> onnx.ModelProto:
    """A model that calls a function whose If has a node inside, and that holds a sparse tensor."""
    value = helper.make_tensor_value_info("b", TensorProto.FLOAT, None)
    branch = helper.make_graph([helper.make_node(inner, ["a"], ["b"])], "branch", [], [value])
    condition = helper.make_node(
        "Constant", [], ["c"], value=helper.make_tensor("c", TensorProto.BOOL, [], [True])
    )
    choice = helper.make_node("If", ["c"], ["z"], then_branch=branch, else_branch=branch)
    function = helper.make_function(
        "local", "twice", ["a"], ["z"], [condition, choice], [helper.make_opsetid("", 17)]
    )
    model = linear_model(WEIGHT * weights)
    model.functions.append(function)
    model.opset_import.append(helper.make_opsetid("local", 1))
    values = helper.make_tensor("sparse", TensorProto.FLOAT, [1], [weights])
    indices = helper.make_tensor("sparse_indices", TensorProto.INT64, [1], [0])
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [5]))
    return model


def test_functions_and_sparse_tensors_are_compared_too(tmp_path: Path) -> None:
    before = saved(tmp_path / "before.onnx", with_function())
    same = saved(tmp_path / "same.onnx", with_function(weights=0.0))
    other = saved(tmp_path / "other.onnx", with_function(inner="Abs"))
    longer = with_function()
    longer.graph.sparse_initializer[0].dims[0] = 6
    assert all(check.passed for check in check_structure(before, same))
    for path, name in ((other, "nodes and names"), (saved(tmp_path / "longer.onnx", longer), "tensors")):
        assert name in [check.name for check in check_structure(before, path) if not check.passed]


def test_an_upload_that_is_no_model_at_all_is_not_held_against_the_result(tmp_path: Path) -> None:
    result = check_validity(tmp_path / "missing.onnx", tmp_path / "missing.onnx")
    assert result.detail.startswith("not applied")
