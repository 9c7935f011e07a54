"""Gathering, scattering and selection against ONNX Runtime, negative indices and repeated places included."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.engine.formats.operators.nodes import agree

_rng = np.random.default_rng(2)
_DATA = _rng.standard_normal((3, 4, 5)).astype(np.float32)
_seeds = st.integers(0, 2**32 - 1)


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("shape", [(), (1,), (2, 3), (0,)])
def test_gather(axis, shape):
    length = _DATA.shape[axis]
    indices = _rng.integers(-length, length, shape)
    agree("Gather", [_DATA, np.asarray(indices)], attributes={"axis": axis})


def test_gather_of_a_table_and_of_integers():
    table = _rng.standard_normal((7, 3)).astype(np.float32)
    agree("Gather", [table, np.array([[0, -1], [6, 3]])])
    for dtype, code in ((np.int64, 7), (np.bool_, 9), (np.uint8, 2), (np.float64, 11)):
        agree("Gather", [_DATA.astype(dtype), np.array([2, 0], np.int32)], outputs=(code,))


@settings(max_examples=25, deadline=None)
@given(seed=_seeds, axis=st.sampled_from([0, 1, 2, -1]))
def test_gather_elements(seed, axis):
    rng = np.random.default_rng(seed)
    length = _DATA.shape[axis]
    indices = rng.integers(-length, length, (3, 2, 4) if axis in (1, 2, -1) else (2, 4, 5))
    agree("GatherElements", [_DATA, indices], attributes={"axis": axis})


@settings(max_examples=25, deadline=None)
@given(seed=_seeds, batch=st.integers(0, 2), depth=st.integers(1, 3))
def test_gather_coordinates(seed, batch, depth):
    depth = min(depth, 3 - batch)
    rng = np.random.default_rng(seed)
    shape = (*_DATA.shape[:batch], 2, depth)
    lengths = np.array(_DATA.shape[batch : batch + depth])
    indices = rng.integers(-lengths, lengths, shape)
    agree("GatherND", [_DATA, indices], attributes={"batch_dims": batch})


@settings(max_examples=40, deadline=None)
@given(seed=_seeds, axis=st.sampled_from([0, 1, -1]), reduction=st.sampled_from(["add", "mul", "min", "max"]))
def test_scatter_elements(seed, axis, reduction):
    rng = np.random.default_rng(seed)
    length = _DATA.shape[axis]
    indices = rng.integers(-length, length, (3, 4, 5))
    updates = rng.standard_normal(indices.shape).astype(np.float32)
    agree(
        "ScatterElements",
        [_DATA, indices, updates],
        attributes={"axis": axis, "reduction": reduction},
        opset=18,
    )


@pytest.mark.parametrize("name", ["Scatter", "ScatterElements"])
def test_scatter_without_reduction(name):
    indices = np.argsort(_rng.random((3, 2, 5)), axis=1)
    updates = _rng.standard_normal(indices.shape).astype(np.float32)
    opset = 10 if name == "Scatter" else 16
    agree(name, [_DATA, indices, updates], attributes={"axis": 1}, opset=opset)


@settings(max_examples=40, deadline=None)
@given(seed=_seeds, depth=st.integers(1, 3), reduction=st.sampled_from(["none", "add", "mul", "min", "max"]))
def test_scatter_coordinates(seed, depth, reduction):
    rng = np.random.default_rng(seed)
    lengths = np.array(_DATA.shape[:depth])
    places = (
        rng.permutation(lengths.prod())[:3] if reduction == "none" else rng.integers(0, lengths.prod(), 3)
    )
    indices = np.stack(np.unravel_index(places, lengths), axis=-1) - lengths * rng.integers(0, 2, depth)
    updates = rng.standard_normal((3, *_DATA.shape[depth:])).astype(np.float32)
    agree("ScatterND", [_DATA, indices, updates], attributes={"reduction": reduction}, opset=18)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_one_hot(axis):
    indices = np.array([[0, -1, 9], [4, -5, 2]])
    for dtype in (np.int64, np.float32):
        inputs = [indices.astype(dtype), np.array(5, dtype), np.array([-1.5, 2.5], np.float32)]
        agree("OneHot", inputs, attributes={"axis": axis}, opset=11)


@settings(max_examples=30, deadline=None)
@given(seed=_seeds, ordered=st.integers(0, 1), axis=st.sampled_from([None, 0, 1]))
def test_unique(seed, ordered, axis):
    values = np.random.default_rng(seed).integers(0, 3, (4, 3)).astype(np.float32)
    attributes = {"sorted": ordered} | ({} if axis is None else {"axis": axis})
    agree("Unique", [values], outputs=(1, 7, 7, 7), attributes=attributes, opset=11)


@pytest.mark.parametrize("axis", [None, 0, 2, -2])
def test_compress(axis):
    attributes = {} if axis is None else {"axis": axis}
    agree("Compress", [_DATA, np.array([True, False, True])], attributes=attributes, opset=11)


@pytest.mark.parametrize("value", [np.float32([[0, 1, 0], [2, 0, 3]]), np.float32([0, 0]), np.array(True)])
def test_non_zero(value):
    agree("NonZero", [value], outputs=(7,))


@pytest.mark.parametrize("offset", [-2, 0, 1, 9])
@pytest.mark.parametrize("upper", [0, 1])
def test_triangles(offset, upper):
    agree("Trilu", [_DATA, np.array(offset)], attributes={"upper": upper})


@pytest.mark.parametrize(("time", "batch"), [(0, 1), (1, 0)])
def test_reversed_sequences(time, batch):
    lengths = _rng.integers(1, _DATA.shape[time] + 1, _DATA.shape[batch])
    attributes = {"time_axis": time, "batch_axis": batch}
    agree("ReverseSequence", [_DATA, lengths], attributes=attributes, opset=10)


def test_where_broadcasts():
    inputs = [_rng.random((4, 1)) > 0.5, _DATA, np.array(7, np.float32)]
    agree("Where", inputs)
