"""Reading and writing tensors of ONNX files, and what a saved file keeps."""

import glob
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnx.backend.test
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from tests.engine.formats.files import dense_model, onnx_model, random_array, value_named, values, writable
from worker.engine.errors import NothingPrunableError
from worker.engine.formats import LoadOptions, load

DTYPES = [
    np.float32,
    np.float64,
    np.float16,
    ml_dtypes.bfloat16,
    np.int8,
    np.uint8,
    np.int16,
    np.uint16,
    np.int32,
    np.uint32,
    np.int64,
    np.uint64,
    np.bool_,
    np.complex64,
    np.complex128,
    ml_dtypes.float8_e4m3fn,
    ml_dtypes.float8_e5m2,
    ml_dtypes.int4,
    ml_dtypes.uint4,
]


def saved(model, path: Path) -> Path:
    path.write_bytes(model.SerializeToString())
    return path


def tensor_of(array: np.ndarray, name: str, *, raw: bool) -> TensorProto:
    kind = helper.np_dtype_to_tensor_dtype(array.dtype)
    if raw:
        return numpy_helper.from_array(array, name)
    return helper.make_tensor(name, kind, array.shape, array.ravel().tolist())


@settings(deadline=None, max_examples=150)
@given(
    st.sampled_from(DTYPES),
    st.lists(st.integers(0, 5), max_size=3),
    st.booleans(),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
def test_what_is_written_is_read_from_the_saved_file(tmp_path_factory, kind, shape, raw, in_constant, seed):
    dtype, folder = np.dtype(kind), tmp_path_factory.mktemp("model")
    before, after = random_array(dtype, shape, seed), random_array(dtype, shape, seed + 1)
    tensor = tensor_of(before, "W", raw=raw)
    model = onnx_model([], [helper.make_node("Constant", [], ["W"], value=tensor)])
    model = model if in_constant else onnx_model([tensor])
    network = load(saved(model, folder / "a.onnx"), LoadOptions())
    value = value_named(network, "W")
    assert network.writable(value)
    np.testing.assert_array_equal(network.read(value), before)
    assert network.read(value).dtype == dtype
    network.write(value, after)
    np.testing.assert_array_equal(network.read(value), after)
    network.save(folder / "b.onnx")
    again = load(folder / "b.onnx", LoadOptions())
    np.testing.assert_array_equal(again.read(value_named(again, "W")), after)
    network.write(value, before)
    network.save(folder / "c.onnx")
    assert (folder / "c.onnx").read_bytes() == (folder / "a.onnx").read_bytes()


def test_only_the_written_tensor_differs(tmp_path):
    model = dense_model()
    network = load(saved(model, tmp_path / "a.onnx"), LoadOptions())
    network.write(value_named(network, "W1"), np.zeros((4, 4), np.float32))
    network.save(tmp_path / "b.onnx")
    after = onnx.ModelProto.FromString((tmp_path / "b.onnx").read_bytes())
    assert not numpy_helper.to_array(after.graph.initializer[0]).any()
    after.graph.initializer[0].raw_data = model.graph.initializer[0].raw_data
    assert after == model


def test_the_same_edits_give_the_same_bytes_and_leave_the_upload_alone(tmp_path):
    path = saved(dense_model(), tmp_path / "a.onnx")
    before = path.read_bytes()
    for name in ("b.onnx", "c.onnx"):
        network = load(path, LoadOptions())
        for value in reversed(writable(network)) if name == "b.onnx" else writable(network):
            network.write(value, np.ones((4, 4), np.float32))
        network.save(tmp_path / name)
    assert (tmp_path / "b.onnx").read_bytes() == (tmp_path / "c.onnx").read_bytes()
    assert path.read_bytes() == before


def test_an_array_read_before_a_write_keeps_its_values(tmp_path):
    network = load(saved(dense_model(), tmp_path / "a.onnx"), LoadOptions())
    value = value_named(network, "W1")
    before = network.read(value)
    copy = before.copy()
    given_array = np.ones((4, 4), np.float32)
    network.write(value, given_array)
    given_array[:] = 5
    np.testing.assert_array_equal(before, copy)
    np.testing.assert_array_equal(network.read(value), np.ones((4, 4)))
    with pytest.raises(ValueError, match="read-only"):
        network.read(value)[0, 0] = 1


@pytest.mark.parametrize("array", [np.zeros((4, 4)), np.zeros((4, 5), np.float32), np.zeros(16, np.float32)])
def test_another_shape_or_type_is_no_replacement(tmp_path, array):
    network = load(saved(dense_model(), tmp_path / "a.onnx"), LoadOptions())
    with pytest.raises(ValueError, match="another shape or type"):
        network.write(value_named(network, "W1"), array)


def test_what_is_no_tensor_of_the_file_cannot_be_written(tmp_path):
    nodes = [
        helper.make_node("Constant", [], ["C"], value_floats=[1.0, 2.0]),
        helper.make_node("Constant", [], ["S"], value_strings=["a"]),
    ]
    model = onnx_model([helper.make_tensor("T", TensorProto.STRING, [1], [b"text"])], nodes)
    network = load(saved(model, tmp_path / "a.onnx"), LoadOptions())
    constant = value_named(network, "C")
    np.testing.assert_array_equal(network.read(constant), np.float32([1, 2]))
    assert [value.name for value in values(network) if not network.writable(value)] == ["T", "C", "S"]
    with pytest.raises(ValueError, match="cannot be written"):
        network.write(constant, np.float32([0, 0]))
    with pytest.raises(KeyError):
        network.read(network.structure.graph.outputs[0])
    with pytest.raises(KeyError):
        network.read(value_named(network, "S"))


def body_with_weight(name: str) -> onnx.GraphProto:
    output = helper.make_tensor_value_info(f"{name}_out", TensorProto.FLOAT, None)
    weight = numpy_helper.from_array(np.full((4, 4), 2, np.float32), f"{name}_W")
    constant = helper.make_node(
        "Constant", [], [f"{name}_C"], value=numpy_helper.from_array(np.float32(3), "three")
    )
    nodes = [
        constant,
        helper.make_node("MatMul", ["X", f"{name}_W"], [f"{name}_H"]),
        helper.make_node("Mul", [f"{name}_H", f"{name}_C"], [f"{name}_out"]),
    ]
    return helper.make_graph(nodes, name, [], [output], [weight])


def model_with_bodies() -> onnx.ModelProto:
    """If with weights in both branches, and a function with a Constant weight."""
    function = helper.make_function(
        "local",
        "Scale",
        ["x"],
        ["y"],
        [
            helper.make_node("Constant", [], ["k"], value=numpy_helper.from_array(np.float32([1, 2, 3, 4]))),
            helper.make_node("Mul", ["x", "k"], ["y"]),
        ],
        [helper.make_opsetid("", 17)],
    )
    nodes = [
        helper.make_node("Scale", ["X"], ["S"], domain="local"),
        helper.make_node(
            "If", ["B"], ["Z"], then_branch=body_with_weight("yes"), else_branch=body_with_weight("no")
        ),
        helper.make_node("Add", ["S", "Z"], ["Y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [
            helper.make_tensor_value_info("X", TensorProto.FLOAT, [1, 4]),
            helper.make_tensor_value_info("B", TensorProto.BOOL, []),
        ],
        [helper.make_tensor_value_info("Y", TensorProto.FLOAT, [1, 4])],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("local", 1)]
    return helper.make_model(graph, opset_imports=opsets, functions=[function], ir_version=8)


def test_weights_in_branches_and_functions_are_read_and_written(tmp_path):
    model = model_with_bodies()
    network = load(saved(model, tmp_path / "a.onnx"), LoadOptions())
    assert {value.name for value in writable(network)} == {"yes_W", "no_W", "yes_C", "no_C", "k"}
    for value in writable(network):
        network.write(value, -network.read(value))
    network.save(tmp_path / "b.onnx")
    again = load(tmp_path / "b.onnx", LoadOptions())
    np.testing.assert_array_equal(again.read(value_named(again, "no_W")), np.full((4, 4), -2))
    np.testing.assert_array_equal(again.read(value_named(again, "yes_C")), -3)
    np.testing.assert_array_equal(again.read(value_named(again, "k")), [-1, -2, -3, -4])


def test_initializers_that_are_inputs_too_are_no_inputs_of_the_model(tmp_path):
    model = dense_model()
    model.ir_version = 3
    for name in ("W1", "W2"):
        model.graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [4, 4]))
    network = load(saved(model, tmp_path / "a.onnx"), LoadOptions())
    assert [(info.name, info.dtype, info.shape) for info in network.inputs] == [("X", "float32", ["n", 4])]
    assert [info.name for info in network.outputs] == ["Y"]
    assert (network.opset, network.producer, network.suffix) == (17, "tests 3", ".onnx")


