"""LAMP, ERK, uniform+ and bounded global selection against independent float64 implementations."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tests.engine import chains
from tests.engine.allocation import published
from tests.engine.criteria.published import keep_largest, lookahead
from tests.engine.masks import masks
from worker.engine.allocation.apportioned import apportion
from worker.engine.allocation.lamp import lamp_scores
from worker.engine.errors import InvalidRecipeError

WEIGHTS = arrays.arrays(
    np.float64,
    st.integers(1, 40),
    elements=st.floats(-4, 4, allow_subnormal=False).map(lambda x: round(x, 3)),
)


@given(weights=WEIGHTS)
def test_lamp_scores_are_the_published_ones(weights: Any) -> None:
    expected = published.lamp(weights)
    for degree, scores in ((1, np.abs(weights)), (2, weights**2)):
        np.testing.assert_allclose(lamp_scores(scores, degree), expected, rtol=1e-9, atol=1e-300)


@given(weights=WEIGHTS.filter(lambda w: bool(w.any())), power=st.integers(-400, 400))
def test_the_best_weight_scores_one_and_scale_does_not_matter(weights: Any, power: int) -> None:
    """Exactly: powers of two, however far, change nothing, not even where squares would overflow."""
    scores = lamp_scores(np.abs(weights))
    assert scores.max() == 1.0
    assert np.argmax(scores) == np.argmax(np.abs(weights))
    np.testing.assert_array_equal(lamp_scores(np.abs(weights) * 2.0**power), scores)


def test_the_float32_trap() -> None:
    """On many weights the best still scores 1, where the reference's float32 sum made it 0.12 (§2.1)."""
    weights = np.random.default_rng(0).standard_normal(300_000).astype(np.float32)
    scores = lamp_scores(np.abs(weights).astype(np.float64))
    exact = np.sort(weights.astype(np.longdouble) ** 2)
    tail = np.cumsum(exact[::-1])[::-1]
    assert scores.max() == 1.0
    np.testing.assert_allclose(np.sort(scores), np.sort((exact / tail).astype(np.float64)), rtol=1e-9)


def test_weights_that_are_zero_already_count_for_nothing() -> None:
    scores = lamp_scores(np.array([3.0, -np.inf, 4.0, -np.inf]))
    np.testing.assert_array_equal(scores, [9 / 25, -np.inf, 1.0, -np.inf])


@pytest.mark.parametrize("criterion", ["magnitude", "lookahead"])
def test_lamp_masks(tmp_path: Path, criterion: str) -> None:
    """One top-k of naive scores; of lookahead, whose score is of degree 2 already, LAMP of its root."""
    chain = chains.vgg(tmp_path / "m.onnx", [3, 4, 5], [8, 5], size=4)
    found = masks(chain.path, tmp_path, criterion=criterion, allocation="lamp", target={"sparsity": 0.8})
    roots = [
        np.abs(w) if criterion == "magnitude" else np.sqrt(lookahead(chain.weights, chain.slopes, i))
        for i, w in enumerate(chain.weights)
    ]
    pooled = np.concatenate([published.lamp(root).reshape(-1) for root in roots])
    expected = np.split(keep_largest(pooled, 0.8), np.cumsum([root.size for root in roots])[:-1])
    for name, mask in zip(chain.names, expected, strict=True):
        np.testing.assert_array_equal(found[name].reshape(-1), mask, err_msg=name)


@settings(max_examples=10, deadline=None)
@given(sparsity=st.floats(0.0, 0.9), seed=st.integers(0, 99))
def test_erk_counts(tmp_path_factory: pytest.TempPathFactory, sparsity: float, seed: int) -> None:
    folder = tmp_path_factory.mktemp("erk")
    chain = chains.vgg(folder / "m.onnx", [1, 4, 6], [20, 3], size=4, seed=seed)
    found = masks(chain.path, folder, allocation="erk", target={"sparsity": sparsity})
    total = round((1 - sparsity) * sum(w.size for w in chain.weights))
    ideal = published.erk([w.shape for w in chain.weights], total)
    assert sum(int(found[name].sum()) for name in chain.names) == total
    for name, wanted in zip(chain.names, ideal, strict=True):
        assert abs(int(found[name].sum()) - wanted) <= 0.5 + len(ideal) / 2, name


