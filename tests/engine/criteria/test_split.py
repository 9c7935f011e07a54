"""Lookahead in several steps: the procedure of the reference page §1.6, word by word, for every order."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.engine import chains
from tests.engine.chains import Chain
from tests.engine.criteria import published
from tests.engine.masks import masks


def _procedure(chain: Chain, ratio: float, mode: str, steps: int) -> list[Any]:
    """Each step removes ratio / steps of the original count; in an order layer by layer, else together."""
    now = [weight.astype(np.float64).copy() for weight in chain.weights]
    kept = [np.ones(w.shape, dtype=bool) for w in now]
    for step in range(steps):
        fresh = list(kept)
        for i in range(len(now))[:: -1 if mode == "backward" else 1]:
            score = published.lookahead(now, chain.slopes, i)
            score[~kept[i]] = -np.inf
            share = (ratio / steps) / (1 - ratio * step / steps)
            count = round((1 - share) * int(kept[i].sum()))
            fresh[i] = published.keep_largest(score, 1 - count / score.size)
            if mode != "at_once":
                now[i], kept[i] = now[i] * fresh[i], fresh[i]
        kept = fresh
        now = [w * k for w, k in zip(now, kept, strict=True)]
    return kept


@pytest.mark.parametrize("steps", [2, 3])
@pytest.mark.parametrize("mode", ["at_once", "forward", "backward"])
def test_masks_are_those_of_the_procedure(tmp_path: Path, mode: str, steps: int) -> None:
    """Backward too, where the reference code ends with empty masks (trap 6)."""
    chain = chains.mlp(tmp_path / "m.onnx", [20, 30, 20, 10], norm=True)
    criterion = {"name": "lookahead", "order": mode, "steps": steps}
    found = masks(chain.path, tmp_path, criterion=criterion, target={"sparsity": 0.6})
    for name, expected in zip(chain.names, _procedure(chain, 0.6, mode, steps), strict=True):
        np.testing.assert_array_equal(found[name], expected, err_msg=name)
        assert found[name].mean() == 0.4


@pytest.mark.parametrize("mode", ["at_once", "forward", "backward"])
def test_steps_matter(tmp_path: Path, mode: str) -> None:
    chain = chains.mlp(tmp_path / "m.onnx", [20, 30, 20, 10], norm=True)
    one, three = (
        masks(
            chain.path,
            tmp_path,
            criterion={"name": "lookahead", "order": mode, "steps": steps},
            target={"sparsity": 0.6},
        )
        for steps in (1, 3)
    )
    assert any((one[name] != three[name]).any() for name in chain.names)
