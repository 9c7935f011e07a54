"""What LAP does and does not depend on (reference page §1.6, Invariance; §4, checks 6 and 8)."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from tests.engine import chains
from tests.engine.masks import masks
from worker.engine import formats
from worker.engine.criteria.base import Subject
from worker.engine.criteria.lookahead import Lookahead
from worker.engine.formats.base import LoadOptions
from worker.engine.graph.build import build

TARGET = {"sparsity": 0.6}
#: Powers of two change exponents only, so equal orders stay equal to the last bit.
FACTORS = st.sampled_from([2.0**k for k in range(-6, 7)])


def _rescaled(path: Path, out: Path, layer: int, unit: int, factor: float) -> Path:
    """Hidden unit `unit` after layer `layer`: what makes it times `factor`, what reads it divided by it."""
    model = onnx.load(path)
    tensors = {t.name: t for t in model.graph.initializer}
    for name, where, by in (
        (f"fc{layer}.weight", np.s_[unit, :], factor),
        (f"fc{layer}.bias", np.s_[unit], factor),
        (f"fc{layer + 1}.weight", np.s_[:, unit], 1.0 / factor),
    ):
        array = numpy_helper.to_array(tensors[name]).copy()
        array[where] *= np.float32(by)
        tensors[name].CopyFrom(numpy_helper.from_array(array, name))
    onnx.save(model, out)
    return out


def _both(tmp: Path, criterion: str, **how: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    chain = chains.mlp(tmp / "a.onnx", [9, 14, 11, 8, 6], seed=how.pop("seed"))
    other = _rescaled(chain.path, tmp / "b.onnx", **how)
    return masks(chain.path, tmp, criterion=criterion, target=TARGET), masks(
        other, tmp, criterion=criterion, target=TARGET
    )


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 999), layer=st.integers(0, 2), unit=st.integers(0, 7), factor=FACTORS)
def test_lookahead_masks_on_both_sides_of_a_rescaled_unit_stay(
    tmp_path_factory: pytest.TempPathFactory, seed: int, layer: int, unit: int, factor: float
) -> None:
    before, after = _both(
        tmp_path_factory.mktemp("r"), "lookahead", seed=seed, layer=layer, unit=unit, factor=factor
    )
    for name in (f"fc{layer}", f"fc{layer + 1}"):
        np.testing.assert_array_equal(before[name], after[name])


def test_magnitude_is_not_invariant(tmp_path: Path) -> None:
    """The guard: the same rescaling does change magnitude's masks, so the test above can fail."""
    before, after = _both(tmp_path, "magnitude", seed=1, layer=1, unit=2, factor=64.0)
    assert (before["fc1"] != after["fc1"]).any()


def test_lookahead_does_change_two_layers_away(tmp_path: Path) -> None:
    """Published: it does change when inputs of W_{i−1} or outputs of W_{i+1} are rescaled."""
    before, after = _both(tmp_path, "lookahead", seed=1, layer=0, unit=2, factor=2.0**-6)
    assert (before["fc2"] != after["fc2"]).any()


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 999))
def test_a_mirrored_batch_norm_changes_nothing(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    """The sign of γ does not matter."""
    tmp = tmp_path_factory.mktemp("s")
    chain = chains.mlp(tmp / "a.onnx", [9, 14, 11, 6], seed=seed, norm=True)
    model = onnx.load(chain.path)
    scale = next(t for t in model.graph.initializer if t.name == "bn0.scale")
    scale.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(scale), "bn0.scale"))
    onnx.save(model, tmp / "b.onnx")
    first = masks(chain.path, tmp, criterion="lookahead", target=TARGET)
    second = masks(tmp / "b.onnx", tmp, criterion="lookahead", target=TARGET)
    for name in chain.names:
        np.testing.assert_array_equal(first[name], second[name])


def test_the_score_is_the_change_of_the_product_of_three_layers(tmp_path: Path) -> None:
    """S = ‖W₃ W₂ W₁ − W₃ W₂' W₁‖² for each weight of the middle layer (reference page §1.1), to 1e-12."""
    chain = chains.mlp(tmp_path / "m.onnx", [4, 5, 6, 3], dtype=np.float64)
    network = formats.load(chain.path, LoadOptions(scratch=tmp_path))
    graph = build(network)
    score = Lookahead().scorer(Subject(network, graph, graph.layers)).score(graph.layer("fc1"))[0]
    one, two, three = chain.weights
    for k in range(6):
        for j in range(5):
            without = two.copy()
            without[k, j] = 0.0
            truth = np.linalg.norm(three @ two @ one - three @ without @ one) ** 2
            assert abs(truth - score[k, j]) <= 1e-12 * truth


def test_scoring_leaves_the_network_as_it_is(tmp_path: Path) -> None:
    """Trap 7 of the reference code: there, masks and scaling leak into the live weights."""
    chain = chains.mlp(tmp_path / "m.onnx", [9, 14, 11, 6], norm=True)
    network = formats.load(chain.path, LoadOptions(scratch=tmp_path))
    graph = build(network)
    for order in ("at_once", "forward", "backward"):
        scorer = Lookahead(order=order).scorer(Subject(network, graph, graph.layers))
        for layer in graph.layers:
            scorer.settle(layer, scorer.score(layer) > 0.5)
    for layer, weight in zip(graph.layers, chain.weights, strict=True):
        np.testing.assert_array_equal(network.read(layer.view.value), weight)
