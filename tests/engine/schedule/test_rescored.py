"""Many small cuts, scored anew each time: exact at every step, and equal to a naive loop on chains."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.engine import chains
from tests.engine.chains import Chain
from tests.engine.criteria import published
from tests.engine.masks import masks, recipe
from worker.engine import formats
from worker.engine.apply.mask import Mask
from worker.engine.context import Context
from worker.engine.formats.base import LoadOptions
from worker.engine.formats.draft import Draft
from worker.engine.planning import analyse, resolve_parts, select
from worker.engine.schedule.rescored import Rescored
from worker.engine.types import Goal

SHARES = st.floats(0.0, 0.999)


@given(sparsity=SHARES, own=SHARES, steps=st.integers(1, 60))
def test_the_kept_share_falls_by_the_same_factor(sparsity: float, own: float, steps: int) -> None:
    goal = Goal(sparsity, {"a": own, "b": 1.0})
    cuts = list(Rescored(steps=steps).cuts(goal))
    assert len(cuts) == steps
    assert cuts[-1] == goal
    for i, cut in enumerate(cuts, 1):
        np.testing.assert_allclose(1 - cut.sparsity, (1 - sparsity) ** (i / steps), rtol=1e-9)
        np.testing.assert_allclose(1 - cut.overrides["a"], (1 - own) ** (i / steps), rtol=1e-9)
    assert all(cut.overrides["b"] == 0.0 for cut in cuts[:-1])


def _naive(chain: Chain, ratio: float, steps: int, own: dict[str, float]) -> list[Any]:
    """Score all layers on what is left, keep the best of each, multiply, and again."""
    now = [weight.astype(np.float64).copy() for weight in chain.weights]
    kept = [np.ones(w.shape, dtype=bool) for w in now]
    for step in range(1, steps + 1):
        scores = [published.lookahead(now, chain.slopes, i) for i in range(len(now))]
        for i, name in enumerate(chain.names):
            share = 1 - (1 - own.get(name, ratio)) ** (step / steps)
            scores[i][~kept[i]] = -np.inf
            kept[i] = published.keep_largest(scores[i], share)
        now = [w * k for w, k in zip(now, kept, strict=True)]
    return kept


def _chain(tmp_path: Path) -> Chain:
    return chains.mlp(tmp_path / "m.onnx", [20, 30, 25, 10], norm=True)


@pytest.mark.parametrize("steps", [2, 7])
@pytest.mark.parametrize("own", [{}, {"fc1": 0.3}])
def test_masks_are_those_of_a_naive_loop(tmp_path: Path, steps: int, own: dict[str, float]) -> None:
    chain = _chain(tmp_path)
    layers = {name: {"sparsity": share} for name, share in own.items()}
    schedule = {"name": "rescored", "steps": steps}
    found = masks(chain.path, tmp_path, schedule=schedule, target={"sparsity": 0.9}, layers=layers)
    for name, expected in zip(chain.names, _naive(chain, 0.9, steps, own), strict=True):
        np.testing.assert_array_equal(found[name], expected, err_msg=name)


def test_rescored_is_not_published_lookahead(tmp_path: Path) -> None:
    chain = _chain(tmp_path)
    once = masks(chain.path, tmp_path, target={"sparsity": 0.9})
    often = masks(chain.path, tmp_path, schedule="rescored", target={"sparsity": 0.9})
    assert any((once[name] != often[name]).any() for name in chain.names)
    single = masks(chain.path, tmp_path, schedule={"name": "rescored", "steps": 1}, target={"sparsity": 0.9})
    assert all((once[name] == single[name]).all() for name in chain.names)


@pytest.mark.parametrize("allocation", ["uniform", "global_normalised", "lamp", "erk", "uniform_plus"])
@pytest.mark.parametrize("criterion", ["lookahead", "random"])
def test_every_cut_is_exact_and_keeps_what_is_gone_gone(
    tmp_path: Path, allocation: str, criterion: str
) -> None:
    chain = _chain(tmp_path)
    asked = recipe(criterion=criterion, allocation=allocation, target={"sparsity": 0.8})
    parts, context = resolve_parts(asked), Context(tmp_path)
    network = formats.load(chain.path, LoadOptions(scratch=tmp_path))
    graph, draft = analyse(network, {}, asked, context), Draft(network, tmp_path)
    total = sum(layer.size for layer in graph.layers)
    for cut in Rescored(steps=9).cuts(Goal(0.8)):
        plan = select(parts, draft, graph, cut, context)
        Mask().apply(plan, graph, draft, tmp_path)
        zeros = sum(int((draft.read(layer.view.value) == 0).sum()) for layer in graph.layers)
        assert zeros == sum(item.pruned for item in plan.layers)
        rounding = 0.5 * (len(graph.layers) if allocation == "uniform" else 1)
        assert abs(zeros - cut.sparsity * total) <= rounding + 1e-6
    for layer, weight in zip(graph.layers, chain.weights, strict=True):
        np.testing.assert_array_equal(network.read(layer.view.value), weight)


def test_channels_are_cut_to_the_same_widths(tmp_path: Path) -> None:
    """Whole channels, rescored, end at the widths of one shot."""
    chain = chains.vgg(tmp_path / "m.onnx", [3, 8, 12, 10], [16, 5], size=4)
    once, often = (
        masks(chain.path, tmp_path, granularity="channel", schedule=schedule, target={"sparsity": 0.5})
        for schedule in ("one_shot", {"name": "rescored", "steps": 5})
    )
    for name in chain.names:
        assert once[name].sum() == often[name].sum()


def test_a_draft_is_never_saved(tmp_path: Path) -> None:
    network = formats.load(_chain(tmp_path).path, LoadOptions(scratch=tmp_path))
    with pytest.raises(TypeError, match="cannot be saved"):
        Draft(network, tmp_path).save(tmp_path / "out.onnx")
