"""Quantisation against ONNX Runtime, by tensor, axis and block, halves rounded to even."""

import numpy as np
import pytest

from tests.engine.formats.operators.nodes import agree

_rng = np.random.default_rng(6)
_X = np.round(_rng.uniform(-40, 40, (3, 8, 5)) * 2).astype(np.float32) / 2
_TYPES = {np.uint8: 2, np.int8: 3, np.uint16: 4, np.int16: 5}


def _scales(dtype, shape):
    scale = _rng.choice(np.float32([0.25, 0.5, 1.0]), shape)
    return np.asarray(scale, np.float32), np.asarray(_rng.integers(0, 9, shape), dtype)


@pytest.mark.parametrize("dtype", _TYPES)
@pytest.mark.parametrize(
    ("shape", "extra"), [((), {}), ((8,), {"axis": 1}), ((3, 4, 5), {"axis": 1, "block_size": 2})]
)
def test_there_and_back(dtype, shape, extra):
    scale, zero = _scales(dtype, shape)
    (quantised,) = agree(
        "QuantizeLinear", [_X, scale, zero], outputs=(_TYPES[dtype],), attributes=extra, opset=21
    )
    agree("DequantizeLinear", [quantised, scale, zero], attributes=extra, opset=21)
    if dtype in (np.uint8, np.int8) and "block_size" not in extra:
        agree("DequantizeLinear", [quantised, scale], attributes=extra, opset=13)


def test_without_a_zero_point():
    scale = np.array(0.5, np.float32)
    agree("QuantizeLinear", [_X, scale], outputs=(2,), opset=13)
    agree("QuantizeLinear", [_X, scale], outputs=(3,), attributes={"output_dtype": 3}, opset=21)
    agree("DequantizeLinear", [_rng.integers(-99, 99, (3, 4), np.int32), scale], opset=13)


@pytest.mark.parametrize("low", [-3.0, 0.0, 1.0])
def test_scales_chosen_from_the_data(low):
    x = _rng.uniform(low, low + 5, (4, 6)).astype(np.float32)
    agree("DynamicQuantizeLinear", [x], outputs=(2, 1, 2), opset=11)
