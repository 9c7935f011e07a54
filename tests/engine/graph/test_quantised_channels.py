"""Channels leave statically quantised networks, as ONNX Runtime's own quantiser writes them, exactly."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)

from tests.engine.formats import graphs
from tests.engine.masks import recipe
from worker.engine.context import Context
from worker.engine.errors import NothingPrunableError
from worker.engine.pipeline import Source, prune
from worker.engine.verify import examine

CONVOLUTIONS = """
g (float[n, 4, 9, 9] x) => (float[n, 6] y) {
    a = Conv <pads = [1, 1, 1, 1]> (x, w1, b1)
    b = Relu(a)
    c = Conv <pads = [1, 1, 1, 1], group = 12> (b, w2)
    d = Conv(c, w3, b3)
    e = Relu(d)
    f = GlobalAveragePool(e)
    h = Flatten(f)
    y = Gemm <transB = 1> (h, w4, b4)
}
"""
PRODUCTS = """
g (float[n, 16] x) => (float[n, 6] y) {
    a = MatMul(x, m1)
    b = Relu(a)
    c = MatMul(b, m2)
    d = Relu(c)
    y = Gemm(d, m3, b3)
}
"""
SHAPES: dict[str, dict[str, tuple[int, ...]]] = {
    CONVOLUTIONS: {
        "w1": (12, 4, 3, 3),
        "b1": (12,),
        "w2": (12, 1, 3, 3),
        "w3": (10, 12, 1, 1),
        "b3": (10,),
        "w4": (6, 10),
        "b4": (6,),
    },
    PRODUCTS: {"m1": (16, 12), "m2": (12, 10), "m3": (10, 6), "b3": (6,)},
}


class Rows(CalibrationDataReader):
    """A few random rows."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        random = np.random.default_rng(1)
        rows = ({"x": random.standard_normal((1, *shape)).astype(np.float32)} for _ in range(8))
        self._rows: Iterator[dict[str, Any]] = rows

    def get_next(self) -> dict[str, Any] | None:
        return next(self._rows, None)


@pytest.fixture(autouse=True)
def _quietly(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(examine, "_LATENCY_SECONDS", 0.0)
    caplog.set_level(logging.ERROR)


def floating(text: str, folder: Path) -> Path:
    random = np.random.default_rng(0)
    held = {name: random.standard_normal(shape).astype(np.float32) for name, shape in SHAPES[text].items()}
    path = folder / "float.onnx"
    onnx.save(graphs.model(text, held), path)
    return path


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("weights", [QuantType.QInt8, QuantType.QUInt8])
@pytest.mark.parametrize("form", [QuantFormat.QDQ, QuantFormat.QOperator])
@pytest.mark.parametrize("text", [CONVOLUTIONS, PRODUCTS], ids=["convolutions", "products"])
def test_scales_and_zero_points_follow_their_channels(
    text: str, form: QuantFormat, weights: QuantType, per_channel: bool, tmp_path: Path
) -> None:
    rows = Rows((4, 9, 9) if text is CONVOLUTIONS else (16,))
    quantised, output = tmp_path / "quantised.onnx", tmp_path / "output"
    quantize_static(
        floating(text, tmp_path),
        quantised,
        rows,
        form,
        per_channel=per_channel,
        weight_type=weights,
        activation_type=QuantType.QUInt8,
    )
    output.mkdir()
    asked = recipe(criterion="lookahead", granularity="channel", apply="shrink", target={"sparsity": 0.5})
    saved, report = prune(Source(quantised, "q.onnx"), asked, output, Context(tmp_path))
    (equal,) = (check for check in report.checks if check.name == "equals the masked model")
    assert equal.passed
    assert "difference 0.0e+00" in equal.detail
    sizes = {tuple(held.dims) for held in onnx.load(saved).graph.initializer if held.data_type in (2, 3)}
    middle = (5, 6, 1, 1) if text is CONVOLUTIONS else (6, 5)
    assert middle in sizes
    scales = {tuple(held.dims) for held in onnx.load(saved).graph.initializer if held.data_type == 1}
    assert ((5,) in scales) == per_channel


def test_scales_that_each_input_has_anew_keep_the_channels(tmp_path: Path) -> None:
    quantize_dynamic(floating(PRODUCTS, tmp_path), tmp_path / "quantised.onnx")
    asked = recipe(criterion="lookahead", granularity="channel", apply="shrink", target={"sparsity": 0.5})
    source = Source(tmp_path / "quantised.onnx", "q.onnx")
    with pytest.raises(NothingPrunableError, match="found anew for every input"):
        prune(source, asked, tmp_path, Context(tmp_path))
