"""The full module that a smaller one is held to: norms see the channels that stay, all else is as it was."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.engine.formats.files import reloaded, save_jit, scripted, traced
from tests.engine.formats.test_torch_rewrite import cuts, weights
from worker.engine.formats import LoadOptions, load
from worker.engine.formats.edits import SetAttribute

KEPT = [0, 3, 5, 6]
INPUTS = {"x": [2, 4, 6]}


class Normed(nn.Module):
    """Features, something that takes statistics over them, and their reader."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.first, self.norm, self.second = nn.Linear(6, 8), norm, nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.norm(self.first(x)))


class WrittenOut(nn.Module):
    """RMS norm as transformers write it."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(8))

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * self.weight


def over(module: Normed, x: Tensor) -> Tensor:
    """What is to come out, of the kept features alone."""
    features, norm = module.first(x)[..., KEPT], module.norm
    if isinstance(norm, nn.LayerNorm):
        normed = functional.layer_norm(features, [len(KEPT)], norm.weight[KEPT], norm.bias[KEPT], norm.eps)
    else:
        eps = 1e-6 if isinstance(norm, WrittenOut) else torch.finfo(torch.float32).eps
        normed = features * (features.pow(2).mean(-1, keepdim=True) + eps).rsqrt() * norm.weight[KEPT]
    return functional.linear(normed, module.second.weight[:, KEPT], module.second.bias)


@pytest.mark.parametrize("make", [scripted, lambda module: traced(module, torch.rand(2, 4, 6))])
@pytest.mark.parametrize("norm", [lambda: nn.LayerNorm(8), lambda: nn.RMSNorm(8), WrittenOut])
def test_norms_see_what_stays_and_all_else_is_whole(tmp_path, norm, make):
    module = weights(Normed(norm()))
    with torch.no_grad():
        module.second.weight[:, [unit for unit in range(8) if unit not in KEPT]] = 0.0
    path = save_jit(make(module), tmp_path / "m.pt")
    network = load(path, LoadOptions(inputs=INPUTS))
    kept = {"first.weight": {0: KEPT}, "first.bias": {0: KEPT}, "second.weight": {1: KEPT}}
    kept |= {f"norm.{name}": {0: KEPT} for name, _ in module.norm.named_parameters()}
    # Of the statistics only that there are any matters here: code is followed by the cuts.
    statistics = [SetAttribute(next(iter(network.structure.graph)), "axis", 0)]
    found = reloaded(network.narrowed(statistics, cuts(network, kept), tmp_path).file)
    x = torch.rand(5, 4, 6)
    torch.testing.assert_close(found(x), over(module, x), rtol=1e-4, atol=1e-5)
    for name, tensor in module.state_dict().items():
        assert torch.equal(found.state_dict()[name], tensor), name


def test_a_norm_over_all_channels_is_not_what_comes_out(tmp_path):
    """The two differ, so that a file which kept zeros in its norms would be caught."""
    module = weights(Normed(nn.LayerNorm(8)))
    with torch.no_grad():
        module.second.weight[:, [unit for unit in range(8) if unit not in KEPT]] = 0.0
    x = torch.rand(5, 4, 6)
    difference = (module(x) - over(module, x)).abs().max()
    assert np.asarray(difference.detach()) > 1e-2


def test_nothing_is_written_where_no_statistics_are_taken(tmp_path):
    path = save_jit(scripted(Normed(nn.LayerNorm(8))), tmp_path / "m.pt")
    network = load(path, LoadOptions(inputs=INPUTS))
    assert network.narrowed([], [], tmp_path) is network
