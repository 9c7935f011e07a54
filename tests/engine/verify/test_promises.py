"""What a saved file promises, on whole jobs."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from tests.engine.formats import graphs
from tests.engine.masks import recipe
from worker.engine.context import Context
from worker.engine.pipeline import Source, prune
from worker.engine.verify import examine

TEXT = """
g (float[n, 6] x) => (float[n, 3] y) {
    b = Gemm(x, w, c)
    a = Relu(b)
    y = MatMul(a, v)
}
"""


def biased_by_a_constant_node() -> onnx.ModelProto:
    random = np.random.default_rng(0)
    shapes = {"w": (6, 16), "v": (16, 3)}
    made = graphs.model(TEXT, {name: random.normal(size=s).astype("f") for name, s in shapes.items()})
    bias = numpy_helper.from_array(random.normal(size=16).astype("f"))
    made.graph.node.insert(0, helper.make_node("Constant", [], ["c"], value=bias))
    return made


def test_healing_may_change_a_bias_in_a_constant_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examine, "_LATENCY_SECONDS", 0.0)
    path = tmp_path / "model.onnx"
    path.write_bytes(biased_by_a_constant_node().SerializeToString())
    np.savez(tmp_path / "rows.npz", x=np.random.default_rng(1).normal(1.0, 1.0, (256, 6)).astype("f"))
    (tmp_path / "out").mkdir()
    asked = recipe(criterion="magnitude", target={"sparsity": 0.6}, recovery="reconstruction")
    source = Source(path, path.name, tmp_path / "rows.npz")
    saved, report = prune(source, asked, tmp_path / "out", Context(tmp_path))
    before, after = (onnx.load(file).graph.node[0].attribute[0].t for file in (path, saved))
    assert not np.array_equal(numpy_helper.to_array(before), numpy_helper.to_array(after))
    assert all(check.passed for check in report.checks)
