"""Channels marked as gone by NaN: what is left of a marked tensor, and sums that leave the gone ones out."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from worker.engine.formats.torch_gone import SUMMING, cut, healed, lost, marked, shape_left

SIZES = st.lists(st.integers(1, 5), min_size=1, max_size=4)


@st.composite
def tensors(draw: st.DrawFn) -> tuple[torch.Tensor, dict[int, np.ndarray]]:
    """A tensor, and indices to keep along some of its axes."""
    sizes = draw(SIZES)
    axes = draw(st.sets(st.integers(0, len(sizes) - 1)))
    kept = {axis: _some(draw, sizes[axis]) for axis in sorted(axes)}
    return torch.rand(sizes) + 1.0, kept


def _some(draw: st.DrawFn, size: int) -> np.ndarray:
    return np.array(sorted(draw(st.sets(st.integers(0, size - 1), min_size=1))))


@given(tensors())
def test_what_is_left_of_a_marked_tensor_is_the_cut_one(case):
    tensor, kept = case
    hidden = marked(tensor, kept)
    assert shape_left(hidden) == list(cut(tensor, kept).shape)
    assert torch.equal(hidden[~hidden.isnan()], cut(tensor, kept).flatten())
    assert not tensor.isnan().any()


@given(tensors())
def test_healing_every_axis_leaves_nothing_lost(case):
    tensor, kept = case
    whole = healed(marked(tensor, kept), *range(tensor.dim()))
    assert lost(whole) == {}
    assert float(whole.sum()) == torch.nan_to_num(marked(tensor, kept)).sum()


@st.composite
def layers(draw: st.DrawFn) -> tuple[int, np.ndarray, np.ndarray]:
    """Groups of a convolution of 12 channels to 12, kept positions of a group's inputs and outputs."""
    groups = draw(st.sampled_from([1, 2, 3, 4, 6]))
    return groups, _some(draw, 12 // groups), _some(draw, 12 // groups)


def _in_all(groups: int, kept: np.ndarray) -> np.ndarray:
    return (np.arange(groups)[:, None] * (12 // groups) + kept).reshape(-1)


@given(layers())
def test_a_convolution_of_marked_channels_is_that_of_the_kept_ones(case):
    groups, inputs, outputs = case
    data, weight = torch.rand(1, 12, 3, 3), torch.rand(12, 12 // groups, 2, 2)
    reads, makes = {1: _in_all(groups, inputs)}, {0: _in_all(groups, outputs), 1: inputs}
    arguments = [marked(data, reads), marked(weight, makes), None, [1, 1], [0, 0], [1, 1], groups]
    found = functional.conv2d(*SUMMING["aten::conv2d"](arguments))
    expected = functional.conv2d(cut(data, reads), cut(weight, makes), groups=groups)
    torch.testing.assert_close(cut(found, {1: makes[0]}), expected)
    assert shape_left(found) == list(expected.shape)


@given(layers())
def test_a_transposed_convolution_likewise(case):
    groups, inputs, outputs = case
    data, weight = torch.rand(1, 12, 3, 3), torch.rand(12, 12 // groups, 2, 2)
    reads, makes = {1: _in_all(groups, inputs)}, {0: _in_all(groups, inputs), 1: outputs}
    arguments = [marked(data, reads), marked(weight, makes), None, [1, 1], [0, 0], [0, 0], groups, [1, 1]]
    found = functional.conv_transpose2d(*SUMMING["aten::conv_transpose2d"](arguments))
    expected = functional.conv_transpose2d(cut(data, reads), cut(weight, makes), groups=groups)
    torch.testing.assert_close(cut(found, {1: _in_all(groups, outputs)}), expected)
    assert shape_left(found) == list(expected.shape)


@given(layers())
def test_linear_products_likewise(case):
    _, inputs, outputs = case
    data, weight = torch.rand(4, 12), torch.rand(12, 12)
    left, right = marked(data, {1: inputs}), marked(weight, {0: outputs, 1: inputs})
    expected = cut(data, {1: inputs}) @ cut(weight, {0: outputs, 1: inputs}).T
    linear = functional.linear(*SUMMING["aten::linear"]([left, right]))
    product = torch.mm(*SUMMING["aten::mm"]([left, right.T]))
    sums = torch.einsum(*SUMMING["aten::einsum"](["ij,kj->ik", [left, right]]))
    for found in (linear, product, sums):
        torch.testing.assert_close(cut(found, {1: outputs}), expected)
        assert shape_left(found) == list(expected.shape)
