"""Dynamically quantised products: integers are pruned to their zero point, ranked by what they stand for."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from tests.engine.formats import graphs
from tests.engine.masks import recipe
from worker.engine.context import Context
from worker.engine.graph import weights
from worker.engine.graph.build import build
from worker.engine.pipeline import Source, prune
from worker.engine.verify import examine

STANDARD = """
g (float[n, 6] x) => (float[n, 8] y) {
    q, a_scale, a_zero = DynamicQuantizeLinear(x)
    p = MatMulInteger(q, w, a_zero, zero)
    f = Cast<to: int = 1>(p)
    both = Mul(a_scale, scale)
    y = Mul(f, both)
}
"""
FUSED = """
g (float[n, 6] x) => (float[n, 8] y) {
    y = com.microsoft.DynamicQuantizeMatMul(x, w, scale, zero)
}
"""
TO_FLOAT = """
g (float[n, 6] x) => (float[n, 8] y) {
    q, a_scale, a_zero = DynamicQuantizeLinear(x)
    y = com.microsoft.MatMulIntegerToFloat(q, w, a_scale, scale, a_zero, zero)
}
"""
CONVOLUTION = """
g (float[n, 6, 5, 5] x) => (float[n, 8, 5, 5] y) {
    q, a_scale, a_zero = DynamicQuantizeLinear(x)
    p = ConvInteger(q, w, a_zero, zero)
    f = Cast<to: int = 1>(p)
    both = Mul(a_scale, scale)
    y = Mul(f, both)
}
"""


def model(text: str, zero: int) -> onnx.ModelProto:
    random = np.random.default_rng(0)
    shape = (8, 6, 1, 1) if "ConvInteger" in text else (6, 8)
    held: dict[str, np.ndarray[Any, Any]] = {
        "w": random.integers(0, 255, shape).astype(np.uint8),
        "zero": np.array(zero, np.uint8),
        "scale": np.array([0.25], np.float32),
    }
    made = graphs.model(text, held)
    made.opset_import.add(domain="com.microsoft", version=1)
    return made


@pytest.mark.parametrize("text", [STANDARD, FUSED, TO_FLOAT, CONVOLUTION])
def test_integers_stand_for_their_distance_from_the_zero_point(text: str, tmp_path: Path) -> None:
    network = graphs.network(model(text, 100), tmp_path)
    (layer,) = build(network).layers
    stored = network.read(layer.view.value).astype(np.float32)
    laid = stored if stored.ndim == 4 else stored.T
    seen = weights.read(network, layer.view).reshape(laid.shape)
    np.testing.assert_allclose(seen, 0.25 * (laid - 100))


@pytest.mark.parametrize("text", [STANDARD, FUSED, TO_FLOAT, CONVOLUTION])
def test_pruned_integers_are_at_the_zero_point(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examine, "_LATENCY_SECONDS", 0.0)
    path = tmp_path / "model.onnx"
    path.write_bytes(model(text, 100).SerializeToString())
    (tmp_path / "out").mkdir()
    asked = recipe(criterion="magnitude", target={"sparsity": 0.5})
    saved, report = prune(Source(path, path.name), asked, tmp_path / "out", Context(tmp_path))
    assert report.achieved == 0.5 and all(check.passed for check in report.checks)
    before, after = (
        onnx.numpy_helper.to_array(onnx.load(file).graph.initializer[0]) for file in (path, saved)
    )
    distance = np.abs(before.astype(int) - 100)
    assert (after[distance < np.median(distance)] == 100).all()
    assert (after[distance > np.median(distance)] == before[distance > np.median(distance)]).all()


LSTM = """
g (float[5, n, 4] x) => (float[5, 1, n, 3] y) {
    y = com.microsoft.DynamicQuantizeLSTM<hidden_size = 3>(x, w, r, , , , , , scale, zero, scale, zero)
}
"""


def test_a_quantised_lstm_has_two_turned_weights(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    held: dict[str, np.ndarray[Any, Any]] = {
        "w": random.integers(0, 255, (1, 4, 12)).astype(np.uint8),
        "r": random.integers(0, 255, (1, 3, 12)).astype(np.uint8),
        "scale": np.array([0.5], np.float32),
        "zero": np.array([100], np.uint8),
    }
    made = graphs.model(LSTM, held)
    made.opset_import.add(domain="com.microsoft", version=1)
    network = graphs.network(made, tmp_path)
    layers = build(network).layers
    assert [layer.name for layer in layers] == ["w", "r"]
    for layer in layers:
        wanted = 0.5 * (held[layer.name].astype(np.float32) - 100)
        np.testing.assert_allclose(weights.read(network, layer.view), wanted.transpose(0, 2, 1))
