"""Attention heads go as a whole; an attention written out in numpy is the judge."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from api_schemas.recipe import RecipeRequest, resolve
from tests.engine.chains import mlp
from worker.engine.catalogue import catalogue
from worker.engine.context import Context
from worker.engine.errors import InvalidRecipeError
from worker.engine.pipeline import Source, plan, prune
from worker.engine.verify import examine

Array = np.ndarray[Any, np.dtype[Any]]
LENGTH, WIDTH, FEATURES = 3, 8, 2


@pytest.fixture(autouse=True)
def _no_stopwatch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examine, "_LATENCY_SECONDS", 0.0)


def attention(folder: Path, heads: int = 4, shared: int = 4, seed: int = 0) -> tuple[Path, dict[str, Array]]:
    """Attention of `heads` query heads on `shared` key and value heads; the file and its weights."""
    made = onnx.parser.parse_model(f"""<ir_version: 8, opset_import: ["" : 17]>
        net (float[N,{LENGTH},{WIDTH}] x) => (float[N,{LENGTH},5] y)
        <int64[4] many = {{0, {LENGTH}, {heads}, {FEATURES}}},
         int64[4] few = {{0, {LENGTH}, {shared}, {FEATURES}}},
         int64[5] wide = {{1, 1, {heads // shared}, 1, 1}}, int64[1] two = {{2}},
         int64[4] again = {{0, {heads}, {LENGTH}, {FEATURES}}},
         int64[3] flat = {{0, {LENGTH}, {heads * FEATURES}}}> {{
        q0 = MatMul(x, q)
        k0 = MatMul(x, k)
        v0 = MatMul(x, v)
        q1 = Reshape(q0, many)
        k1 = Reshape(k0, few)
        v1 = Reshape(v0, few)
        q2 = Transpose<perm=[0, 2, 1, 3]>(q1)
        k2 = Transpose<perm=[0, 2, 1, 3]>(k1)
        v2 = Transpose<perm=[0, 2, 1, 3]>(v1)
        k3 = Unsqueeze(k2, two)
        v3 = Unsqueeze(v2, two)
        k4 = Expand(k3, wide)
        v4 = Expand(v3, wide)
        k5 = Reshape(k4, again)
        v5 = Reshape(v4, again)
        k6 = Transpose<perm=[0, 1, 3, 2]>(k5)
        s = MatMul(q2, k6)
        w = Softmax<axis=-1>(s)
        a = MatMul(w, v5)
        t = Transpose<perm=[0, 2, 1, 3]>(a)
        f = Reshape(t, flat)
        y = MatMul(f, o) }}""")
    rng = np.random.default_rng(seed)
    sizes = {"q": heads * FEATURES, "k": shared * FEATURES, "v": shared * FEATURES}
    weights = {name: rng.normal(0, 0.5, (WIDTH, size)).astype(np.float32) for name, size in sizes.items()}
    weights["o"] = rng.normal(0, 0.5, (heads * FEATURES, 5)).astype(np.float32)
    made.graph.initializer.extend(numpy_helper.from_array(a, n) for n, a in weights.items())
    path = folder / "attention.onnx"
    onnx.save(made, path)
    return path, weights


def by_hand(x: Array, weights: dict[str, Array], kept: list[int], times: int) -> Array:
    """The sum over the kept query heads of what each adds."""
    total = np.zeros((*x.shape[:2], 5))
    for head in kept:
        own, its = (slice(FEATURES * h, FEATURES * (h + 1)) for h in (head, head // times))
        scores = x @ weights["q"][:, own] @ np.swapaxes(x @ weights["k"][:, its], 1, 2)
        mixed = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True) @ (x @ weights["v"][:, its])
        total += mixed @ weights["o"][own]
    return total


def taken(path: Path, folder: Path, **request: Any) -> tuple[Path, dict[str, Array]]:
    """The smaller file and its weights."""
    asked = {"criterion": {"name": "magnitude"}, "granularity": {"name": "head"}, **request}
    recipe = resolve(RecipeRequest.model_validate(asked), catalogue().preset_axes())
    (folder / "out").mkdir()
    saved, _ = prune(Source(path, path.name), recipe, folder / "out", Context(folder))
    return saved, {t.name: numpy_helper.to_array(t) for t in onnx.load(saved).graph.initializer}


def energies(weights: dict[str, Array], heads: int, shared: int) -> list[float]:
    """Sum of the magnitudes of the weights that make each key and value head and its queries."""
    found = []
    for head in range(shared):
        own = slice(FEATURES * head, FEATURES * (head + 1))
        times = heads // shared
        queries = slice(FEATURES * times * head, FEATURES * times * (head + 1))
        parts = [weights["k"][:, own], weights["v"][:, own], weights["q"][:, queries]]
        found.append(float(sum(np.abs(part.astype(np.float64)).sum() for part in parts)))
    return found


@pytest.mark.parametrize(
    ("heads", "shared", "share"), [(4, 4, 0.5), (4, 4, 0.25), (4, 4, 0.75), (6, 3, 0.34), (8, 2, 0.5)]
)
@pytest.mark.parametrize("seed", [0, 1])
def test_what_stays_is_the_attention_of_the_best_heads(
    heads: int, shared: int, share: float, seed: int, tmp_path: Path
) -> None:
    path, full = attention(tmp_path, heads, shared, seed)
    saved, small = taken(path, tmp_path, target={"sparsity": share})
    times, scores = heads // shared, energies(full, heads, shared)
    units = sorted(np.argsort(scores)[shared - round(shared * (1 - share)) :].tolist())
    kept = [unit * times + query for unit, query in itertools.product(units, range(times))]
    columns = [FEATURES * head + f for head in kept for f in range(FEATURES)]
    np.testing.assert_array_equal(small["q"], full["q"][:, columns])
    np.testing.assert_array_equal(small["o"], full["o"][columns])
    x = np.random.default_rng(seed).standard_normal((2, LENGTH, WIDTH)).astype(np.float32)
    (found,) = onnxruntime.InferenceSession(str(saved)).run(None, {"x": x})
    np.testing.assert_allclose(found, by_hand(x, full, kept, times), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("parameters", "left"), [({"round_to": 2}, 2), ({"minimum": 3}, 3), ({"round_to": 4}, 4), ({}, 1)]
)
def test_counts_are_rounded_as_for_channels(parameters: dict[str, int], left: int, tmp_path: Path) -> None:
    path, _ = attention(tmp_path)
    units = {"name": "head", **parameters}
    if left == 4:
        with pytest.raises(InvalidRecipeError, match="nothing would change"):
            taken(path, tmp_path, granularity=units, target={"sparsity": 0.75})
        return
    _, small = taken(path, tmp_path, granularity=units, target={"sparsity": 0.75})
    assert small["q"].shape == (WIDTH, left * FEATURES)


def test_heads_can_be_zeroed_in_place(tmp_path: Path) -> None:
    path, full = attention(tmp_path)
    _, small = taken(path, tmp_path, target={"sparsity": 0.5}, apply={"name": "mask"})
    assert all(small[name].shape == full[name].shape for name in full)
    assert (small["q"] == 0).all(axis=0).sum() == 2 * FEATURES


def test_validation_names_groups_of_heads(tmp_path: Path) -> None:
    path, _ = attention(tmp_path, 6, 3)
    asked = {"preset": "lookahead_heads", "target": {"sparsity": 0.34}}
    recipe = resolve(RecipeRequest.model_validate(asked), catalogue().preset_axes())
    (group,) = plan(Source(path, path.name), recipe, Context(tmp_path)).groups
    assert (group.channels, group.removed, sorted(group.layers)) == (3, 1, ["k", "q", "v"])


def test_a_model_without_attention_is_refused(tmp_path: Path) -> None:
    chain = mlp(tmp_path / "mlp.onnx", [6, 8, 4])
    with pytest.raises(InvalidRecipeError, match="no attention with heads"):
        taken(chain.path, tmp_path, target={"sparsity": 0.5})
