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


def test_a_state_that_keeps_its_size_is_told_of(tmp_path: Path) -> None:
    text = "g (float[2, 1, 4] x) => (float[2, 1, 1, 3] y) { y = GRU<hidden_size = 3>(x, w, r) }"
    random = np.random.default_rng(0)
    weights = {
        name: random.normal(size=shape).astype("f")
        for name, shape in {"w": (1, 9, 4), "r": (1, 9, 3)}.items()
    }
    coupling = couple(build(graphs.network(graphs.model(text, weights), tmp_path)))
    assert coupling.groups == () and set(coupling.frozen) == {"w", "r"}
    assert all("state" in reason for reason in coupling.frozen.values())


def test_what_a_recurrent_operator_reads_with_computed_weights_stays(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    shapes = {"w": (4, 6), "gates": (1, 8, 6), "back": (1, 8, 2)}
    weights = {name: random.normal(size=shape).astype("f") for name, shape in shapes.items()}
    graph = build(graphs.network(graphs.model(UNFOLDED, weights), tmp_path))
    assert couple(graph).groups == ()
    assert "computed" in couple(graph).frozen["w"]
