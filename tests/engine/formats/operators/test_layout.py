"""Slices, padding, splits and running sums at any bounds against ONNX Runtime."""

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.engine.formats.operators.nodes import both, node_model
from tests.engine.formats.operators.test_windows import REFUSALS

RNG = np.random.default_rng(0)


bounds = st.integers(-9, 9) | st.sampled_from([2**63 - 1, -(2**63) + 1, 2**31 - 1])


def agree(name, inputs, attributes=None, opset=21, outputs=1, code=1):
    try:
        found, wanted = both(node_model(name, inputs, [code] * outputs, attributes, opset), inputs)
    except REFUSALS:
        assume(False)
    for ours, theirs in zip(found, wanted, strict=True):
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def whole(*values):
    return np.array(values, np.int64)


@given(
    st.tuples(bounds, bounds), st.tuples(bounds, bounds), st.tuples(*[st.sampled_from([1, 2, -1, -3])] * 2)
)
@settings(max_examples=80, deadline=None)
def test_slices(starts, ends, steps):
    # To ONNX Runtime the largest integer means the far end backwards, too; ONNX has the smallest for that.
    assume(all(step > 0 or end < 2**30 for end, step in zip(ends, steps, strict=True)))
    x = RNG.normal(size=(5, 2, 6)).astype(np.float32)
    agree("Slice", [x, whole(*starts), whole(*ends), whole(0, -1), whole(*steps)])


@given(
    st.lists(st.integers(-1, 3), min_size=4, max_size=4),
    st.sampled_from(["constant", "reflect", "edge", "wrap"]),
    st.integers(3, 5),
)
@settings(max_examples=80, deadline=None)
def test_padding(pads, mode, rank):
    shape = (2, 3, 5, 4, 6)[-rank:]
    x = RNG.normal(size=shape).astype(np.float32)
    assume(mode == "constant" or min(pads) >= 0)
    value = np.array(0.5, np.float32) if mode == "constant" else None
    agree("Pad", [x, whole(*pads), value, whole(-2, -1)], {"mode": mode})


@given(st.integers(1, 4), st.integers(4, 9))
@settings(max_examples=30, deadline=None)
def test_equal_splits(count, length):
    x = RNG.normal(size=(length, 2)).astype(np.float32)
    agree("Split", [x], {"num_outputs": count}, outputs=count)


@given(st.integers(-2, 1), st.booleans(), st.booleans())
@settings(max_examples=16, deadline=None)
def test_running_sums(axis, exclusive, reverse):
    x = RNG.normal(size=(3, 4)).astype(np.float32)
    agree("CumSum", [x, np.array(axis)], {"exclusive": int(exclusive), "reverse": int(reverse)})


@given(st.integers(1, 5), st.booleans(), st.integers(-2, 1))
@settings(max_examples=30, deadline=None)
def test_the_largest_of_equals_are_the_first(count, largest, axis):
    x = RNG.integers(0, 3, (5, 5)).astype(np.float32)
    attributes = {"largest": int(largest), "axis": axis}
    found, wanted = both(node_model("TopK", [x, whole(count)], [1, 7], attributes), [x, whole(count)])
    assert np.array_equal(found[0], wanted[0])
    assert np.array_equal(found[1], wanted[1])


@given(
    st.sampled_from([7, 11, 13]), st.integers(-3, 2), st.sampled_from(["Softmax", "LogSoftmax", "Hardmax"])
)
@settings(max_examples=40, deadline=None)
def test_softmax_is_over_the_rest_until_opset_thirteen(opset, axis, name):
    assume(opset > 7 or axis >= 0)
    x = RNG.normal(size=(2, 3, 4)).astype(np.float32)
    agree(name, [x], {"axis": axis}, opset=opset)
