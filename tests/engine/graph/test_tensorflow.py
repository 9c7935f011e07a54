"""Graphs as TensorFlow's exporter writes them: shapes counted in int32, norms made of counts and means."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from api_schemas.report import Report
from tests.engine.formats import graphs
from tests.engine.masks import recipe
from worker.engine.context import Context
from worker.engine.pipeline import Source, prune
from worker.engine.verify import examine
from worker.engine.verify.masked import NAME

TENSORDOT = """
g (float[n, 6, 5] x) => (float[n, 6, 3] y) {
    rows = Constant<value = int64[2] {-1, 5}>()
    free = Constant<value = int32[2] {0, 1}>()
    width = Constant<value = int32[1] {16}>()
    shape = Shape(x)
    small = Cast<to: int = 6>(shape)
    outer = Gather(small, free)
    joined = Concat<axis = 0>(outer, width)
    target = Cast<to: int = 7>(joined)
    flat = Reshape(x, rows)
    made = MatMul(flat, w)
    back = Reshape(made, target)
    a = Relu(back)
    y = MatMul(a, v)
}
"""
SLICED = """
g (float[n, 5] x) => (float[n, 3] y) {
    from = Constant<value = int32[2] {0, 4}>()
    to = Constant<value = int32[2] {1000000, 1000000}>()
    axes = Constant<value = int32[2] {0, 1}>()
    ones = Constant<value = int32[2] {1, 1}>()
    h = MatMul(x, w)
    a = Relu(h)
    s = Slice(a, from, to, axes, ones)
    y = MatMul(s, v)
}
"""
#: Keras' layer norm: a batch norm over rows, with statistics and their count computed from the data.
NORM = """
g (float[n, 5] x) => (float[n, 3] y) {
    four = Constant<value = int64[4] {1, -1, 16, 1}>()
    others = Constant<value = int64[3] {0, 2, 3}>()
    one = Constant<value = float {1.0}>()
    zero = Constant<value = float {0.0}>()
    h = MatMul(x, w)
    a = Relu(h)
    whole = Shape(a)
    first = Constant<value = int64[1] {0}>()
    rows = Gather(whole, first)
    ones = Expand(one, rows)
    zeros = Expand(zero, rows)
    r = Reshape(a, four)
    mean = ReduceMean<axes = [0, 2, 3], keepdims = 1>(r)
    apart = Sub(r, mean)
    squares = ReduceSumSquare<axes = [0, 2, 3], keepdims = 0>(apart)
    shape = Shape(r)
    sizes = Gather(shape, others)
    count = ReduceProd<axes = [0], keepdims = 0>(sizes)
    number = Cast<to: int = 1>(count)
    variance = Div(squares, number)
    flat = Squeeze(mean, others)
    normed = BatchNormalization<epsilon = 0.001>(r, ones, zeros, flat, variance)
    again = Reshape(normed, whole)
    scaled = Mul(again, gamma)
    y = MatMul(scaled, v)
}
"""


@pytest.fixture(autouse=True)
def _no_stopwatch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examine, "_LATENCY_SECONDS", 0.0)


def halved(text: str, folder: Path, **shapes: tuple[int, ...]) -> tuple[onnx.ModelProto, Report]:
    """The model with half of its channels."""
    random = np.random.default_rng(0)
    weights = {name: random.normal(size=shape).astype("f") for name, shape in shapes.items()}
    path = folder / "model.onnx"
    path.write_bytes(graphs.model(text, weights, opset=13).SerializeToString())
    (folder / "out").mkdir()
    asked = recipe(criterion="lookahead", granularity="channel", apply="shrink", target={"sparsity": 0.5})
    saved, report = prune(Source(path, path.name), asked, folder / "out", Context(folder))
    assert any(check.name == NAME and check.passed for check in report.checks)
    return onnx.load(saved), report


def shapes_of(model: onnx.ModelProto) -> dict[str, list[int]]:
    return {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}


def test_a_shape_put_together_in_int32_follows(tmp_path: Path) -> None:
    made, _ = halved(TENSORDOT, tmp_path, w=(5, 16), v=(16, 3))
    assert {name: shape for name, shape in shapes_of(made).items() if name in "wv"} == {
        "w": [5, 8],
        "v": [8, 3],
    }


def test_bounds_of_a_slice_keep_their_type(tmp_path: Path) -> None:
    made, _ = halved(SLICED, tmp_path, w=(5, 16), v=(12, 3))
    assert shapes_of(made)["w"] == [5, 8]


def test_a_norm_that_counts_its_channels_is_over_those_that_stay(tmp_path: Path) -> None:
    made, report = halved(NORM, tmp_path, w=(5, 16), v=(16, 3), gamma=(16,))
    assert shapes_of(made)["w"] == [5, 8] and shapes_of(made)["gamma"] == [8]
    (proof,) = (check for check in report.checks if check.name == NAME)
    assert "2 norms" in proof.detail
