"""Convolution and pooling at any geometry against ONNX Runtime."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from onnxruntime.capi.onnxruntime_pybind11_state import (
    Fail,
    InvalidArgument,
    NotImplemented,
    RuntimeException,
)

from tests.engine.formats.operators.nodes import both, node_model

RNG = np.random.default_rng(0)
FLOAT = 1
REFUSALS = (Fail, InvalidArgument, NotImplemented, RuntimeException)


@st.composite
def geometries(draw, spread=True):
    """Attributes of a window over one or two axes, and the sizes of an input that it fits.

    Without `spread` there is no dilation beside "same" padding, which ONNX Runtime forgets when it pools.
    """
    rank = draw(st.integers(1, 2))

    def each(low, high, count=rank):
        return [draw(st.integers(low, high)) for _ in range(count)]

    kernel, dilations = each(1, 3), each(1, 2)
    pads = [draw(st.integers(0, kernel[axis % rank] - 1)) for axis in range(2 * rank)]
    sizes = [draw(st.integers((k - 1) * d + 1, 8)) for k, d in zip(kernel, dilations, strict=True)]
    attributes = {"kernel_shape": kernel, "strides": each(1, 3), "dilations": dilations}
    how = draw(st.sampled_from(["pads", "SAME_UPPER", "SAME_LOWER", "VALID"]))
    assume(spread or set(dilations) == {1} or "SAME" not in how)
    return attributes | ({"pads": pads} if how == "pads" else {"auto_pad": how}), sizes


def agree(name, inputs, attributes, opset=22, outputs=1):
    """The module gives what ONNX Runtime gives, where that takes the node."""
    codes = [FLOAT, 7][:outputs]
    try:
        found, wanted = both(node_model(name, inputs, codes, attributes, opset), inputs)
    except REFUSALS:
        assume(False)
    for ours, theirs in zip(found, wanted, strict=True):
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


@given(geometries(), st.sampled_from([1, 2]), st.booleans())
@settings(max_examples=60, deadline=None)
def test_convolution(geometry, groups, biased):
    attributes, sizes = geometry
    weights = normal(4, 4 // groups, *attributes["kernel_shape"])
    inputs = [normal(2, 4, *sizes), weights, normal(4) if biased else None]
    agree("Conv", inputs, attributes | {"group": groups})


@given(geometries(), st.sampled_from([1, 2]), st.booleans(), st.booleans())
@settings(max_examples=60, deadline=None)
def test_transposed_convolution(geometry, groups, biased, extended):
    attributes, sizes = geometry
    if extended and "pads" in attributes:
        attributes = attributes | {"output_padding": [stride - 1 for stride in attributes["strides"]]}
    weights = normal(4, 4 // groups, *attributes["kernel_shape"])
    inputs = [normal(2, 4, *sizes), weights, normal(4) if biased else None]
    agree("ConvTranspose", inputs, attributes | {"group": groups})


@given(geometries(spread=False), st.booleans(), st.sampled_from([0, 1]), st.booleans())
@settings(max_examples=60, deadline=None)
def test_max_pool_and_where_it_found(geometry, ceil, order, placed):
    attributes, sizes = geometry
    if "pads" in attributes:
        attributes = attributes | {"ceil_mode": int(ceil)}
    outputs = 2 if placed else 1
    attributes = attributes | {"storage_order": order} if placed else attributes
    agree("MaxPool", [normal(2, 3, *sizes)], attributes, outputs=outputs)


@given(geometries(spread=False), st.booleans(), st.sampled_from([0, 1]))
@settings(max_examples=60, deadline=None)
def test_average_pool(geometry, ceil, counted):
    attributes, sizes = geometry
    if "pads" in attributes:
        attributes = attributes | {"ceil_mode": int(ceil)}
    agree("AveragePool", [normal(2, 3, *sizes)], attributes | {"count_include_pad": counted})


@given(geometries(spread=False), st.sampled_from([1, 2, 3]))
@settings(max_examples=40, deadline=None)
def test_norm_pool(geometry, p):
    attributes, sizes = geometry
    agree("LpPool", [normal(2, 3, *sizes)], attributes | {"p": p})


@pytest.mark.parametrize("operator", ["GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_whole_planes(operator, rank):
    agree(operator, [normal(2, 3, *[4] * rank)], {}, opset=21)
