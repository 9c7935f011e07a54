"""The drawings are valid ONNX, run in ONNX Runtime, and depend on what they are given."""

import numpy as np
import onnx
import onnxruntime
import pytest

from tests.zoo import DRAWINGS
from tests.zoo.drawings import Array

#: ONNX Runtime has it, and its optimizer writes it, in the standard domain.
_UNKNOWN_TO_ONNX = {"SimplifiedLayerNormalization"}


def run(name: str, seed: int) -> list[Array]:
    model = DRAWINGS[name].model()
    if not any(node.op_type in _UNKNOWN_TO_ONNX for node in model.graph.node):
        onnx.checker.check_model(model, full_check=True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    serialized = model.SerializeToString()
    session = onnxruntime.InferenceSession(serialized, options, providers=["CPUExecutionProvider"])
    return list(session.run(None, DRAWINGS[name].feeds(seed=seed)))


@pytest.mark.parametrize("name", sorted(DRAWINGS))
def test_it_runs_and_its_first_output_depends_on_the_inputs(name: str) -> None:
    first, other = run(name, 1)[0], run(name, 2)[0]
    assert np.isfinite(first).all()
    assert np.abs(first - other).max() > 1e-2 * np.abs(first).max()


@pytest.mark.parametrize("name", sorted(DRAWINGS))
def test_it_is_the_same_bytes_each_time(name: str) -> None:
    first, again = (DRAWINGS[name].model().SerializeToString(deterministic=True) for _ in range(2))
    assert first == again
