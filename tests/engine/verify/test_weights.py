"""Recounting weights: against counts taken one by one in plain Python."""

import struct

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from worker.engine.verify import LayerWeights, count_zeros, recount, weight_checks

shapes = hnp.array_shapes(min_dims=1, max_dims=4, max_side=5)


@st.composite
def layers(draw: st.DrawFn) -> LayerWeights:
    """Weights before and after with some bits changed, some pruned; NaN and −0 among them."""
    shape = draw(shapes)
    odd = st.sampled_from([0.0, -0.0, float("nan"), 1.0, -1.0])
    elements = odd | st.floats(width=32)
    before = draw(hnp.arrays(np.float32, shape, elements=elements))
    after = np.where(
        draw(hnp.arrays(np.bool_, shape)), before, draw(hnp.arrays(np.float32, shape, elements=elements))
    )
    return LayerWeights("layer", before, after.astype(np.float32), draw(hnp.arrays(np.bool_, shape)))


@given(layers())
def test_counts_are_those_of_a_plain_loop(layer: LayerWeights) -> None:
    rows = list(
        zip(
            layer.before.ravel().tolist(),
            layer.after.ravel().tolist(),
            layer.keep.ravel().tolist(),
            strict=True,
        )
    )
    old_bits = [struct.pack("<f", old) for old in layer.before.ravel()]
    new_bits = [struct.pack("<f", new) for new in layer.after.ravel()]
    found = recount(layer)
    assert found.zeros_before == sum(old == 0 for old, _, _ in rows)
    assert found.zeros_after == sum(new == 0 for _, new, _ in rows)
    assert found.kept == sum(keep for _, _, keep in rows)
    assert found.left == sum(not keep and not new == 0 for _, new, keep in rows)  # noqa: SIM201 - NaN is left
    changed = sum(
        keep and old != new
        for old, new, keep in zip(old_bits, new_bits, layer.keep.ravel().tolist(), strict=True)
        if not (np.isnan(struct.unpack("<f", old)[0]) and np.isnan(struct.unpack("<f", new)[0]))
    )
    assert found.changed >= changed
    assert all(check.passed for check in weight_checks([found])) == found.holds


@pytest.mark.parametrize(
    "dtype", [np.float16, np.float32, np.float64, ml_dtypes.bfloat16, np.int8, ml_dtypes.int4]
)
def test_a_mask_applied_well_holds_in_any_type(dtype: type) -> None:
    before = np.arange(-4, 4).astype(dtype).reshape(2, 4)
    keep = np.array([[True, False] * 2, [False, True] * 2])
    after = np.where(keep, before, np.zeros_like(before))
    found = recount(LayerWeights("layer", before, after, keep))
    assert found.holds
    assert found.zeros_after == 4 + int(np.count_nonzero((before == 0) & keep))


def test_one_flipped_bit_breaks_the_promise() -> None:
    before = np.full((3, 3), 0.1, np.float32)
    after = before.copy()
    after.view(np.uint32)[1, 1] ^= 1
    found = recount(LayerWeights("conv1", before, after, np.ones((3, 3), bool)))
    assert found.changed == 1
    (kept, pruned) = weight_checks([found])
    assert not kept.passed
    assert "conv1" in kept.detail
    assert pruned.passed


def test_the_sign_of_a_kept_zero_is_a_bit_too() -> None:
    before, after = np.array([0.0], np.float32), np.array([-0.0], np.float32)
    assert recount(LayerWeights("a", before, after, np.array([True]))).changed == 1


def test_a_pruned_weight_that_stayed_is_left() -> None:
    weights = np.array([1.0, np.nan, 2.0], np.float32)
    found = recount(LayerWeights("a", weights, weights, np.array([True, False, False])))
    assert found.left == 2
    assert not weight_checks([found])[1].passed


def test_another_shape_or_type_holds_nothing() -> None:
    before, keep = np.zeros((2, 3), np.float32), np.ones((2, 3), bool)
    for after in (np.zeros((3, 2), np.float32), np.zeros((2, 3), np.float16)):
        assert not recount(LayerWeights("a", before, after, keep)).holds


def test_a_mask_of_another_shape_is_an_error_of_ours() -> None:
    weights = np.zeros((2, 3), np.float32)
    with pytest.raises(ValueError, match="the mask of 'a'"):
        recount(LayerWeights("a", weights, weights, np.ones((3, 2), bool)))


def test_nan_is_no_zero_and_minus_zero_is_one() -> None:
    assert count_zeros(np.array([0.0, -0.0, np.nan, 1e-45], np.float32)) == 2


def test_many_broken_layers_are_counted_not_listed() -> None:
    weights, keep = np.ones(2, np.float32), np.zeros(2, bool)
    broken = [recount(LayerWeights(f"layer{index}", weights, weights, keep)) for index in range(10)]
    assert weight_checks(broken)[1].detail == "broken in layer0, layer1, layer2 and 7 more"
