"""Grids, regions and boxes against ONNX Runtime."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.engine.formats.operators.nodes import agree

_rng = np.random.default_rng(11)
_IMAGE = _rng.standard_normal((2, 3, 6, 7)).astype(np.float32)
_ROIS = np.array(
    [[0.5, 1.2, 4.4, 5.1], [2.0, 0.0, 6.9, 3.3], [1.0, 1.0, 1.5, 1.2], [-2, -3, 9, 8]], np.float32
)
_SAMPLES = np.array([0, 1, 1, 0], np.int64)


@pytest.mark.parametrize("align", [0, 1])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("mode", ["linear", "nearest", "cubic"])
def test_grids(mode, padding, align):
    attributes = {"mode": mode, "padding_mode": padding, "align_corners": align}
    grid = _rng.uniform(-1.3, 1.3, (2, 4, 5, 2)).astype(np.float32)
    agree("GridSample", [_IMAGE, grid], attributes=attributes, atol=1e-4)
    if mode != "cubic":
        volume = _rng.standard_normal((1, 2, 3, 4, 5)).astype(np.float32)
        places = _rng.uniform(-1.3, 1.3, (1, 2, 3, 4, 3)).astype(np.float32)
        agree("GridSample", [volume, places], attributes=attributes, atol=1e-4)


@pytest.mark.parametrize("align", [0, 1])
def test_affine_grids(align):
    for size, theta in (((2, 1, 3, 4), (2, 2, 3)), ((2, 1, 3, 4, 5), (2, 3, 4))):
        inputs = [_rng.standard_normal(theta).astype(np.float32), np.array(size, np.int64)]
        agree("AffineGrid", inputs, attributes={"align_corners": align}, opset=20)


@pytest.mark.parametrize("mode", ["avg", "max"])
@pytest.mark.parametrize("ratio", [0, 2])
def test_regions(mode, ratio):
    attributes = {
        "mode": mode,
        "sampling_ratio": ratio,
        "output_height": 2,
        "output_width": 3,
        "spatial_scale": 0.8,
    }
    agree("RoiAlign", [_IMAGE, _ROIS, _SAMPLES], attributes=attributes, opset=10)
    for transform in ("half_pixel", "output_half_pixel"):
        settled = {**attributes, "coordinate_transformation_mode": transform}
        agree("RoiAlign", [_IMAGE, _ROIS, _SAMPLES], attributes=settled, opset=16)


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_largest_of_regions(scale):
    rois = np.concatenate([_SAMPLES[:, None].astype(np.float32), np.round(_ROIS)], axis=1)
    agree("MaxRoiPool", [_IMAGE, rois], attributes={"pooled_shape": [3, 2], "spatial_scale": scale}, opset=17)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    centred=st.integers(0, 1),
    most=st.integers(0, 6),
    overlap=st.sampled_from([0.0, 0.3, 0.5, 1.0]),
    threshold=st.sampled_from([None, 0.0, 0.4]),
)
def test_boxes(seed, centred, most, overlap, threshold):
    rng = np.random.default_rng(seed)
    boxes = np.round(rng.uniform(0, 1, (2, 9, 4)), 1).astype(np.float32)
    scores = rng.permutation(2 * 3 * 9).reshape(2, 3, 9).astype(np.float32) / 54
    inputs = [boxes, scores, np.array([most], np.int64), np.array([overlap], np.float32)]
    if threshold is not None:
        inputs.append(np.array([threshold], np.float32))
    agree("NonMaxSuppression", inputs, outputs=(7,), attributes={"center_point_box": centred}, opset=11)