def test_what_onnx_ir_does_not_know_is_kept(tmp_path):
    """Sparse initializers, map types and training information pass through an edit."""
    model = dense_model()
    sparse = helper.make_sparse_tensor(
        helper.make_tensor("SP", TensorProto.FLOAT, [1], [2.0]),
        helper.make_tensor("SPI", TensorProto.INT64, [1], [3]),
        [8],
    )
    model.graph.sparse_initializer.append(sparse)
    model.training_info.add().initialization.CopyFrom(helper.make_graph([], "init", [], []))
    map_type = helper.make_map_type_proto(TensorProto.INT64, helper.make_tensor_type_proto(1, []))
    model.graph.value_info.append(helper.make_value_info("unused", map_type))
    path = saved(model, tmp_path / "a.onnx")
    network = load(path, LoadOptions())
    weight = value_named(network, "W2")
    original = network.read(weight)
    network.write(weight, original + 1)
    network.write(weight, original)
    network.save(tmp_path / "b.onnx")
    assert (tmp_path / "b.onnx").read_bytes() == path.read_bytes()


SHIPPED = sorted(
    glob.glob(str(Path(onnx.backend.test.__file__).parent / "data" / "**" / "*.onnx"), recursive=True)
)


def test_models_shipped_with_onnx_come_back_byte_by_byte(tmp_path):
    """Every tensor written anew with its own values."""
    assert len(SHIPPED) > 100
    for index, file in enumerate(SHIPPED):
        network = load(Path(file), LoadOptions())
        for value in writable(network):
            network.write(value, network.read(value))
        network.save(tmp_path / f"{index}.onnx")
        assert (tmp_path / f"{index}.onnx").read_bytes() == Path(file).read_bytes(), file


def test_nothing_prunable_is_an_invalid_model():
    assert NothingPrunableError().as_job_error().code == "invalid_model"
