"""Groups of channels that may change places: on random graphs no order of theirs changes the outputs."""

import tempfile
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from tests.engine.graph.random_graphs import draw_graph, save_model
from tests.engine.graph.test_random_graphs import ran
from worker.engine.formats import LoadOptions, load
from worker.engine.formats.base import Network
from worker.engine.graph.build import build, constants_in
from worker.engine.graph.candidates import narrowed
from worker.engine.graph.permutation import MovableGroup, Order, inverse, movable_groups, moved, reorder

SETTINGS = settings(
    max_examples=80, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
Array = np.ndarray[Any, np.dtype[Any]]


def _shuffled(groups: tuple[MovableGroup, ...], seed: int) -> list[Order]:
    rng = np.random.default_rng(seed)
    return [order for group in groups for order in group.orders(rng.permutation(group.units))]


def hold_any_order(random: Random, steps: int, folder: Path) -> int:
    """Put all groups in a random order, compare, and back; how many groups there were."""
    path = save_model(draw_graph(random, steps), folder / "m.onnx")
    network = load(path, LoadOptions(scratch=folder))
    groups = movable_groups(build(network), network)
    orders = _shuffled(groups, random.randrange(1 << 20))
    bits = {value: network.read(value).tobytes() for value in constants_in(network.structure)}
    reorder(network, orders)
    network.save(folder / "other.onnx")
    before, after = ran(path), ran(folder / "other.onnx")
    for name, value in before.items():
        assert np.abs(value - after[name]).max() <= 1e-5 * max(np.abs(value).max(), 1e-6), name
    reorder(network, inverse(orders))
    assert bits == {value: network.read(value).tobytes() for value in bits}
    return len(groups)


@SETTINGS
@given(st.integers(0, 1 << 20), st.integers(1, 14))
def test_no_order_changes_the_function(seed: int, steps: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        hold_any_order(Random(seed), steps, Path(folder))


def test_random_graphs_have_groups_that_move(tmp_path: Path) -> None:
    """The property above would hold where nothing ever moved."""
    counts = [hold_any_order(Random(seed), 8, tmp_path) for seed in range(12)]
    assert sum(counts) >= 12 and np.count_nonzero(counts) >= 10


@pytest.mark.parametrize(
    ("labels", "channels", "order"),
    [
        ([0, 1, 2], [2, 0, 1], [2, 0, 1]),
        ([-1, 0, 1, -1], [1, 0], [0, 2, 1, 3]),
        ([0, 0, 1, 1], [1, 0], [2, 3, 0, 1]),
        ([0, 1, 0, 1], [1, 0], [1, 0, 3, 2]),
    ],
)
def test_an_axis_follows_its_channels(labels: list[int], channels: list[int], order: list[int]) -> None:
    assert moved(np.array(labels), np.array(channels)).tolist() == order


def _network(folder: Path, nodes: list[onnx.NodeProto], tensors: dict[str, Array]) -> Network:
    """x (1, 4, 6, 6) → convolution "first" of 8 channels "a" → nodes → "y"."""
    rng = np.random.default_rng(0)
    first = helper.make_node("Conv", ["x", "first"], ["a"])
    stored = {"first": rng.standard_normal((8, 4, 1, 1)).astype(np.float32), **tensors}
    made = helper.make_graph(
        [first, *nodes],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 6, 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", "c", "h", "w"])],
        [numpy_helper.from_array(array, name) for name, array in stored.items()],
    )
    onnx.save(
        helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), folder / "m.onnx"
    )
    return load(folder / "m.onnx", LoadOptions(scratch=folder))


def _conv(*shape: int) -> Array:
    return np.random.default_rng(1).standard_normal(shape).astype(np.float32)


def _last(name: str) -> onnx.NodeProto:
    return helper.make_node("Conv", [name, "last"], ["y"])


LAST = {"last": _conv(2, 8, 1, 1)}
FIXED: dict[str, tuple[list[onnx.NodeProto], dict[str, Array]]] = {
    "a grouped convolution": (
        [helper.make_node("Conv", ["a", "w"], ["b"], group=2), _last("b")],
        {"w": _conv(8, 4, 1, 1), **LAST},
    ),
    "neighbours norm each other": ([helper.make_node("LRN", ["a"], ["b"], size=3), _last("b")], LAST),
    "cut in two": (
        [
            helper.make_node("Split", ["a"], ["b", "c"], axis=1),
            helper.make_node("Add", ["b", "c"], ["d"]),
            helper.make_node("Conv", ["d", "last"], ["y"]),
        ],
        {"last": _conv(2, 4, 1, 1)},
    ),
    "space from depth": (
        [
            helper.make_node("DepthToSpace", ["a"], ["b"], blocksize=2),
            helper.make_node("Conv", ["b", "last"], ["y"]),
        ],
        {"last": _conv(2, 2, 1, 1)},
    ),
    "also an output": (
        [helper.make_node("Conv", ["a", "last"], ["b"]), helper.make_node("Identity", ["a"], ["y"])],
        LAST,
    ),
    "norms over groups": (
        [
            helper.make_node("Reshape", ["a", "halves"], ["b"]),
            helper.make_node("InstanceNormalization", ["b", "one", "nought"], ["c"]),
            helper.make_node("Reshape", ["c", "whole"], ["d"]),
            _last("d"),
        ],
        {
            "halves": np.array([1, 2, -1]),
            "whole": np.array([1, 8, 6, 6]),
            "one": np.ones(2, np.float32),
            "nought": np.zeros(2, np.float32),
            **LAST,
        },
    ),
}


@pytest.mark.parametrize("case", FIXED)
def test_channels_whose_places_count_stay(tmp_path: Path, case: str) -> None:
    network = _network(tmp_path, *FIXED[case])
    moving = [f.value.name for group in movable_groups(build(network), network) for f in group.followers]
    assert "first" not in moving


def test_a_tensor_that_something_else_reads_holds_its_group(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Mul", ["a", "scale"], ["b"]),
        helper.make_node("Conv", ["b", "last"], ["c"]),
        helper.make_node("Mul", ["c", "scale"], ["y"]),
    ]
    scale = _conv(1, 8, 1, 1)
    shared = _network(tmp_path, nodes, {"scale": scale, "last": _conv(8, 8, 1, 1)})
    assert movable_groups(build(shared), shared) == ()
    (tmp_path / "own").mkdir()
    nodes[-1] = helper.make_node("Mul", ["c", "other"], ["y"])
    own = _network(tmp_path / "own", nodes, {"scale": scale, "other": scale, "last": _conv(8, 8, 1, 1)})
    (group,) = movable_groups(build(own), own)
    assert {(f.value.name, f.axis) for f in group.followers} == {("first", 0), ("scale", 1), ("last", 1)}
    assert [reader.layer.name for reader in group.readers] == ["last"]


def test_excluded_layers_stay_as_they_are(tmp_path: Path) -> None:
    nodes = [helper.make_node("Conv", ["a", "middle"], ["b"]), _last("b")]
    network = _network(tmp_path, nodes, {"middle": _conv(8, 8, 1, 1), **LAST})
    graph = build(network)
    assert len(movable_groups(graph, network)) == 2
    for name in ("first", "last"):
        (group,) = movable_groups(narrowed(graph, [name], lambda _: None), network)
        assert name not in {f.value.name for f in group.followers}
    assert movable_groups(narrowed(graph, ["middle"], lambda _: None), network) == ()
