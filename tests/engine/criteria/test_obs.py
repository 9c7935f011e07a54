"""What OBS selects through the engine against plain numpy: it knows how many weights of each layer go."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.engine import chains
from tests.engine.chains import Chain
from tests.engine.learning import surgeon
from tests.engine.learning.plain import Plain
from tests.engine.masks import masks, recipe
from worker.engine import formats
from worker.engine.context import Context
from worker.engine.data import load_dataset
from worker.engine.formats.base import LoadOptions
from worker.engine.planning import analyse, goal_of, resolve_parts, select, selector
from worker.engine.types import Goal

Array = np.ndarray[Any, np.dtype[Any]]
ROWS, DAMPING = 40, 0.05


@pytest.fixture
def perceptron(tmp_path: Path) -> Chain:
    return chains.mlp(tmp_path / "chain.onnx", [12, 16, 12, 3], dtype=np.float64)


def _correlated(*shape: int) -> Array:
    rng = np.random.default_rng(0)
    return rng.standard_normal(shape) + 2.0 * rng.standard_normal((shape[0], *(1,) * (len(shape) - 1)))


def _reads(chain: Chain, x: Array, i: int) -> Array:
    """What layer i multiplies its weight with, by brute force: (rows, columns)."""
    plain, name = Plain(chain.path), f"{chain.names[i]}.weight"
    values = plain.run(x)
    data: Array = next(values[node.input[0]] for node in plain.nodes if name in node.input).numpy()
    if chain.weights[i].ndim == 2:
        return data
    padded = np.pad(data, ((0, 0), (0, 0), (1, 1), (1, 1)))
    places = [padded[:, :, a : a + 3, b : b + 3] for a in range(data.shape[2]) for b in range(data.shape[3])]
    return np.stack(places, axis=1).reshape(len(data) * len(places), -1)


def _gram(chain: Chain, x: Array, i: int) -> Array:
    """Of one sample."""
    rows = _reads(chain, x, i)
    gram: Array = rows.T @ rows / len(x)
    return gram


def _best(weight: Array, gram: Array, share: float) -> Array:
    found = surgeon.column_scores(weight.reshape(len(weight), -1), gram, DAMPING, share)
    return surgeon.best(found, round((1 - share) * weight.size)).reshape(weight.shape)


def _asked(**params: Any) -> dict[str, Any]:
    return {"criterion": {"name": "obs", "damping": DAMPING, **params}, "target": {"sparsity": 0.75}}


def test_shares_are_the_layers_own(perceptron: Chain, tmp_path: Path) -> None:
    x = _correlated(ROWS, 12)
    own = {"fc0": {"sparsity": 0.25}}
    found = masks(perceptron.path, tmp_path, x, layers=own, allocation="uniform", **_asked())
    for i, name in enumerate(perceptron.names):
        expected = _best(perceptron.weights[i], _gram(perceptron, x, i), 0.25 if i == 0 else 0.75)
        np.testing.assert_array_equal(found[name], expected)


def test_shares_are_what_the_allocation_makes_of_them(perceptron: Chain, tmp_path: Path) -> None:
    x = _correlated(ROWS, 12)
    found = masks(perceptron.path, tmp_path, x, allocation="erk", **_asked())
    shares = {name: 1.0 - keep.mean() for name, keep in found.items()}
    assert len(set(shares.values())) > 1
    for i, name in enumerate(perceptron.names):
        expected = _best(perceptron.weights[i], _gram(perceptron, x, i), shares[name])
        np.testing.assert_array_equal(found[name], expected)


def test_convolutions(tmp_path: Path) -> None:
    chain = chains.vgg(tmp_path / "chain.onnx", [2, 3, 3], [4, 3], dtype=np.float64, size=4)
    x = _correlated(ROWS, 2, 4, 4)
    found = masks(chain.path, tmp_path, x, allocation="uniform", **_asked())
    for i, name in enumerate(chain.names):
        np.testing.assert_array_equal(found[name], _best(chain.weights[i], _gram(chain, x, i), 0.75))


def test_patterns_run_along_the_inputs_of_one_tap(tmp_path: Path) -> None:
    chain = chains.vgg(tmp_path / "chain.onnx", [4, 8, 4], [4, 3], dtype=np.float64, size=4)
    x = _correlated(ROWS, 4, 4, 4)
    asked = {**_asked(), "granularity": "n:m", "target": None, "allocation": "uniform"}
    found = masks(chain.path, tmp_path, x, **asked)
    for i, name in enumerate(chain.names[:2]):
        outputs, inputs, *taps = chain.weights[i].shape
        order = np.arange(inputs * 9).reshape(inputs, 9).T.reshape(-1)
        hessian = surgeon.damped(_gram(chain, x, i)[np.ix_(order, order)], DAMPING)
        weight, cost = chain.weights[i].reshape(outputs, -1)[:, order], surgeon.ahead_diagonal(hessian)
        _, kept = surgeon.way(weight, hessian, 4, cost, lambda one: surgeon.best_of_each(one, 2))
        expected = kept[:, order.argsort()].reshape(outputs, inputs, *taps)
        np.testing.assert_array_equal(found[name], expected)


def test_blocks_go_by_the_published_share(perceptron: Chain, tmp_path: Path) -> None:
    asked = _asked(selection="blocks", block=4)
    found = masks(perceptron.path, tmp_path, _correlated(ROWS, 12), allocation="uniform", **asked)
    assert {int(part.sum()) for part in np.split(found["fc0"], 3, axis=1)} == {16}


def test_whole_rows_are_scored_at_once(perceptron: Chain, tmp_path: Path) -> None:
    x = _correlated(ROWS, 12)
    asked = {"granularity": "row", "allocation": "uniform"}
    one, two = (
        masks(perceptron.path, tmp_path, x, **asked, **_asked(selection=how))
        for how in ("columns", "at_once")
    )
    for name, keep in one.items():
        np.testing.assert_array_equal(keep, two[name])


def test_a_search_sees_what_is_selected_in_the_end(perceptron: Chain, tmp_path: Path) -> None:
    asked = recipe(allocation="uniform", **_asked())
    np.savez(tmp_path / "rows.npz", x=_correlated(ROWS, 12))
    network, context = formats.load(perceptron.path, LoadOptions(scratch=tmp_path)), Context(tmp_path)
    data, parts = load_dataset(tmp_path / "rows.npz", network.inputs), resolve_parts(asked)
    graph = analyse(network, {}, asked, context)
    plan = selector(parts, network, graph, context, data)
    plan(Goal(0.2))
    tried, chosen = plan(Goal(0.75)), select(parts, network, graph, goal_of(parts, asked), context, data=data)
    for one, two in zip(tried.layers, chosen.layers, strict=True):
        np.testing.assert_array_equal(one.keep, two.keep)
    assert context.warnings == []
