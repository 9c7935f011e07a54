"""Proofs that a smaller file equals the masked one: strict, but not about what rounding alone decides."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest

from api_schemas.report import CheckResult
from tests.engine.formats import graphs
from tests.engine.masks import recipe
from worker.engine.context import Context
from worker.engine.formats import LoadOptions, runner
from worker.engine.formats.base import Array, Runner
from worker.engine.formats.onnx_widened import wide_feed, widened
from worker.engine.pipeline import Source, prune
from worker.engine.verify import examine
from worker.engine.verify.masked import NAME, check_equal
from worker.engine.verify.saturation import LEAST, least_magnitudes

HALF = """
g (float16[n, 32] x) => (float[n, 4] y, float16[n, 64] a) {
    h = MatMul(x, w)
    r = Relu(h)
    m = MatMul(r, u)
    a = Relu(m)
    s = MatMul(a, v)
    y = Cast<to: int = 1>(s)
}
"""
FAINT = """
g (float[n, 3, 16, 16] x) => (float[n, 1, 16, 16] y) {
    h = Conv<pads = [1, 1, 1, 1]>(x, w)
    r = Relu(h)
    m = Conv<pads = [1, 1, 1, 1]>(r, u, b)
    s = Sigmoid(m)
    y = Identity(s)
}
"""


@pytest.fixture(autouse=True)
def _no_stopwatch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examine, "_LATENCY_SECONDS", 0.0)


def normal(*shape: int, dtype: str = "float32") -> Array:
    scale = np.sqrt(2 / np.prod(shape[1:] if len(shape) > 2 else shape[:1]))
    drawn: Array = (scale * np.random.default_rng(shape[0]).normal(size=shape)).astype(dtype)
    return drawn


def half_model() -> onnx.ModelProto:
    shapes = {"w": (32, 128), "u": (128, 64), "v": (64, 4)}
    return graphs.model(HALF, {name: normal(*s, dtype="float16") for name, s in shapes.items()})


def proof(model: onnx.ModelProto, folder: Path) -> CheckResult:
    """How half of the channels of a model fared."""
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    (folder / "out").mkdir()
    asked = recipe(criterion="lookahead", granularity="channel", apply="shrink", target={"sparsity": 0.5})
    _, report = prune(Source(path, path.name), asked, folder / "out", Context(folder))
    return next(check for check in report.checks if check.name == NAME)


def test_half_precision_is_proved_in_float32(tmp_path: Path) -> None:
    found = proof(half_model(), tmp_path)
    assert found.passed and "computed in float32" in found.detail


def test_a_widened_file_means_the_same(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(half_model().SerializeToString())
    wide = widened(path, LoadOptions(), tmp_path / "wide")
    assert wide is not None
    feed = {"x": normal(5, 32, dtype="float16")}
    narrow = runner(path, LoadOptions(), 1).run(feed)
    found = runner(wide, LoadOptions(), 1).run({"x": wide_feed(feed["x"])})
    assert [one.dtype for one in found] == [np.float32, np.float32]
    for one, other in zip(narrow, found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-2, atol=1e-2)


def test_what_is_not_half_is_not_widened(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(faint_model(0.0).SerializeToString())
    assert widened(path, LoadOptions(), tmp_path / "wide") is None


def faint_model(bias: float) -> onnx.ModelProto:
    weights = {"w": normal(32, 3, 3, 3), "u": normal(1, 32, 3, 3), "b": np.array([bias], "f")}
    return graphs.model(FAINT, weights)


def test_a_sigmoid_that_finds_nothing_is_no_broken_promise(tmp_path: Path) -> None:
    assert proof(faint_model(-16.0), tmp_path).passed


def test_only_outputs_that_sigmoids_make_have_a_least_magnitude(tmp_path: Path) -> None:
    sigmoids = graphs.network(faint_model(0.0), tmp_path)
    assert least_magnitudes(sigmoids.structure) == (LEAST,)
    others = graphs.network(half_model(), tmp_path)
    assert least_magnitudes(others.structure) == (0.0, 0.0)


class Constant(Runner):
    """Gives one number, whatever it is fed."""

    def __init__(self, number: float) -> None:
        self.number = number

    def run(self, feeds: Mapping[str, Array]) -> list[Array]:
        return [np.array([self.number])]


@pytest.mark.parametrize(
    ("first", "second", "least", "passed"),
    [
        (1e-5, 1.0005e-5, (LEAST,), True),
        (1e-5, 1.2e-5, (LEAST,), False),
        (1e-5, 1.0005e-5, (), False),
        (0.5, 0.5001, (LEAST,), False),
        (0.5, 0.50001, (LEAST,), True),
    ],
)
def test_how_far_apart_two_outputs_may_be(
    first: float, second: float, least: tuple[float, ...], passed: bool
) -> None:
    assert check_equal(Constant(first), Constant(second), [{}], least).passed is passed
