"""The exact form for convolutions against the change of the product of three circular convolutions."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from tests.engine import chains
from tests.engine.chains import Chain
from worker.engine import formats
from worker.engine.criteria.base import Subject
from worker.engine.criteria.lookahead import Lookahead
from worker.engine.formats.base import LoadOptions
from worker.engine.graph.build import build
from worker.engine.graph.correlations import autocorrelation

_SIDE = 6


def _circular(weight: Any) -> Any:
    """The matrix of a circular convolution on maps of 6 × 6, by placing every weight."""
    outputs, inputs, height, width = weight.shape
    matrix = np.zeros((outputs, _SIDE, _SIDE, inputs, _SIDE, _SIDE))
    for y, x, dy, dx in np.ndindex(_SIDE, _SIDE, height, width):
        matrix[:, y, x, :, (y + dy) % _SIDE, (x + dx) % _SIDE] += weight[:, :, dy, dx]
    return matrix.reshape(outputs * _SIDE**2, inputs * _SIDE**2)


def _distortion(before: Any, weight: Any, after: Any, place: tuple[int, ...]) -> float:
    """‖W₃ W₂ W₁ − W₃ W₂' W₁‖² where W₂' lacks one weight: by linearity the norm with that weight alone."""
    alone = np.zeros_like(weight)
    alone[place] = weight[place]
    return float(np.linalg.norm(after @ _circular(alone) @ before) ** 2)


def _scores(path: Path, scratch: Path, layer: str, **options: Any) -> Any:
    network = formats.load(path, LoadOptions(scratch=scratch))
    graph = build(network)
    scorer = Lookahead(**options).scorer(Subject(network, graph, graph.layers))
    return scorer.score(graph.layer(layer))[0]


def _chain(tmp_path: Path, **options: Any) -> Chain:
    return chains.vgg(tmp_path / "m.onnx", [2, 3, 4, 2], [5], dtype=np.float64, **options)


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("squared", [True, False])
def test_the_score_is_the_change_of_three_convolutions(tmp_path: Path, norm: bool, squared: bool) -> None:
    chain = _chain(tmp_path, norm=norm)
    one, two, three = chain.weights[:3]
    if norm:
        first, second = chain.slopes[0], chain.slopes[1]
        assert first is not None and second is not None
        one, three = one * first[:, None, None, None], three * second[None, :, None, None]
    found = _scores(chain.path, tmp_path, "conv1", form="exact", squared=squared)
    before, after = _circular(one), _circular(three)
    for place in [(0, 0, 0, 0), (1, 2, 1, 1), (3, 1, 2, 0), (2, 0, 0, 2)]:
        truth = _distortion(before, two, after, place) / _SIDE**2
        wanted = truth if squared else np.sqrt(truth)
        assert abs(found[place] - wanted) <= 1e-12 * wanted


def test_the_published_form_is_not_exact(tmp_path: Path) -> None:
    """The guard: lag 0 alone is off by more than rounding."""
    chain = _chain(tmp_path, norm=False)
    published, exact = (_scores(chain.path, tmp_path, "conv1", form=form) for form in ("published", "exact"))
    assert np.abs(published / exact - 1).max() > 1e-2


@pytest.mark.parametrize("layer", ["conv0", "conv2", "fc0"])
def test_where_a_neighbour_is_no_convolution_both_forms_agree(tmp_path: Path, layer: str) -> None:
    """The first has none before it; the last convolution is pooled and flattened before it is read."""
    chain = _chain(tmp_path)
    published, exact = (_scores(chain.path, tmp_path, layer, form=form) for form in ("published", "exact"))
    np.testing.assert_allclose(exact, published, rtol=1e-13)


@pytest.mark.parametrize("changed", ["conv0", "conv1", "conv2"])
@pytest.mark.parametrize("how", [{"strides": [2, 2]}, {"dilations": [2, 2]}])
def test_strides_and_dilations_leave_lag_zero(tmp_path: Path, changed: str, how: dict[str, Any]) -> None:
    chain = _chain(tmp_path, size=16)
    model = onnx.load(chain.path)
    node = next(n for n in model.graph.node if f"{changed}.weight" in n.input)
    node.attribute.extend(helper.make_attribute(name, value) for name, value in how.items())
    flatten = next(n for n in model.graph.node if n.op_type == "Flatten")
    del model.graph.node[list(model.graph.node).index(flatten) :]
    model.graph.output[0].CopyFrom(
        helper.make_tensor_value_info(flatten.input[0], onnx.TensorProto.DOUBLE, [None] * 4)
    )
    onnx.save(model, chain.path)
    published, exact = (_scores(chain.path, tmp_path, "conv1", form=form) for form in ("published", "exact"))
    np.testing.assert_allclose(exact, published, rtol=1e-13)


def test_pooling_between_moves_positions(tmp_path: Path) -> None:
    """A pooling before the reader leaves lag 0; the same chain without it does not (see above)."""
    chain = _chain(tmp_path, norm=False)
    model = onnx.load(chain.path)
    last = next(n for n in model.graph.node if "conv2.weight" in n.input)
    pool = helper.make_node(
        "AveragePool", [last.input[0]], ["pooled"], kernel_shape=[3, 3], pads=[1, 1, 1, 1], name="between"
    )
    model.graph.node.insert(list(model.graph.node).index(last), pool)
    last.input[0] = "pooled"
    onnx.save(model, chain.path)
    published, exact = (_scores(chain.path, tmp_path, "conv1", form=form) for form in ("published", "exact"))
    np.testing.assert_allclose(exact, published, rtol=1e-13)


def test_kernels_of_different_size(tmp_path: Path) -> None:
    """1×1 after 3×3: zero lags of the smaller one, which here leaves lag 0."""
    chain = _chain(tmp_path, norm=False)
    model = onnx.load(chain.path)
    weight = next(t for t in model.graph.initializer if t.name == "conv2.weight")
    array = numpy_helper.to_array(weight)[:, :, 1:2, 1:2].copy()
    weight.CopyFrom(numpy_helper.from_array(array, "conv2.weight"))
    node = next(n for n in model.graph.node if "conv2.weight" in n.input)
    node.attribute[0].CopyFrom(helper.make_attribute("pads", [0] * 4))
    onnx.save(model, chain.path)
    found = _scores(chain.path, tmp_path, "conv1", form="exact")
    before, after = _circular(chain.weights[0]), _circular(array)
    for place in [(0, 0, 0, 0), (3, 2, 1, 2)]:
        truth = _distortion(before, chain.weights[1], after, place) / _SIDE**2
        assert abs(found[place] - truth) <= 1e-12 * truth


@given(
    seed=st.integers(0, 999),
    shape=st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 4), st.integers(1, 4)),
)
def test_autocorrelation_by_loops(seed: int, shape: tuple[int, int, int, int]) -> None:
    kernels = np.random.default_rng(seed).standard_normal(shape)
    units, others, height, width = shape
    expected = np.zeros((units, 2 * height - 1, 2 * width - 1))
    for u, o, y, x, v, w in np.ndindex(units, others, height, width, height, width):
        expected[u, y - v + height - 1, x - w + width - 1] += kernels[u, o, y, x] * kernels[u, o, v, w]
    np.testing.assert_allclose(autocorrelation(kernels), expected, rtol=1e-12, atol=1e-13)
