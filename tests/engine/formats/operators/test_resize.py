"""Resize against ONNX Runtime over its modes; torch's own kernels and our taps must not be told apart."""

import itertools

import numpy as np
import pytest

from tests.engine.formats.operators.nodes import agree

_rng = np.random.default_rng(5)
_IMAGE = _rng.standard_normal((1, 2, 6, 7)).astype(np.float32)
_TRANSFORMS = ("half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric")
_SCALES = ((2.0, 3.0), (1.5, 0.55), (0.5, 0.4), (1.0, 2.0), (0.3, 1.3))
_SIZES = ((12, 14), (3, 4), (9, 5), (6, 1), (13, 7))


def _resize(attributes, scales=None, sizes=None, image=_IMAGE, roi=None, opset=19):
    inputs = [image, roi, None if scales is None else np.array(scales, np.float32)]
    if sizes is not None:
        inputs.append(np.array(sizes, np.int64))
    return agree("Resize", inputs, attributes=attributes, opset=opset)


#: With cubic and align_corners ONNX Runtime divides by a fractional length, unlike in its linear mode.
_SCALED = [
    pair
    for pair in itertools.product(("nearest", "linear", "cubic"), _TRANSFORMS)
    if pair != ("cubic", "align_corners")
]


@pytest.mark.parametrize(("mode", "transform"), _SCALED)
def test_scales(mode, transform):
    for scales in _SCALES:
        attributes = {"mode": mode, "coordinate_transformation_mode": transform}
        _resize(attributes, (1.0, 1.0, *scales))


@pytest.mark.parametrize("transform", _TRANSFORMS)
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_sizes(mode, transform):
    for sizes in _SIZES:
        attributes = {"mode": mode, "coordinate_transformation_mode": transform}
        _resize(attributes, sizes=(1, 2, *sizes))


@pytest.mark.parametrize("rounding", ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])
def test_nearest_places(rounding):
    for transform, scales in itertools.product(("half_pixel", "asymmetric", "align_corners"), _SCALES):
        attributes = {"nearest_mode": rounding, "coordinate_transformation_mode": transform}
        _resize(attributes, (1.0, 1.0, *scales))


@pytest.mark.parametrize(
    ("mode", "extra"),
    [
        ("cubic", {"exclude_outside": 1}),
        ("cubic", {"exclude_outside": 1, "antialias": 1}),
        ("linear", {"exclude_outside": 1, "antialias": 1}),
    ],
)
def test_weights_at_the_edge(mode, extra):
    for sizes in ((3, 4), (2, 5), (12, 14)):
        _resize({"mode": mode, **extra}, sizes=(1, 2, *sizes))


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_crops(mode):
    roi = np.array([0, 0, 0.2, -0.3, 1, 1, 0.7, 1.2], np.float32)
    attributes = {
        "mode": mode,
        "coordinate_transformation_mode": "tf_crop_and_resize",
        "extrapolation_value": 5.0,
    }
    _resize(attributes, sizes=(1, 2, 4, 5), roi=roi)


@pytest.mark.parametrize("policy", ["stretch", "not_larger", "not_smaller"])
@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_policies_on_some_axes(mode, policy):
    attributes = {"mode": mode, "axes": [2, 3], "keep_aspect_ratio_policy": policy}
    _resize(attributes, sizes=(4, 9))


@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_three_axes_and_one(mode):
    volume = _rng.standard_normal((1, 2, 3, 4, 5)).astype(np.float32)
    _resize({"mode": mode}, (1, 1, 2, 1.5, 0.7), image=volume)
    line = _rng.standard_normal((2, 3, 8)).astype(np.float32)
    _resize({"mode": mode}, (1, 1, 1.5), image=line)


@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_as_it_was_before_coordinate_transformations(mode):
    scales = np.array([1, 1, 2, 1.5], np.float32)
    agree("Resize", [_IMAGE, scales], attributes={"mode": mode}, opset=10)
    agree("Upsample", [_IMAGE, scales], attributes={"mode": mode}, opset=9)
    agree("Upsample", [_IMAGE], attributes={"mode": mode, "scales": [1.0, 1.0, 2.0, 3.0]}, opset=7)


def test_integers():
    image = _rng.integers(0, 255, (1, 1, 4, 5), np.uint8)
    for mode in ("nearest", "linear"):
        scales = np.array([1, 1, 2, 2], np.float32)
        agree("Resize", [image, None, scales], outputs=(2,), attributes={"mode": mode})


def test_nearest_as_tensorflow_had_it():
    attributes = {"coordinate_transformation_mode": "tf_half_pixel_for_nn", "nearest_mode": "floor"}
    for scales in _SCALES:
        _resize(attributes, (1.0, 1.0, *scales), roi=np.array([], np.float32), opset=11)
