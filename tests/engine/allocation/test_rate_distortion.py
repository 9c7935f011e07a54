"""Rate and distortion against exhaustive search over how many weights each layer loses."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tests.engine import chains
from tests.engine.masks import masks
from worker.engine.allocation.curves import cheapest, distortion

LAYERS = st.lists(
    arrays.arrays(
        np.float64, st.integers(1, 12), elements=st.sampled_from([0.0, 0.1, 0.2, 0.5, 1.0, 1.5, 3.0])
    ),
    min_size=1,
    max_size=4,
)


def _costs(weights: Any) -> list[float]:
    """√(removed / kept) after the 0, 1, 2, … smallest are gone, by sums over slices."""
    squares = sorted(float(w) ** 2 for w in weights)
    costs = []
    for count in range(len(squares) + 1):
        gone, kept = sum(squares[:count]), sum(squares[count:])
        costs.append(0.0 if gone == 0.0 else np.sqrt(gone / kept) if kept else np.inf)
    return costs


@given(weights=LAYERS.map(lambda layers: layers[0]))
def test_a_curve_is_known_at_every_count_of_a_small_layer(weights: Any) -> None:
    for scores, power in ((np.abs(weights), 2.0), (weights**2, 1.0)):
        curve = distortion(scores, power)
        np.testing.assert_array_equal(curve.removed, np.arange(weights.size + 1))
        np.testing.assert_allclose(curve.cost, _costs(weights), rtol=1e-9)


@settings(deadline=None)
@given(layers=LAYERS, price=st.floats(1e-3, 10.0))
def test_equal_steepness_is_the_optimum(layers: list[Any], price: float) -> None:
    """For any price each layer's cheapest count minimises cost − price · removed. For the total they make,
    no other counts cost less (Everett's theorem); the allocation must find as little."""
    costs = [_costs(weights) for weights in layers]
    best = [int(np.argmin([c - price * k for k, c in enumerate(curve)])) for curve in costs]
    found = cheapest([distortion(np.abs(w), 2.0) for w in layers], sum(best))
    assert sum(found) == sum(best)
    least = sum(curve[k] for curve, k in zip(costs, best, strict=True))
    assert sum(curve[k] for curve, k in zip(costs, found, strict=True)) <= least + 1e-9


@settings(deadline=None)
@given(layers=LAYERS, data=st.data())
def test_any_total_is_met_and_counts_only_grow(layers: list[Any], data: st.DataObject) -> None:
    curves = [distortion(np.abs(w), 2.0) for w in layers]
    total = data.draw(st.integers(0, sum(w.size for w in layers)))
    found = cheapest(curves, total)
    assert sum(found) == total
    assert all(0 <= count <= w.size for count, w in zip(found, layers, strict=True))
    if total:
        fewer = cheapest(curves, total - 1)
        assert all(a <= b for a, b in zip(fewer, found, strict=True))
    alive = [w for w in layers if w.any()]
    if total <= sum(w.size for w in layers) - len(alive):
        assert all(count < w.size for count, w in zip(found, layers, strict=True) if w.any())


def test_a_large_layer_is_known_at_its_ends() -> None:
    """Sampled, but exact where few are left: the last ones matter most at high sparsity."""
    weights = np.random.default_rng(0).standard_normal(20_000)
    curve = distortion(np.abs(weights), 2.0)
    squares = np.sort(weights**2)
    assert curve.removed.size < 1200
    assert {0, *range(19_990, 20_001)} <= set(curve.removed.tolist())
    for removed, cost in list(zip(curve.removed, curve.cost, strict=True))[1:-1:50]:
        exact = np.sqrt(squares[:removed].sum() / squares[removed:].sum())
        assert abs(cost - exact) <= 1e-9 * exact


def test_weights_that_are_zero_cost_nothing() -> None:
    scores = np.array([-np.inf, 1.0, 2.0, -np.inf])
    curve = distortion(scores, 2.0)
    np.testing.assert_allclose(curve.cost, [0.0, 0.0, 0.0, 0.5, np.inf])
    assert cheapest([curve, distortion(np.array([1e-9, 5.0]), 2.0)], 2) == [2, 0]


@pytest.mark.parametrize("criterion", ["magnitude", "lookahead"])
@pytest.mark.parametrize("schedule", ["one_shot", {"name": "rescored", "steps": 4}])
def test_masks_are_exact_in_total_and_leave_no_layer_empty(
    tmp_path: Path, criterion: str, schedule: Any
) -> None:
    chain = chains.mlp(tmp_path / "m.onnx", [20, 30, 25, 10], norm=True)
    found = masks(
        chain.path,
        tmp_path,
        criterion=criterion,
        allocation="rate_distortion",
        schedule=schedule,
        target={"sparsity": 0.8},
    )
    total = sum(w.size for w in chain.weights)
    assert sum(int(mask.sum()) for mask in found.values()) == round(0.2 * total)
    assert all(mask.any() for mask in found.values())
