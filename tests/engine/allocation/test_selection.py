"""Exact counts: what selection promises for any scores, ties and infinities included."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tests.engine import chains
from tests.engine.masks import masks
from worker.engine import registry
from worker.engine.allocation.base import kept_count
from worker.engine.granularity.selection import histogram, largest

SCORES = arrays.arrays(
    np.float64,
    st.integers(1, 200),
    elements=st.sampled_from([-np.inf, 0.0, 1e-300, 0.5, 0.5, 1.0, 3.0, 1e300]),
)


@given(scores=SCORES, data=st.data())
def test_the_largest_are_kept_and_ties_go_to_the_earlier(scores: Any, data: st.DataObject) -> None:
    count = data.draw(st.integers(0, scores.size))
    keep, limit = largest(scores, count)
    expected = np.zeros(scores.size, dtype=bool)
    expected[np.argsort(-scores, kind="stable")[:count]] = True
    np.testing.assert_array_equal(keep, expected)
    if count and np.isfinite(scores[keep].min()):
        assert limit == scores[keep].min()


@given(size=st.integers(1, 10_000), sparsity=st.floats(0, 1, allow_nan=False, exclude_max=True))
def test_counts_are_within_one_of_the_request(size: int, sparsity: float) -> None:
    assert abs((size - kept_count(size, sparsity)) - sparsity * size) <= 0.5 + 1e-6


@given(scores=SCORES)
def test_a_histogram_counts_every_positive_score(scores: Any) -> None:
    positive = int((np.isfinite(scores) & (scores > 0)).sum())
    found = histogram(scores)
    assert (found is None) == (positive == 0)
    assert found is None or int(found.counts.sum()) == positive


CRITERIA = [p.name for p in registry.parts("criterion") if p.requires().granularities is None]
TARGETED = [p.name for p in registry.parts("allocation") if p.requires().targets != []]


@pytest.mark.parametrize("allocation", TARGETED)
@pytest.mark.parametrize("criterion", CRITERIA)
@settings(max_examples=8, deadline=None)
@given(sparsity=st.floats(0.0, 0.96), seed=st.integers(0, 99))
def test_every_pair_is_exact_in_total(
    tmp_path_factory: pytest.TempPathFactory, criterion: str, allocation: str, sparsity: float, seed: int
) -> None:
    """A conformance test over the registry: a new criterion or allocation is held to it by itself."""
    folder = tmp_path_factory.mktemp("exact")
    chain = chains.mlp(folder / "m.onnx", [12, 20, 15, 7], seed=seed, norm=True)
    found = masks(
        chain.path,
        folder,
        _rows(seed, 12),
        criterion=criterion,
        allocation=allocation,
        target={"sparsity": sparsity},
        seed=seed,
    )
    total = sum(mask.size for mask in found.values())
    gone = total - sum(int(mask.sum()) for mask in found.values())
    layers = len(found) if allocation == "uniform" else 1
    assert abs(gone - sparsity * total) <= 0.5 * layers + 1e-6


def _rows(seed: int, width: int) -> Any:
    """Rows for criteria that look at data."""
    return np.random.default_rng(seed).standard_normal((9, width)).astype(np.float32)


def test_layers_of_their_own_and_given(tmp_path: Path) -> None:
    chain = chains.mlp(tmp_path / "m.onnx", [10, 20, 10, 10])
    layers = {"fc1": {"sparsity": 0.25}, "fc2.weight": {"sparsity": 1.0}}
    for allocation in TARGETED:
        found = masks(chain.path, tmp_path, allocation=allocation, target={"sparsity": 0.9}, layers=layers)
        assert [int((~found[name]).sum()) for name in chain.names] == [180, 50, 100], allocation
    found = masks(chain.path, tmp_path, allocation="given", layers=layers)
    assert [int((~found[name]).sum()) for name in chain.names] == [0, 50, 100]


def test_a_glob_names_several_layers_and_an_exact_name_wins(tmp_path: Path) -> None:
    chain = chains.mlp(tmp_path / "m.onnx", [10, 20, 10, 10])
    for layers in (
        {"fc*": {"sparsity": 0.5}, "fc1": {"sparsity": 0.25}},
        {"fc1": {"sparsity": 0.25}, "fc*": {"sparsity": 0.5}},
    ):
        found = masks(chain.path, tmp_path, allocation="given", layers=layers)
        assert [int((~found[name]).sum()) for name in chain.names] == [100, 50, 50]


def test_weights_that_are_zero_go_first(tmp_path: Path) -> None:
    """A file that is sparse already keeps its zeros among the pruned, whatever the criterion."""
    import onnx
    from onnx import numpy_helper

    chain = chains.mlp(tmp_path / "m.onnx", [10, 20, 10])
    model = onnx.load(chain.path)
    weight = next(t for t in model.graph.initializer if t.name == "fc0.weight")
    array = numpy_helper.to_array(weight).copy()
    array[:, :4] = 0.0
    weight.CopyFrom(numpy_helper.from_array(array, "fc0.weight"))
    onnx.save(model, chain.path)
    for name in CRITERIA:
        found = masks(chain.path, tmp_path, _rows(0, 10), criterion=name, target={"sparsity": 0.4})
        assert not found["fc0"][:, :4].any(), name
