"""Channels under norms over channels: what is left is normed by itself, as written out here in numpy."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from api_schemas.recipe import RecipeRequest, resolve
from api_schemas.report import Report
from worker.engine.catalogue import catalogue
from worker.engine.context import Context
from worker.engine.errors import BrokenPromiseError
from worker.engine.pipeline import Source, prune
from worker.engine.verify import examine, masked

Array = np.ndarray[Any, np.dtype[Any]]
EPSILON = 1e-5


@pytest.fixture(autouse=True)
def _no_stopwatch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examine, "_LATENCY_SECONDS", 0.0)


def layer_norm(x: Array) -> Array:
    found: Array = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + EPSILON)
    return found


def rms_norm(x: Array) -> Array:
    found: Array = x / np.sqrt(np.square(x).mean(-1, keepdims=True) + EPSILON)
    return found


def unit_norm(x: Array) -> Array:
    found: Array = x / np.sqrt(np.square(x).sum(-1, keepdims=True))
    return found


_WRITTEN_OUT = """
    m = ReduceMean<axes=[-1]>(h)
    d = Sub(h, m)
    s = Mul(d, d)
    v = ReduceMean<axes=[-1]>(s)
    e = Add(v, tiny)
    r = Sqrt(e)
    n = Div(d, r)
    g = Mul(n, slope)"""
_RMS_WRITTEN_OUT = """
    s = Pow(h, two)
    v = ReduceMean<axes=[-1]>(s)
    e = Add(v, tiny)
    q = Sqrt(e)
    r = Reciprocal(q)
    n = Mul(h, r)
    g = Mul(slope, n)"""
#: Operators from `h` and `slope` to `g`, opset, and the norm in numpy.
FORMS: dict[str, tuple[str, int, Callable[[Array], Array]]] = {
    "one operator": ("g = LayerNormalization<axis=-1>(h, slope)", 17, layer_norm),
    "written out": (_WRITTEN_OUT, 13, layer_norm),
    "root mean square": ("g = RMSNormalization<axis=-1>(h, slope)", 23, rms_norm),
    "root mean square written out": (_RMS_WRITTEN_OUT, 13, rms_norm),
    "unit length": ("n = LpNormalization<axis=-1, p=2>(h)\ng = Mul(n, slope)", 17, unit_norm),
}


def model(form: str, width: int, seed: int, folder: Path) -> tuple[Path, dict[str, Array]]:
    """x · a, a norm with slopes, · b; weights by name."""
    middle, opset, _ = FORMS[form]
    text = f"""<ir_version: 8, opset_import: ["" : {opset}]> net (float[N,3,7] x) => (float[N,3,5] y)
        <float tiny = {{{EPSILON:f}}}, float two = {{2.0}}> {{ h = MatMul(x, a)
        {middle}
        y = MatMul(g, b) }}"""
    made = onnx.parser.parse_model(text)
    made.ir_version = 11 if opset > 20 else 8
    rng = np.random.default_rng(seed)
    shapes = {"a": (7, width), "slope": (width,), "b": (width, 5)}
    weights = {name: rng.normal(0.3, 1.0, shape).astype(np.float32) for name, shape in shapes.items()}
    used = {name for node in made.graph.node for name in node.input}
    kept = [tensor for tensor in made.graph.initializer if tensor.name in used]
    del made.graph.initializer[:]
    made.graph.initializer.extend([*kept, *(numpy_helper.from_array(a, n) for n, a in weights.items())])
    path = folder / "model.onnx"
    onnx.save(made, path)
    return path, weights


def pruned(path: Path, folder: Path, **request: Any) -> tuple[Path, Report]:
    asked = {"preset": "lookahead_channels", "target": {"sparsity": 0.5}, **request}
    recipe = resolve(RecipeRequest.model_validate(asked), catalogue().preset_axes())
    (folder / "out").mkdir()
    return prune(Source(path, path.name), recipe, folder / "out", Context(folder))


def run(path: Path, **feeds: Array) -> Array:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, feeds)[0])


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=4, deadline=None)
@given(width=st.integers(4, 20), share=st.sampled_from([0.25, 0.5, 0.75]), seed=st.integers(0, 99))
def test_the_norm_is_that_of_the_channels_that_stay(
    tmp_path_factory: pytest.TempPathFactory, form: str, width: int, share: float, seed: int
) -> None:
    folder = tmp_path_factory.mktemp("norm")
    path, full = model(form, width, seed, folder)
    saved, _ = pruned(path, folder, target={"sparsity": share})
    small = {t.name: numpy_helper.to_array(t) for t in onnx.load(saved).graph.initializer}
    left = [int(np.flatnonzero((row == full["a"].T).all(1))[0]) for row in small["a"].T]
    assert len(left) == round(width * (1 - share)) and left == sorted(left)
    np.testing.assert_array_equal(small["slope"], full["slope"][left])
    np.testing.assert_array_equal(small["b"], full["b"][left])
    x = np.random.default_rng(seed).standard_normal((2, 3, 7)).astype(np.float32)
    expected = FORMS[form][2](x @ full["a"][:, left]) * full["slope"][left] @ full["b"][left]
    np.testing.assert_allclose(run(saved, x=x), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("form", [form for form in FORMS if form != "unit length"])  # zeros add nothing to it
def test_the_check_fails_against_statistics_over_all_channels(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(masked, "statistics_over", lambda *_: [])
    path, _ = model(form, 12, 0, tmp_path)
    with pytest.raises(BrokenPromiseError, match="equals the masked model"):
        pruned(path, tmp_path)


def test_groups_of_a_group_norm_go_as_a_whole(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    made = onnx.parser.parse_model("""<ir_version: 10, opset_import: ["" : 21]>
        net (float[N,3,6,6] x) => (float[N,5,6,6] y) {
        h = Conv(x, a)
        n = GroupNormalization<num_groups=4>(h, slope, shift)
        y = Conv(n, b) }""")
    shapes = {"a": (12, 3, 1, 1), "slope": (12,), "shift": (12,), "b": (5, 12, 1, 1)}
    for name, shape in shapes.items():
        array = rng.standard_normal(shape).astype(np.float32)
        made.graph.initializer.append(numpy_helper.from_array(array, name))
    onnx.save(made, tmp_path / "model.onnx")
    saved, _ = pruned(tmp_path / "model.onnx", tmp_path)
    graph = onnx.load(saved).graph
    found = {t.name: list(t.dims) for t in graph.initializer}
    assert found == {"a": [6, 3, 1, 1], "slope": [6], "shift": [6], "b": [5, 6, 1, 1]}
    (groups,) = [a.i for node in graph.node for a in node.attribute if a.name == "num_groups"]
    assert groups == 2


def test_an_embedding_loses_columns_and_stays_shared_with_the_output_layer(tmp_path: Path) -> None:
    made = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["" : 17]>
        net (int64[N,4] x) => (float[N,4,9] y) {
        e = Gather<axis=0>(table, x)
        n = LayerNormalization<axis=-1>(e, slope)
        u = MatMul(n, a)
        r = Relu(u)
        d = MatMul(r, b)
        s = Add(e, d)
        t = Transpose<perm=[1, 0]>(table)
        y = MatMul(s, t) }""")
    rng = np.random.default_rng(2)
    shapes = {"table": (9, 8), "slope": (8,), "a": (8, 6), "b": (6, 8)}
    for name, shape in shapes.items():
        array = rng.standard_normal(shape).astype(np.float32)
        made.graph.initializer.append(numpy_helper.from_array(array, name))
    onnx.save(made, tmp_path / "model.onnx")
    saved, report = pruned(tmp_path / "model.onnx", tmp_path)
    found = {t.name: list(t.dims) for t in onnx.load(saved).graph.initializer}
    assert found == {"table": [9, 4], "slope": [4], "a": [4, 3], "b": [3, 4]}
    assert report.summary.parameters_after == 9 * 4 + 4 + 4 * 3 + 3 * 4
