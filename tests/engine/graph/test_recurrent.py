"""Recurrent operators in channel maps."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.engine.formats import graphs
from tests.engine.masks import recipe
from worker.engine.context import Context
from worker.engine.graph.build import build
from worker.engine.graph.groups import couple
from worker.engine.pipeline import Source, prune
from worker.engine.verify import examine
from worker.engine.verify.masked import NAME

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


#: Rows of the weights per feature of the state.
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
#: Where the state begins: nowhere, in a stored tensor, in zeros as wide as the data are many.
BEGINNINGS = {
    "none": "",
    "stored": "",
    "filled": "begin = ConstantOfShape(sizes)",
    "expanded": "begin = Expand(zero, sizes)",
    "unsqueezed": "flat = Expand(zero, last) first = Constant<value = int64[1] {0}>() "
    "begin = Unsqueeze(flat, first)",
    "sliced": "four = Constant<value = int64[1] {4}>() more = Concat<axis = 0>(four, many, wide) "
    "zeros = ConstantOfShape(more) first = Constant<value = int64[1] {0}>() "
    "begin = Slice(zeros, first, two, first)",
}
CLASSIFIER = """
g (float[5, n, 4] x) => (float[n, 3] y) {{
    whole = Shape(x)
    one = Constant<value = int64[1] {{1}}>()
    many = Gather(whole, one)
    two = Constant<value = int64[1] {{{directions}}}>()
    wide = Constant<value = int64[1] {{6}}>()
    sizes = Concat<axis = 0>(two, many, wide)
    last = Concat<axis = 0>(many, wide)
    {begin}
    state, final = {op}<hidden_size = 6, direction = "{direction}">(x, w, r, b, , {given})
    rows = Transpose<perm = [1, 0, 2]>(final)
    flat_rows = Reshape(rows, flatten)
    y = MatMul(flat_rows, v)
}}
"""


def classifier(op: str, direction: str, begun: str) -> onnx.ModelProto:
    """A recurrent operator, whose last state is multiplied; an LSTM also has peepholes."""
    directions = 2 if direction == "bidirectional" else 1
    rows, random = 6 * GATES[op], np.random.default_rng(0)
    shapes = {
        "w": (directions, rows, 4),
        "r": (directions, rows, 6),
        "b": (directions, 2 * rows),
        "p": (directions, 18),
        "v": (6 * directions, 3),
        "begin": (directions, 1, 6),
    }
    given = [] if begun == "none" else ["begin"]
    if op == "LSTM":
        given = ["begin", "begin", "p"] if given else ["", "", "p"]
    text = CLASSIFIER.format(
        op=op, direction=direction, directions=directions, begin=BEGINNINGS[begun], given=", ".join(given)
    )
    if not given:
        text = text.replace(", b, , )", ", b)")
    held = {
        name: random.normal(size=shape).astype("f")
        for name, shape in shapes.items()
        if (name != "p" or op == "LSTM") and (name != "begin" or begun == "stored")
    }
    held |= {"zero": np.zeros(1, "f"), "flatten": np.array([0, -1])}
    return graphs.model(text, held)


def ways() -> Iterator[tuple[str, str, str]]:
    """Operator, direction, beginning; what is unsqueezed is of one direction."""
    directions = ("forward", "reverse", "bidirectional")
    for op, direction, begun in itertools.product(GATES, directions, BEGINNINGS):
        if (direction, begun) != ("bidirectional", "unsqueezed"):
            yield op, direction, begun


@pytest.mark.parametrize(("op", "direction", "begun"), list(ways()))
def test_half_of_a_state_goes(
    op: str, direction: str, begun: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examine, "_LATENCY_SECONDS", 0.0)
    path = tmp_path / "model.onnx"
    path.write_bytes(classifier(op, direction, begun).SerializeToString())
    (tmp_path / "out").mkdir()
    asked = recipe(criterion="lookahead", granularity="channel", apply="shrink", target={"sparsity": 0.5})
    saved, report = prune(Source(path, path.name), asked, tmp_path / "out", Context(tmp_path))
    assert any(check.name == NAME and check.passed for check in report.checks)
    shapes = {tensor.name: list(tensor.dims) for tensor in onnx.load(saved).graph.initializer}
    directions = 2 if direction == "bidirectional" else 1
    assert shapes["w"] == [directions, 3 * GATES[op], 4]
    assert shapes["r"] == [directions, 3 * GATES[op], 3]
    assert shapes["v"] == [3 * directions, 3]


def test_a_state_that_the_caller_gives_keeps_its_size(tmp_path: Path) -> None:
    text = """
    g (float[2, 1, 4] x, float[1, 1, 3] begin) => (float[2, 1, 1, 2] y) {
        h = RNN<hidden_size = 3>(x, w, r, , , begin)
        y = MatMul(h, v)
    }
    """
    shapes = {"w": (1, 3, 4), "r": (1, 3, 3), "v": (3, 2)}
    random = np.random.default_rng(0)
    weights = {name: random.normal(size=shape).astype("f") for name, shape in shapes.items()}
    coupling = couple(build(graphs.network(graphs.model(text, weights), tmp_path)))
    assert coupling.groups == () and "state" in coupling.frozen["w"]
