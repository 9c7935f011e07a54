"""Weights of no elements, as files have them that wait for an adapter."""

from pathlib import Path

import numpy as np

from tests.engine.formats import graphs
from worker.engine.graph.build import build
from worker.engine.graph.groups import couple

ADAPTED = """
g (float[n, 4] x) => (float[n, 2] y) {
    h = MatMul(x, w)
    down = MatMul(h, a)
    up = MatMul(down, b)
    s = Add(h, up)
    y = MatMul(s, v)
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