@settings(max_examples=10, deadline=None)
@given(sparsity=st.floats(0.0, 0.9), convolution=st.booleans())
def test_uniform_plus_counts(
    tmp_path_factory: pytest.TempPathFactory, sparsity: float, convolution: bool
) -> None:
    folder = tmp_path_factory.mktemp("plus")
    chain = (
        chains.vgg(folder / "m.onnx", [1, 4, 6], [20, 3], size=4)
        if convolution
        else chains.mlp(folder / "m.onnx", [20, 30, 10, 8])
    )
    found = masks(chain.path, folder, allocation="uniform_plus", target={"sparsity": sparsity})
    sizes = [w.size for w in chain.weights]
    total = round((1 - sparsity) * sum(sizes))
    ideal = published.uniform_plus(sizes, total, first_is_convolution=convolution)
    assert sum(int(found[name].sum()) for name in chain.names) == total
    for name, wanted in zip(chain.names, ideal, strict=True):
        assert abs(int(found[name].sum()) - wanted) <= 0.5 + len(sizes) / 2, name


def test_uniform_plus_refuses_what_would_need_more_than_everything(tmp_path: Path) -> None:
    chain = chains.mlp(tmp_path / "m.onnx", [10, 10, 30])
    with pytest.raises(InvalidRecipeError, match="20% of the last layer: 60 weights"):
        masks(chain.path, tmp_path, allocation="uniform_plus", target={"sparsity": 0.9})
    hinted = masks(chain.path, tmp_path, allocation="uniform_plus", target={"sparsity": 1 - 60 / 400})
    assert [int(hinted[name].sum()) for name in chain.names] == [0, 60]


@settings(deadline=None)
@given(data=st.data(), sizes=st.lists(st.integers(1, 50), min_size=1, max_size=8))
def test_apportioned_counts_are_exact_and_only_grow(data: st.DataObject, sizes: list[int]) -> None:
    lows = [data.draw(st.integers(0, size)) for size in sizes]
    wishes = [data.draw(st.floats(0.01, 100)) for _ in sizes]
    total = data.draw(st.integers(sum(lows), sum(sizes)))
    found = apportion(wishes, lows, sizes, total)
    assert sum(found) == total
    assert all(low <= count <= size for low, count, size in zip(lows, found, sizes, strict=True))
    if total < sum(sizes):
        more = apportion(wishes, lows, sizes, total + 1)
        assert all(before <= after for before, after in zip(found, more, strict=True))
    with pytest.raises(ValueError, match="add up"):
        apportion(wishes, lows, sizes, sum(sizes) + 1)


@pytest.mark.parametrize("allocation", ["global", "global_normalised"])
def test_floor_and_cap(tmp_path: Path, allocation: str) -> None:
    """Unbounded, one layer would keep more than its cap and another less than its floor; the sum stays."""
    chain = chains.mlp(tmp_path / "m.onnx", [40, 20, 10, 20], norm=True)
    sizes = [w.size for w in chain.weights]
    free = masks(chain.path, tmp_path, allocation=allocation, target={"sparsity": 0.8})
    before = [free[name].mean() for name in chain.names]
    floor, cap = float(np.mean([min(before), 0.2])), float(np.mean([max(before), 0.2]))
    assert min(before) < floor and max(before) > cap
    bounds = {"name": allocation, "floor": floor, "cap": cap}
    found = masks(chain.path, tmp_path, allocation=bounds, target={"sparsity": 0.8})
    kept = [int(found[name].sum()) for name in chain.names]
    assert sum(kept) == round(0.2 * sum(sizes))
    for count, size in zip(kept, sizes, strict=True):
        assert np.ceil(floor * size - 1e-6) <= count <= np.floor(cap * size + 1e-6)


def test_bounded_choice_is_the_best_there_is(tmp_path: Path) -> None:
    """Brute force: no pair of a kept and a dropped weight could be exchanged for a better sum."""
    chain = chains.mlp(tmp_path / "m.onnx", [6, 5, 4])
    bounds = {"name": "global", "floor": 0.5, "cap": 0.6}
    found = masks(chain.path, tmp_path, criterion="magnitude", allocation=bounds, target={"sparsity": 0.45})
    kept = {name: int(found[name].sum()) for name in chain.names}
    values = dict(zip(chain.names, map(np.abs, chain.weights), strict=True))
    for here in chain.names:
        for there in chain.names:
            room = here == there or (
                kept[here] - 1 >= np.ceil(0.5 * values[here].size)
                and kept[there] + 1 <= np.floor(0.6 * values[there].size)
            )
            if room:
                assert values[here][found[here]].min() >= values[there][~found[there]].max()


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ({"floor": 0.5}, "from 0.0000 to 0.5000"),
        ({"cap": 0.1}, "from 0.9000"),
        ({"floor": 0.9, "cap": 0.1}, "above"),
    ],
)
def test_bounds_that_cannot_be_met(tmp_path: Path, bounds: dict[str, float], message: str) -> None:
    chain = chains.mlp(tmp_path / "m.onnx", [10, 10, 10])
    with pytest.raises(InvalidRecipeError, match=message):
        masks(chain.path, tmp_path, allocation={"name": "global", **bounds}, target={"sparsity": 0.8})
