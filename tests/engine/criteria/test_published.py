"""On plain chains the masks are those of the published formulas, computed independently."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.engine import chains
from tests.engine.chains import Chain
from tests.engine.criteria import published
from tests.engine.masks import masks

RATIO = 0.7


def _mlp(tmp_path: Path, **options: Any) -> Chain:
    return chains.mlp(tmp_path / "mlp.onnx", [20, 30, 25, 17, 10], **options)


def _vgg(tmp_path: Path, **options: Any) -> Chain:
    return chains.vgg(tmp_path / "vgg.onnx", [3, 8, 12, 10], [16, 5], **options)


CHAINS = {
    "mlp": (_mlp, {}),
    "mlp with batch norm": (_mlp, {"norm": True}),
    "mlp, Gemm not transposed": (_mlp, {"style": "gemm_plain"}),
    "mlp, MatMul": (_mlp, {"style": "matmul", "norm": True}),
    "mlp, float64": (_mlp, {"dtype": np.float64, "norm": True}),
    "mlp, float16": (_mlp, {"dtype": np.float16}),
    "vgg": (_vgg, {"norm": False}),
    "vgg with batch norm": (_vgg, {"norm": True}),
    "vgg, 1×1": (_vgg, {"kernel": 1}),
}


@pytest.fixture(params=CHAINS, ids=str)
def chain(request: pytest.FixtureRequest, tmp_path: Path) -> Chain:
    make, options = CHAINS[request.param]
    return make(tmp_path, **options)


def _slopes(chain: Chain, batch_norm: bool) -> list[Any]:
    return chain.slopes if batch_norm else [None] * len(chain.slopes)


def _agree(found: dict[str, Any], expected: list[Any], chain: Chain) -> None:
    for name, mask in zip(chain.names, expected, strict=True):
        np.testing.assert_array_equal(found[name], mask, err_msg=name)


def test_magnitude_layerwise(chain: Chain, tmp_path: Path) -> None:
    found = masks(chain.path, tmp_path, criterion="magnitude", target={"sparsity": RATIO})
    _agree(found, published.layerwise([np.abs(w.astype(np.float64)) for w in chain.weights], RATIO), chain)


@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize("look", ["both", "forward", "backward"])
def test_lookahead_layerwise(chain: Chain, tmp_path: Path, batch_norm: bool, look: str) -> None:
    criterion = {"name": "lookahead", "batch_norm": batch_norm, "look": look}
    found = masks(chain.path, tmp_path, criterion=criterion, target={"sparsity": RATIO})
    slopes = _slopes(chain, batch_norm)
    scores = [published.lookahead(chain.weights, slopes, i, look=look) for i in range(len(slopes))]
    _agree(found, published.layerwise(scores, RATIO), chain)


@pytest.mark.parametrize("order", ["forward", "backward"])
def test_lookahead_in_sequence(chain: Chain, tmp_path: Path, order: str) -> None:
    criterion = {"name": "lookahead", "order": order}
    found = masks(chain.path, tmp_path, criterion=criterion, target={"sparsity": RATIO})
    expected = published.in_sequence(chain.weights, chain.slopes, RATIO, backward=order == "backward")
    _agree(found, expected, chain)


@pytest.mark.parametrize("normalised", [True, False])
@pytest.mark.parametrize("squared", [True, False])
def test_lookahead_global(chain: Chain, tmp_path: Path, normalised: bool, squared: bool) -> None:
    allocation = "global_normalised" if normalised else "global"
    criterion = {"name": "lookahead", "squared": squared}
    target = {"sparsity": RATIO}
    found = masks(chain.path, tmp_path, criterion=criterion, allocation=allocation, target=target)
    indices = range(len(chain.weights))
    scores = [published.lookahead(chain.weights, chain.slopes, i, squared=squared) for i in indices]
    _agree(found, published.pooled(scores, RATIO, normalised=normalised), chain)


@pytest.mark.parametrize("normalised", [True, False])
def test_magnitude_global(chain: Chain, tmp_path: Path, normalised: bool) -> None:
    allocation = "global_normalised" if normalised else "global"
    found = masks(
        chain.path, tmp_path, criterion="magnitude", allocation=allocation, target={"sparsity": RATIO}
    )
    scores = [np.abs(w.astype(np.float64)) for w in chain.weights]
    _agree(found, published.pooled(scores, RATIO, normalised=normalised), chain)


def test_a_single_layer_has_no_neighbours(tmp_path: Path) -> None:
    """Without neighbours lookahead is magnitude (reference page §4, check 7)."""
    chain = chains.mlp(tmp_path / "one.onnx", [40, 30])
    ahead = masks(chain.path, tmp_path, criterion="lookahead", target={"sparsity": 0.5})
    plain = masks(chain.path, tmp_path, criterion="magnitude", target={"sparsity": 0.5})
    np.testing.assert_array_equal(ahead["fc0"], plain["fc0"])


def test_lookahead_is_not_magnitude(tmp_path: Path) -> None:
    """A guard on the tests above: on these chains the two criteria do disagree."""
    chain = _vgg(tmp_path)
    ahead = masks(chain.path, tmp_path, criterion="lookahead", target={"sparsity": RATIO})
    plain = masks(chain.path, tmp_path, criterion="magnitude", target={"sparsity": RATIO})
    assert any((ahead[name] != plain[name]).any() for name in chain.names)
