"""Rows, blocks and n of every m: patterns and counts against naive loops over the weights."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.engine import chains
from tests.engine.chains import Chain
from tests.engine.criteria import published
from tests.engine.masks import masks, recipe
from worker.engine import formats
from worker.engine.context import Context
from worker.engine.errors import InvalidRecipeError, NothingPrunableError
from worker.engine.formats.base import LoadOptions
from worker.engine.graph.analysis import Graph
from worker.engine.planning import analyse, resolve_parts


def _vgg(tmp_path: Path, **options: Any) -> Chain:
    return chains.vgg(tmp_path / "m.onnx", [4, 8, 16], [24, 8], size=4, **options)


def _scores(chain: Chain, criterion: str) -> list[Any]:
    if criterion == "magnitude":
        return [np.abs(w.astype(np.float64)) for w in chain.weights]
    return [published.lookahead(chain.weights, chain.slopes, i) for i in range(len(chain.weights))]


def _graph(chain: Chain, tmp_path: Path, granularity: dict[str, Any]) -> Graph:
    network = formats.load(chain.path, LoadOptions(scratch=tmp_path))
    asked = recipe(granularity=granularity, target={"sparsity": 0.5})
    return analyse(network, {}, asked, Context(tmp_path))


@pytest.mark.parametrize("criterion", ["magnitude", "lookahead"])
@pytest.mark.parametrize(("n", "m"), [(2, 4), (4, 8), (1, 4), (1, 2), (3, 4)])
def test_n_best_of_every_m_inputs(tmp_path: Path, criterion: str, n: int, m: int) -> None:
    chain = _vgg(tmp_path)
    shape = {"name": "n:m", "n": n, "m": m}
    found = masks(chain.path, tmp_path, criterion=criterion, granularity=shape)
    for name, score in zip(chain.names, _scores(chain, criterion), strict=True):
        if score.shape[1] % m:
            assert name not in found
            continue
        rows = np.moveaxis(score, 1, -1).reshape(-1, m)
        kept = np.moveaxis(found[name], 1, -1).reshape(-1, m)
        for values, keep in zip(rows, kept, strict=True):
            best = sorted(range(m), key=lambda i: (-values[i], i))[:n]
            assert sorted(np.flatnonzero(keep)) == sorted(best)


def test_layers_that_do_not_divide_are_refused_with_the_reason(tmp_path: Path) -> None:
    chain = chains.vgg(tmp_path / "m.onnx", [3, 8, 10], [24, 8], size=4)
    graph = _graph(chain, tmp_path, {"name": "n:m"})
    assert [layer.name for layer in graph.layers] == ["conv1", "fc0", "fc1"]
    assert [(x.name, x.reason) for x in graph.refused] == [
        ("conv0", "3 inputs per group are no multiple of 4")
    ]
    graph = _graph(chain, tmp_path, {"name": "block"})
    assert {x.name for x in graph.refused} == {"conv0", "conv1"}
    with pytest.raises(NothingPrunableError, match="no multiple of 128"):
        _graph(chain, tmp_path, {"name": "n:m", "n": 1, "m": 128})


def test_notes_say_where_tensorrt_stays_dense(tmp_path: Path) -> None:
    wide = chains.mlp(tmp_path / "wide.onnx", [256, 8, 4])
    first, second = _graph(wide, tmp_path, {"name": "n:m"}).layers
    assert first.notes == ()
    assert "8 input channels, under 256" in second.notes[0]
    product = chains.mlp(tmp_path / "product.onnx", [256, 8, 4], style="matmul")
    assert "this is a MatMul" in _graph(product, tmp_path, {"name": "n:m"}).layers[0].notes[0]
    assert "not for 4:8" in _graph(wide, tmp_path, {"name": "n:m", "n": 4, "m": 8}).layers[0].notes[0]


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"target": {"sparsity": 0.8}}, "removes 50.0000% of every layer"),
        ({"target": {"macs": 0.5}}, "removes 50.0000% of every layer"),
        ({"allocation": "global"}, "keeps 50.00% of a layer, not"),
        ({"schedule": "rescored"}, "keeps 50.00% of a layer, not"),
        ({"layers": {"fc0": {"sparsity": 0.25}}}, "keeps 50.00% of a layer, not 75.00%"),
        ({"allocation": "erk"}, "works with granularity element, row, block"),
    ],
)
def test_requests_that_contradict_the_pattern(tmp_path: Path, request_: dict[str, Any], message: str) -> None:
    chain = _vgg(tmp_path)
    with pytest.raises(InvalidRecipeError, match=message):
        masks(chain.path, tmp_path, granularity="n:m", **request_)


def test_n_must_be_smaller_than_m() -> None:
    with pytest.raises(InvalidRecipeError, match="'n:m': 4 of 4 removes nothing"):
        resolve_parts(recipe(granularity={"name": "n:m", "n": 4, "m": 4}))


def test_a_target_that_says_the_same_and_dense_layers(tmp_path: Path) -> None:
    chain = _vgg(tmp_path)
    shape = {"name": "n:m", "n": 1, "m": 3}
    six = chains.mlp(tmp_path / "six.onnx", [6, 9, 6])
    found = masks(six.path, tmp_path, granularity=shape, target={"sparsity": 0.6667})
    assert [int(found[name].sum()) for name in six.names] == [18, 18]
    found = masks(chain.path, tmp_path, granularity="n:m", layers={"fc0": {"sparsity": 0.0}})
    assert found["fc0"].all() and found["fc1"].mean() == 0.5


def _best_units(values: Any, sparsity: float) -> Any:
    return published.keep_largest(values, sparsity)


@pytest.mark.parametrize("criterion", ["magnitude", "lookahead"])
@settings(max_examples=6, deadline=None)
@given(sparsity=st.floats(0.0, 0.99), seed=st.integers(0, 99))
def test_rows(tmp_path_factory: pytest.TempPathFactory, criterion: str, sparsity: float, seed: int) -> None:
    folder = tmp_path_factory.mktemp("rows")
    chain = _vgg(folder, seed=seed)
    found = masks(chain.path, folder, criterion=criterion, granularity="row", target={"sparsity": sparsity})
    for name, score in zip(chain.names, _scores(chain, criterion), strict=True):
        rows = found[name].reshape(score.shape[0], -1)
        expected = _best_units(np.array([score[k].sum() for k in range(score.shape[0])]), sparsity)
        np.testing.assert_array_equal(rows.all(axis=1), expected)
        np.testing.assert_array_equal(rows.any(axis=1), expected)


@pytest.mark.parametrize(("rows", "columns"), [(4, 4), (1, 4), (8, 1), (2, 2)])
def test_blocks(tmp_path: Path, rows: int, columns: int) -> None:
    chain = _vgg(tmp_path)
    shape = {"name": "block", "rows": rows, "columns": columns}
    found = masks(chain.path, tmp_path, granularity=shape, target={"sparsity": 0.6})
    for name, score in zip(chain.names, _scores(chain, "lookahead"), strict=True):
        outputs, inputs = score.shape[0] // rows, score.shape[1] // columns
        flat, kept = score.reshape(*score.shape[:2], -1), found[name].reshape(*score.shape[:2], -1)
        sums = np.zeros((outputs, inputs, flat.shape[2]))
        for i, j, t in np.ndindex(sums.shape):
            place = np.s_[i * rows : (i + 1) * rows, j * columns : (j + 1) * columns, t]
            sums[i, j, t] = flat[place].sum()
            assert kept[place].all() or not kept[place].any()
        units = kept[::rows, ::columns]
        np.testing.assert_array_equal(units, _best_units(sums, 0.6), err_msg=name)


@pytest.mark.parametrize("granularity", ["row", "block"])
@pytest.mark.parametrize("allocation", ["uniform", "global_normalised", "lamp", "erk", "uniform_plus"])
@pytest.mark.parametrize("schedule", ["one_shot", {"name": "rescored", "steps": 3}])
def test_units_go_whole_with_every_allocation(
    tmp_path: Path, granularity: str, allocation: str, schedule: Any
) -> None:
    """Total within the rounding of units: half of one per layer (all layers' units are equal within them)."""
    chain = _vgg(tmp_path)
    found = masks(
        chain.path,
        tmp_path,
        granularity=granularity,
        allocation=allocation,
        schedule=schedule,
        target={"sparsity": 0.5},
    )
    if allocation in ("erk", "uniform_plus", "uniform"):
        unit = {
            name: w[0].size if granularity == "row" else 16
            for name, w in zip(chain.names, chain.weights, strict=True)
        }
        total = sum(w.size for w in chain.weights)
        kept = sum(int(mask.sum()) for mask in found.values())
        assert abs(kept - 0.5 * total) <= sum(unit.values()) / 2 + 1
    for name in chain.names:
        mask = found[name]
        units = mask.reshape(mask.shape[0], -1) if granularity == "row" else mask[::4, ::4]
        whole = units.all(axis=1) if granularity == "row" else units
        assert mask.sum() == whole.sum() * (mask[0].size if granularity == "row" else 16)
