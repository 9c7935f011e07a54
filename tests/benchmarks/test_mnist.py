"""Training only the live part of a masked network is training the masked network."""

from pathlib import Path

import numpy as np
import torch
from torch import nn

from benchmarks import mnist
from benchmarks.mnist import Images, Live, Net


def sparse(seed: int, share: float) -> tuple[Net, list[np.ndarray]]:
    rng = np.random.default_rng(seed)
    net = mnist.fresh(seed)
    masks = [rng.random(weight.shape) < share for weight in net.weights]
    return Net(tuple(w * m for w, m in zip(net.weights, masks, strict=True)), net.biases), masks


def whole(net: Net, x: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """The network computed in full, and its weights as leaves."""
    weights = [torch.tensor(w, requires_grad=True) for w in net.weights]
    for index, (weight, bias) in enumerate(zip(weights, net.biases, strict=True)):
        x = nn.functional.linear(x.relu() if index else x, weight, torch.tensor(bias))
    return x, weights


def test_outputs_and_gradients_are_those_of_the_whole_network() -> None:
    net, masks = sparse(0, 0.003)
    x = torch.randn(7, 784, generator=torch.Generator().manual_seed(0))
    live = Live(net, masks)
    assert sum(w.numel() for w in live.weights) < sum(w.size for w in net.weights) * 0.7
    expected, leaves = whole(net, x)
    found = live(x[:, live.pixels])
    torch.testing.assert_close(found, expected)
    expected.square().sum().backward()
    found.square().sum().backward()
    live.hold_masks()
    gradients = [leaf.grad.numpy() * mask for leaf, mask in zip(leaves, masks, strict=True)]
    for index, weight in enumerate(live.weights):
        cut = live._cut(gradients[index], index)
        np.testing.assert_allclose(weight.grad.numpy(), cut, rtol=1e-4, atol=1e-6)
        assert np.count_nonzero(cut) == np.count_nonzero(gradients[index])


def test_pruned_weights_stay_zero_and_kept_ones_learn() -> None:
    net, masks = sparse(1, 0.02)
    generator = torch.Generator().manual_seed(1)
    images = Images(torch.randn(200, 784, generator=generator), torch.arange(200) % 10)
    trained = mnist.train(net, masks, images, steps=20, seed=0)
    for weight, mask in zip(trained.weights, masks, strict=True):
        assert not weight[~mask].any()
    assert any((new != old).any() for new, old in zip(trained.weights, net.weights, strict=True))


def test_a_file_reads_back(tmp_path: Path) -> None:
    net = mnist.fresh(3)
    back = mnist.read_onnx(mnist.write_onnx(net, tmp_path / "mlp.onnx"))
    for one, other in zip((*net.weights, *net.biases), (*back.weights, *back.biases), strict=True):
        np.testing.assert_array_equal(one, other)
