"""Recurrent operators in channel maps."""

from pathlib import Path

import numpy as np

from tests.engine.formats import graphs
from worker.engine.graph.build import build
from worker.engine.graph.groups import couple

UNFOLDED = """
g (float[1, 1, 4] x) => (float[1, 1, 1, 2] y) {
    h = MatMul(x, w)
    r = Relu(h)
    start = Constant<value = int64[1] {0}>()
    middle = Constant<value = int64[1] {2}>()
    end = Constant<value = int64[1] {8}>()
    axis = Constant<value = int64[1] {1}>()
    first = Slice(gates, start, middle, axis)
    rest = Slice(gates, middle, end, axis)
    turned = Concat<axis = 1>(rest, first)
    y = LSTM<hidden_size = 2>(r, turned, back)
}
"""


def test_what_a_recurrent_operator_reads_with_computed_weights_stays(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    shapes = {"w": (4, 6), "gates": (1, 8, 6), "back": (1, 8, 2)}
    weights = {name: random.normal(size=shape).astype("f") for name, shape in shapes.items()}
    graph = build(graphs.network(graphs.model(UNFOLDED, weights), tmp_path))
    assert couple(graph).groups == ()
    assert "computed" in couple(graph).frozen["w"]
