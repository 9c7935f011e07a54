"""Criteria that look at data against their formulas, computed with numpy and torch in float64."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from tests.engine import chains
from tests.engine.chains import Chain
from tests.engine.criteria import published
from tests.engine.criteria.looked import scores
from tests.engine.learning.plain import Plain

Array = np.ndarray[Any, np.dtype[Any]]
ROWS = 11
RNG = np.random.default_rng(0)
CHAINS = {
    "mlp": lambda path: chains.mlp(path, [6, 5, 4, 3], dtype=np.float64),
    "mlp with batch norm": lambda path: chains.mlp(path, [6, 5, 4, 3], dtype=np.float64, norm=True),
    "mlp by MatMul": lambda path: chains.mlp(path, [6, 5, 3], dtype=np.float64, style="matmul"),
    "vgg": lambda path: chains.vgg(path, [2, 3, 3], [4, 3], dtype=np.float64, size=4),
}


@pytest.fixture(params=CHAINS, ids=str)
def chain(request: pytest.FixtureRequest, tmp_path: Path) -> Chain:
    made: Chain = CHAINS[request.param](tmp_path / "chain.onnx")
    return made


def _data(chain: Chain, seed: int = 0) -> Array:
    rng = np.random.default_rng(seed)
    first = chain.weights[0]
    return rng.standard_normal((ROWS, first.shape[1], *((4, 4) if first.ndim == 4 else ())))


def _labels(seed: int = 1) -> Array:
    return np.random.default_rng(seed).integers(0, 3, ROWS)


def _stored(plain: Plain, chain: Chain, i: int) -> tuple[str, bool]:
    """Name of layer i's tensor, and whether it lies (in, out)."""
    name = f"{chain.names[i]}.weight"
    return name, tuple(plain.tensors[name].shape) != chain.weights[i].shape


def _seen(tensor: torch.Tensor, turned: bool) -> Array:
    return (tensor.T if turned else tensor).detach().numpy()


def _hessian(chain: Chain, i: int, loss: Any) -> Array:
    """The diagonal of the Hessian of `loss` by two backward passes, weight by weight."""
    plain = Plain(chain.path)
    name, turned = _stored(plain, chain, i)
    weight = plain.tensors[name].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(
        loss(plain.outputs(_data(chain), **{name: weight})), weight, create_graph=True
    )
    diagonal = torch.stack(
        [torch.autograd.grad(one, weight, retain_graph=True)[0].flatten()[place]
         for place, one in enumerate(gradient.flatten())]
    )  # fmt: skip
    return _seen(diagonal.reshape(weight.shape), turned)


def _cross_entropy(outputs: torch.Tensor) -> torch.Tensor:
    return functional.cross_entropy(outputs, torch.tensor(_labels(7)))


def _squared(outputs: torch.Tensor) -> torch.Tensor:
    wanted = torch.tensor(np.random.default_rng(5).standard_normal(outputs.shape))
    return (outputs - wanted).square().sum() / 2 / ROWS


@pytest.mark.parametrize("loss", ["cross_entropy", "squared"])
def test_obd_is_the_hessian(chain: Chain, tmp_path: Path, loss: str) -> None:
    """Whatever the labels: those of the check are not those of any data, for none are given."""
    found, said = scores(chain, tmp_path, {"name": "obd", "loss": loss}, _data(chain))
    for i, weight in enumerate(chain.weights):
        hessian = _hessian(chain, i, _cross_entropy if loss == "cross_entropy" else _squared)
        np.testing.assert_allclose(found[i], weight**2 * hessian / 2, rtol=1e-6, atol=1e-12)
    assert any("exact diagonal Hessian" in message for message in said)


