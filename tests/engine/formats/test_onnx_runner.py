"""What the runtime says of a file, in words for a user."""

from pathlib import Path

import pytest

from tests.engine.formats import graphs
from worker.engine.errors import ModelNotRunnableError
from worker.engine.formats import LoadOptions, runner


def test_an_operator_that_the_runtime_lacks_is_named(tmp_path: Path) -> None:
    made = graphs.model("g (float[n] x) => (float[n] y) { y = own.Decode(x) }")
    path = tmp_path / "model.onnx"
    path.write_bytes(made.SerializeToString())
    with pytest.raises(ModelNotRunnableError) as caught:
        runner(path, LoadOptions(), 1)
    assert str(caught.value) == "ONNX Runtime has no operator own:Decode"
    assert "pre- and post-processing" in (caught.value.hint or "")


def test_other_refusals_are_passed_on(tmp_path: Path) -> None:
    made = graphs.model("g (float[2] x) => (float[3] y) { y = Relu(x) }")
    path = tmp_path / "model.onnx"
    made.graph.output[0].type.tensor_type.elem_type = 9
    path.write_bytes(made.SerializeToString())
    with pytest.raises(ModelNotRunnableError, match="ONNX Runtime refuses the model"):
        runner(path, LoadOptions(), 1)
