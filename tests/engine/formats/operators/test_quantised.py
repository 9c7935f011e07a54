"""ONNX Runtime's operators on quantised tensors against ONNX Runtime: the same to one step of the scale."""

import numpy as np
import pytest

from tests.engine.formats.operators.nodes import both, node_model

RNG = np.random.default_rng(0)
MICROSOFT = "com.microsoft"
UINT8, INT8 = 2, 3


def scale(value):
    return np.array(value, np.float32)


def integers(dtype, *shape):
    limits = np.iinfo(dtype)
    return RNG.integers(limits.min, limits.max, shape, dtype)


@pytest.mark.parametrize(("dtype", "code"), [(np.uint8, UINT8), (np.int8, INT8)])
@pytest.mark.parametrize(
    ("name", "operands", "attributes"),
    [
        ("QLinearAdd", 2, {}),
        ("QLinearMul", 2, {}),
        ("QLinearSigmoid", 1, {}),
        ("QLinearLeakyRelu", 1, {"alpha": 0.2}),
        ("QLinearGlobalAveragePool", 1, {"channels_last": 0}),
    ],
)
def test_same_integers(name, operands, attributes, dtype, code):
    zero = np.array(3, dtype)
    inputs = []
    for _ in range(operands):
        inputs += [integers(dtype, 2, 3, 4, 4), scale(0.02), zero]
    inputs += [scale(0.03), zero]
    found, wanted = both(node_model(name, inputs, [code], attributes, domain=MICROSOFT), inputs)
    assert found[0].dtype == wanted[0].dtype
    apart = np.abs(found[0].astype(int) - wanted[0].astype(int))
    assert apart.max() <= 1
    assert (apart > 0).mean() < 0.02


def test_parts_are_brought_to_one_scale():
    parts = [integers(np.uint8, 2, 3), integers(np.uint8, 2, 4)]
    zero = np.array(7, np.uint8)
    inputs = [scale(0.05), zero, parts[0], scale(0.02), zero, parts[1], scale(0.06), zero]
    found, wanted = both(node_model("QLinearConcat", inputs, [UINT8], {"axis": 1}, domain=MICROSOFT), inputs)
    assert np.abs(found[0].astype(int) - wanted[0].astype(int)).max() <= 1
    assert found[0].shape == (2, 7)