def _fisher(chain: Chain, i: int, labels: Array) -> Array:
    plain = Plain(chain.path)
    name, turned = _stored(plain, chain, i)
    total = torch.zeros_like(plain.tensors[name])
    for row in range(ROWS):
        weight = plain.tensors[name].clone().requires_grad_()
        outputs = plain.outputs(_data(chain)[row : row + 1], **{name: weight})
        loss = functional.cross_entropy(outputs, torch.tensor(labels[row : row + 1]))
        total = total + torch.autograd.grad(loss, weight)[0] ** 2
    return _seen(total / ROWS, turned)


def test_obd_by_fisher(chain: Chain, tmp_path: Path) -> None:
    labels = _labels()
    found, said = scores(chain, tmp_path, {"name": "obd", "curvature": "fisher"}, _data(chain), labels)
    for i, weight in enumerate(chain.weights):
        np.testing.assert_allclose(found[i], weight**2 * _fisher(chain, i, labels) / 2, rtol=1e-6, atol=1e-12)
    assert any("empirical Fisher" in message for message in said)


def test_lookahead_on_curvature(chain: Chain, tmp_path: Path) -> None:
    found, _ = scores(chain, tmp_path, {"name": "lookahead_obd"}, _data(chain))
    scaled = [w * np.sqrt(_hessian(chain, i, _cross_entropy).clip(0)) for i, w in enumerate(chain.weights)]
    for i in range(len(scaled)):
        expected = published.lookahead(scaled, [None] * len(scaled), i)
        np.testing.assert_allclose(found[i], expected, rtol=1e-6, atol=1e-15)


def _activity(chain: Chain, i: int) -> Array:
    """√P of linear units, Σ√P over the map of convolutions; ones for the last layer (§1.5)."""
    if i == len(chain.weights) - 1:
        return np.ones(chain.weights[i].shape[0])
    plain = Plain(chain.path)
    before = [node.input[0] for node in plain.nodes if node.op_type == "Relu"][i]
    on = (plain.run(_data(chain))[before].numpy() > 0).mean(axis=0)
    roots: Array = np.sqrt(on)
    return roots if on.ndim == 1 else np.asarray(roots.sum(axis=(1, 2)))


@pytest.mark.parametrize("look", ["both", "forward", "backward"])
def test_lookahead_on_activity(chain: Chain, tmp_path: Path, look: Any) -> None:
    found, _ = scores(chain, tmp_path, {"name": "lookahead_act", "look": look}, _data(chain))
    scaled = [w * _activity(chain, i).reshape(-1, *(1,) * (w.ndim - 1)) for i, w in enumerate(chain.weights)]
    for i in range(len(scaled)):
        expected = published.lookahead(scaled, chain.slopes, i, look=look)
        np.testing.assert_allclose(found[i], expected, rtol=1e-9)


def _columns(chain: Chain, i: int) -> Array:
    """What layer i reads, by brute force: (rows, positions, in, *taps)."""
    plain = Plain(chain.path)
    values = plain.run(_data(chain))
    name, _ = _stored(plain, chain, i)
    data = next(values[node.input[0]] for node in plain.nodes if name in node.input).numpy()
    if chain.weights[i].ndim == 2:
        return data[:, None]
    padded = np.pad(data, ((0, 0), (0, 0), (1, 1), (1, 1)))
    places = [padded[:, :, a : a + 3, b : b + 3] for a in range(data.shape[2]) for b in range(data.shape[3])]
    return np.stack(places, axis=1)


def test_wanda(chain: Chain, tmp_path: Path) -> None:
    found, _ = scores(chain, tmp_path, {"name": "wanda"}, _data(chain))
    for i, weight in enumerate(chain.weights):
        norm = np.sqrt((_columns(chain, i) ** 2).sum(axis=(0, 1)) / ROWS)
        np.testing.assert_allclose(found[i], np.abs(weight) * norm, rtol=1e-9)


