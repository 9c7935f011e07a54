"""Files of a newer ONNX than the runtime: they run, with data beside them too, and stay what they are."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from worker.engine import formats
from worker.engine.formats.base import LoadOptions
from worker.engine.formats.onnx_session import newest_known, open_session
from worker.engine.graph.observed import observe

WEIGHT = np.arange(512, dtype=np.float32).reshape(4, 128) / 512


def newer(path: Path, *, outside: bool = False, version: int = onnx.IR_VERSION) -> Path:
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 128])],
        [numpy_helper.from_array(WEIGHT, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=version)
    onnx.save(model, path, save_as_external_data=outside, location="w.data", size_threshold=0)
    return path


def too_new(folder: Path) -> bool:
    """Whether this onnx writes what this ONNX Runtime refuses; they move at their own pace."""
    try:
        ort.InferenceSession(str(newer(folder / "probe.onnx")), providers=["CPUExecutionProvider"])
    except Exception as error:
        return newest_known(error) is not None
    return False


@pytest.mark.parametrize("outside", [False, True])
def test_a_file_newer_than_the_runtime_runs_and_says_so(tmp_path: Path, outside: bool) -> None:
    if not too_new(tmp_path):
        pytest.skip("ONNX Runtime knows the newest IR version")
    path = newer(tmp_path / "m.onnx", outside=outside)
    before = path.read_bytes()
    runner = formats.runner(path, LoadOptions(), 1)
    x = np.eye(4, dtype=np.float32)
    np.testing.assert_allclose(runner.run({"x": x})[0], WEIGHT, rtol=1e-6)
    assert "read as ONNX IR version" in runner.remark
    assert path.read_bytes() == before


def test_shapes_of_such_a_file_are_seen_too(tmp_path: Path) -> None:
    network = formats.load(newer(tmp_path / "m.onnx"), LoadOptions())
    assert observe(network.structure, {"x": [2, 4]})["y"] == (2, 128)


def test_a_file_the_runtime_knows_is_read_as_it_is(tmp_path: Path) -> None:
    assert formats.runner(newer(tmp_path / "m.onnx", version=8), LoadOptions(), 1).remark == ""


def test_what_is_refused_for_another_reason_stays_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"not a model")
    with pytest.raises(Exception, match="Protobuf parsing failed"):
        open_session(path, ort.SessionOptions(), ["CPUExecutionProvider"])


def test_the_newest_known_version_is_read_off_the_refusal() -> None:
    message = "[ONNXRuntimeError] : 1 : FAIL : Unsupported model IR version: 14, max supported IR version: 13"
    assert newest_known(RuntimeError(message)) == 13
    assert newest_known(RuntimeError("Protobuf parsing failed")) is None
