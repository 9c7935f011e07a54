"""ONNX files made to harm: refused with a stable code, at once, before anything large is allocated."""

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from tests.engine.formats.files import dense_model, onnx_model, writable
from worker.engine.errors import EngineError, InvalidModelError, ModelNotRunnableError, TooLargeError
from worker.engine.formats import LoadOptions, load, runner


def saved(model, folder):
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def tensor(dims, kind=TensorProto.FLOAT, **fields):
    return TensorProto(name="W", dims=dims, data_type=kind, **fields)


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        (tensor([2**40, 4], raw_data=b""), TooLargeError),
        (tensor([2**62, 2**62], raw_data=b""), TooLargeError),
        (tensor([-1], raw_data=b"1234"), InvalidModelError),
        (tensor([3], raw_data=b"1234"), InvalidModelError),
        (tensor([1], raw_data=b"12345678"), InvalidModelError),
        (tensor([3], float_data=[1.0]), InvalidModelError),
        (tensor([5], TensorProto.INT8, int32_data=[1]), InvalidModelError),
        (tensor([1], 99, raw_data=b"1234"), InvalidModelError),
        (tensor([1], 0, raw_data=b"1234"), InvalidModelError),
        (tensor([2**40], TensorProto.STRING), TooLargeError),
    ],
)
def test_a_tensor_that_is_not_what_it_says_is_refused(tmp_path, bad, error):
    path = saved(onnx_model([bad]), tmp_path)
    with pytest.raises(error):
        load(path, LoadOptions())
    with pytest.raises(error):
        runner(path, LoadOptions(), 1)


def test_a_sparse_tensor_counts_by_its_dense_size(tmp_path):
    model = dense_model()
    sparse = helper.make_sparse_tensor(
        helper.make_tensor("S", TensorProto.FLOAT, [1], [2.0]),
        helper.make_tensor("I", TensorProto.INT64, [1], [3]),
        [2**40],
    )
    model.graph.sparse_initializer.append(sparse)
    with pytest.raises(TooLargeError, match="sparse"):
        load(saved(model, tmp_path), LoadOptions())


def test_the_sum_of_many_small_tensors_counts(tmp_path):
    with pytest.raises(TooLargeError):
        load(saved(dense_model(), tmp_path), LoadOptions(logical_bytes=127))
    assert len(writable(load(tmp_path / "model.onnx", LoadOptions(logical_bytes=128)))) == 2


def test_a_deep_chain_of_functions_is_refused_before_the_runtime_sees_it(tmp_path):
    """onnxruntime 1.31.1 dies of it (reliability page, P)."""
    opset = [helper.make_opsetid("", 17), helper.make_opsetid("f", 1)]
    functions = [
        helper.make_function(
            "f", f"F{n}", ["x"], ["y"], [helper.make_node(f"F{n + 1}", ["x"], ["y"], domain="f")], opset
        )
        for n in range(3000)
    ]
    functions.append(
        helper.make_function("f", "F3000", ["x"], ["y"], [helper.make_node("Relu", ["x"], ["y"])], opset)
    )
    model = onnx_model([], [helper.make_node("F0", ["X"], ["Z"], domain="f")], functions=functions)
    model.opset_import.append(helper.make_opsetid("f", 1))
    path = saved(model, tmp_path)
    for use in (lambda: load(path, LoadOptions()), lambda: runner(path, LoadOptions(), 1)):
        with pytest.raises(InvalidModelError, match="checker"):
            use()


def field(number: int, payload: bytes) -> bytes:
    size, head = len(payload), bytearray([number << 3 | 2])
    while size > 127:
        head.append(size & 127 | 128)
        size >>= 7
    return bytes(head) + bytes([size]) + payload


@pytest.mark.parametrize("depth", [34, 3000])
def test_deep_nesting_is_refused(tmp_path, depth):
    """Graph in attribute in node in graph …, which no reader must follow for ever."""
    graph = b""
    for _ in range(depth):
        graph = field(1, field(5, field(6, graph)))
    path = tmp_path / "model.onnx"
    path.write_bytes(b"\x08\x08" + field(7, graph))
    with pytest.raises(InvalidModelError, match="damaged"):
        load(path, LoadOptions())


def test_a_custom_operator_is_named_in_the_refusal(tmp_path):
    model = onnx_model([], [helper.make_node("Magic", ["X"], ["Z"], domain="my.ops")])
    model.opset_import.append(helper.make_opsetid("my.ops", 1))
    path = saved(model, tmp_path)
    assert load(path, LoadOptions()).structure.graph.num_nodes() == 2
    with pytest.raises(ModelNotRunnableError, match="Magic") as caught:
        runner(path, LoadOptions(), 1)
    assert caught.value.as_job_error().code == "invalid_model"
    assert str(path) not in str(caught.value)


def test_data_that_does_not_fit_is_the_models_error(tmp_path):
    ready = runner(saved(dense_model(), tmp_path), LoadOptions(), 1)
    assert (ready.runtime, ready.device, ready.threads) == ("onnxruntime", "cpu", 1)
    assert (ready.input_names, ready.output_names) == (("X",), ("Y",))
    with pytest.raises(ModelNotRunnableError, match="no data for input 'X'"):
        ready.run({})
    with pytest.raises(ModelNotRunnableError):
        ready.run({"X": np.zeros((1, 5), np.float32)})


@settings(deadline=None, max_examples=150)
@given(st.integers(0, 10**6), st.integers(0, 255), st.booleans())
def test_a_damaged_file_ends_in_an_error_of_the_engine_or_loads(tmp_path_factory, position, byte, cut):
    data = bytearray(dense_model().SerializeToString())
    position %= len(data)
    if cut:
        del data[position:]
    else:
        data[position] = byte
    path = tmp_path_factory.mktemp("m") / "model.onnx"
    path.write_bytes(data)
    try:
        network = load(path, LoadOptions())
    except EngineError as error:
        assert str(error)
        return
    for value in writable(network):
        network.write(value, network.read(value))
    network.save(path.with_name("out.onnx"))
    saved_again = onnx.ModelProto.FromString(path.with_name("out.onnx").read_bytes())
    assert saved_again == onnx.ModelProto.FromString(bytes(data))