def test_wanda_by_output(chain: Chain, tmp_path: Path) -> None:
    """Ranks within each output: the order of the scores there, and the same share at any threshold."""
    plain, _ = scores(chain, tmp_path, {"name": "wanda"}, _data(chain))
    found, _ = scores(chain, tmp_path, {"name": "wanda", "compare": "output"}, _data(chain))
    for values, ranks in zip(plain, found, strict=True):
        flat, own = values.reshape(len(values), -1), ranks.reshape(len(values), -1)
        np.testing.assert_array_equal(np.argsort(flat, axis=1), np.argsort(own, axis=1))
        np.testing.assert_allclose(np.sort(own, axis=1)[0], np.arange(1, own.shape[1] + 1) / own.shape[1])


def test_obs(chain: Chain, tmp_path: Path) -> None:
    found, _ = scores(chain, tmp_path, {"name": "obs", "damping": 0.1}, _data(chain))
    for i, weight in enumerate(chain.weights):
        columns = _columns(chain, i).reshape(-1, weight[0].size)
        gram = columns.T @ columns / ROWS
        alive = np.diag(gram) > 0
        damped = gram + 0.1 * np.diag(gram).mean() * np.eye(len(gram))
        cost = np.where(alive, 1 / np.diag(np.linalg.inv(damped)), 0.0).reshape(weight[0].shape)
        np.testing.assert_allclose(found[i], weight**2 * cost, rtol=1e-8, atol=1e-15)


def _gradient(chain: Chain, i: int, labels: Array) -> Array:
    plain = Plain(chain.path)
    name, turned = _stored(plain, chain, i)
    weight = plain.tensors[name].clone().requires_grad_()
    loss = functional.cross_entropy(plain.outputs(_data(chain), **{name: weight}), torch.tensor(labels))
    return _seen(torch.autograd.grad(loss, weight)[0], turned)


def test_taylor(chain: Chain, tmp_path: Path) -> None:
    labels = _labels()
    asked = {"name": "taylor", "batch": ROWS}
    single, _ = scores(chain, tmp_path, {**asked, "form": "weight"}, _data(chain), labels)
    squared, _ = scores(chain, tmp_path, {**asked, "form": "squared"}, _data(chain), labels)
    whole, _ = scores(chain, tmp_path, {**asked, "form": "output"}, _data(chain), labels)
    for i, weight in enumerate(chain.weights):
        change = weight * _gradient(chain, i, labels)
        np.testing.assert_allclose(single[i], np.abs(change), rtol=1e-6, atol=1e-12)
        np.testing.assert_allclose(squared[i], change**2, rtol=1e-6, atol=1e-12)
        outputs = change.reshape(len(change), -1).sum(axis=1) ** 2
        np.testing.assert_allclose(
            whole[i].reshape(len(change), -1).sum(axis=1), outputs, rtol=1e-6, atol=1e-12
        )


def test_taylor_row_by_row_is_fisher(chain: Chain, tmp_path: Path) -> None:
    labels = _labels()
    found, _ = scores(chain, tmp_path, {"name": "taylor", "batch": 1}, _data(chain), labels)
    for i, weight in enumerate(chain.weights):
        np.testing.assert_allclose(found[i], weight**2 * _fisher(chain, i, labels), rtol=1e-6, atol=1e-12)


def test_taylor_without_labels(chain: Chain, tmp_path: Path) -> None:
    found, _ = scores(chain, tmp_path, {"name": "taylor"}, _data(chain))
    assert all((item > 0).any() for item in found)


def test_activation_variance(chain: Chain, tmp_path: Path) -> None:
    """Summed over an output: the energy with which the next layer reads it, times its variance there."""
    found, _ = scores(chain, tmp_path, {"name": "activation_variance"}, _data(chain))
    for i in range(len(chain.weights) - 1):
        following = chain.weights[i + 1]
        columns = _columns(chain, i + 1)
        variance = columns.reshape(-1, *following.shape[1:]).var(axis=0)
        energy = (following**2 * variance).reshape(len(following), following.shape[1], -1).sum(axis=(0, 2))
        per_output = energy.reshape(len(chain.weights[i]), -1).sum(axis=1)
        np.testing.assert_allclose(found[i].reshape(len(found[i]), -1).sum(axis=1), per_output, rtol=1e-9)
