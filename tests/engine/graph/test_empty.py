"""Weights of no elements, as files have them that wait for an adapter."""

from pathlib import Path

import numpy as np
import onnx

from tests.engine.formats import graphs
from tests.engine.masks import recipe
from worker.engine.context import Context
from worker.engine.graph.build import build
from worker.engine.graph.groups import couple
from worker.engine.pipeline import Source, prune

ADAPTED = """
g (float[n, 4] x) => (float[n, 2] y) {
    h = MatMul(x, w)
    down = MatMul(h, a)
    up = MatMul(down, b)
    s = Add(h, up)
    y = MatMul(s, v)
}
"""

BESIDE = """
g (float[n, 4] x) => (float[n, 2] y) {
    h = MatMul(x, w)
    r = Relu(h)
    made = MatMul(r, v)
    down = MatMul(x, a)
    up = MatMul(down, b)
    y = Add(made, up)
}
"""


def test_an_empty_weight_is_left_alone_with_what_it_reads(tmp_path: Path) -> None:
    shapes = {"w": (4, 8), "a": (8, 0), "b": (0, 8), "v": (8, 2)}
    random = np.random.default_rng(0)
    weights = {name: random.normal(size=shape).astype("f") for name, shape in shapes.items()}
    graph = build(graphs.network(graphs.model(ADAPTED, weights), tmp_path))
    assert [layer.name for layer in graph.layers] == ["w", "v"]
    assert {layer.name: layer.reason for layer in graph.refused} == dict.fromkeys("ab", "it holds no weights")
    assert couple(graph).groups == () and "no weights" in couple(graph).frozen["w"]


def test_what_is_of_no_size_is_not_brought_back(tmp_path: Path) -> None:
    shapes = {"w": (4, 8), "v": (8, 2), "a": (4, 0), "b": (0, 2)}
    random = np.random.default_rng(0)
    weights = {name: random.normal(size=shape).astype("f") for name, shape in shapes.items()}
    path = tmp_path / "model.onnx"
    path.write_bytes(graphs.model(BESIDE, weights).SerializeToString())
    (tmp_path / "out").mkdir()
    asked = recipe(criterion="lookahead", granularity="channel", apply="shrink", target={"sparsity": 0.5})
    saved, _ = prune(Source(path, path.name), asked, tmp_path / "out", Context(tmp_path))
    left = {tensor.name: list(tensor.dims) for tensor in onnx.load(saved).graph.initializer}
    assert left == {"w": [4, 4], "v": [4, 2], "a": [4, 0], "b": [0, 2]}
