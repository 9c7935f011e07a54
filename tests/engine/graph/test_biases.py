"""A shift of a layer's outputs goes where it is said to go, seen in ONNX Runtime's numbers."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import helper

from tests.engine.recovery.nets import mixed, pictures, save
from worker.engine import formats
from worker.engine.formats.base import LoadOptions, Network
from worker.engine.graph.analysis import Graph
from worker.engine.graph.biases import added_inside, find_bias
from worker.engine.graph.build import build
from worker.engine.graph.layer import LayerUse

SHIFT = 0.25


def _outputs(network: Network, path: Path, x: Any) -> Any:
    network.save(path)
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]


def _last(nodes: list[Any], arrays: dict[str, Any], folder: Path) -> tuple[Network, Graph, LayerUse]:
    """A network whose last layer is followed by what takes its bias, and that layer."""
    path = save(folder / "net.onnx", nodes, arrays, [4], 3)
    network = formats.load(path, LoadOptions(scratch=folder))
    graph = build(network)
    return network, graph, graph.layers[-1].uses[0]


def _cases() -> dict[str, tuple[list[Any], dict[str, Any]]]:
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((4, 3)).astype(np.float32)
    bias = rng.standard_normal(3).astype(np.float32)
    norm = {name: np.abs(rng.standard_normal(3)).astype(np.float32) + 0.5 for name in ("s", "b", "m", "v")}
    node = helper.make_node
    product = node("MatMul", ["x", "w"], ["h"])
    return {
        "gemm": ([node("Gemm", ["x", "w", "b"], ["y"], beta=0.5)], {"w": weight, "b": bias}),
        "gemm with a row": ([node("Gemm", ["x", "w", "b"], ["y"])], {"w": weight, "b": bias[None]}),
        "matmul and add": ([product, node("Add", ["h", "b"], ["y"])], {"w": weight, "b": bias}),
        "add and matmul": ([product, node("Add", ["b", "h"], ["y"])], {"w": weight, "b": bias}),
        "norm": (
            [product, node("BatchNormalization", ["h", "s", "b", "m", "v"], ["y"])],
            {"w": weight, **norm},
        ),
    }


@pytest.mark.parametrize("case", _cases())
def test_a_shift_moves_every_row_alike(tmp_path: Path, case: str) -> None:
    nodes, arrays = _cases()[case]
    network, graph, use = _last(nodes, arrays, tmp_path)
    x = np.random.default_rng(1).standard_normal((5, 4)).astype(np.float32)
    before = _outputs(network, tmp_path / "before.onnx", x)
    bias = find_bias(network, graph, use)
    assert bias is not None
    slope = arrays["s"] / np.sqrt(arrays["v"] + 1e-5) if case == "norm" else np.ones(3)
    shift = np.array([SHIFT, 0.0, -SHIFT])
    network.write(bias.value, bias.shifted(network, shift))
    after = _outputs(network, tmp_path / "after.onnx", x)
    np.testing.assert_allclose(after - before, np.tile(shift * slope, (5, 1)), atol=1e-5)


def test_what_the_operator_adds(tmp_path: Path) -> None:
    nodes, arrays = _cases()["gemm"]
    network, _, use = _last(nodes, arrays, tmp_path)
    found = added_inside(network, use)
    assert not isinstance(found, str)
    np.testing.assert_allclose(found, 0.5 * arrays["b"])
    nodes, arrays = _cases()["norm"]
    network, _, use = _last(nodes, arrays, tmp_path)
    nothing = added_inside(network, use)
    assert not isinstance(nothing, str)
    np.testing.assert_array_equal(nothing, np.zeros(3))


def test_no_place(tmp_path: Path) -> None:
    """A vector that something else reads too, a matrix, an output that others read: nothing may be added."""
    rng = np.random.default_rng(0)
    weight, bias = rng.standard_normal((4, 3)).astype(np.float32), np.ones(3, np.float32)
    node = helper.make_node
    product = node("MatMul", ["x", "w"], ["h"])
    shared = [product, node("Add", ["h", "b"], ["k"]), node("Mul", ["k", "b"], ["y"])]
    assert find_bias(*_last(shared, {"w": weight, "b": bias}, tmp_path)) is None
    branching = [product, node("Add", ["h", "b"], ["k"]), node("Mul", ["h", "k"], ["y"])]
    assert find_bias(*_last(branching, {"w": weight, "b": bias}, tmp_path)) is None
    bare = [node("MatMul", ["x", "w"], ["y"])]
    assert find_bias(*_last(bare, {"w": weight}, tmp_path)) is None


def test_a_convolution(tmp_path: Path) -> None:
    network = formats.load(mixed(tmp_path / "net.onnx"), LoadOptions(scratch=tmp_path))
    graph = build(network)
    places = {layer.weight: find_bias(network, graph, layer.uses[0]) for layer in graph.layers}
    names = {weight: None if bias is None else bias.value.name for weight, bias in places.items()}
    assert names == {
        "stem.weight": "bn.bias",
        "deep.weight": "deep.bias",
        "grouped.weight": None,
        "hidden.weight": "hidden.bias",
        "head.weight": "head.bias",
    }
    assert _outputs(network, tmp_path / "same.onnx", pictures(2)).shape == (2, 5)
