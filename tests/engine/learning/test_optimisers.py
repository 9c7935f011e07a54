"""Optimisers under masks, decay, clipping; learning rates."""

import math

import numpy as np
import pytest
import torch

from worker.engine.learning.optimisers import Optimiser, Settings
from worker.engine.learning.rates import Rate

PLAIN = torch.amp.GradScaler("cpu", enabled=False)


def parameter(*shape: int) -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.ones(shape))


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd"])
def test_what_is_pruned_stays_zero_though_momentum_and_decay_pull(name):
    weight, mask = parameter(3, 4), torch.tensor([True, False, True, False]).repeat(3, 1)
    optimiser = Optimiser([weight], {id(weight): mask}, Settings(name, weight_decay=0.1))
    with torch.no_grad():
        weight.mul_(mask)
    for step in range(20):
        optimiser.set_rate(0.1)
        optimiser.clear()
        ((weight - step) ** 2).sum().backward()
        optimiser.step(PLAIN, None)
        assert not weight.detach()[~mask].numpy().view(np.int32).any()
    assert (weight.detach()[mask] != 1).all()


def test_decay_takes_from_matrices_alone():
    weight, bias = parameter(2, 2), parameter(2)
    optimiser = Optimiser([weight, bias], {}, Settings("adamw", weight_decay=0.5))
    optimiser.set_rate(0.1)
    optimiser.clear()
    (0.0 * (weight.sum() + bias.sum())).backward()
    optimiser.step(PLAIN, None)
    torch.testing.assert_close(weight.detach(), torch.full((2, 2), 0.95))
    assert torch.equal(bias.detach(), torch.ones(2))


def test_clipping_is_of_the_norm_over_all_that_is_kept():
    weight, mask = parameter(1, 4), torch.tensor([[True, True, False, False]])
    optimiser = Optimiser([weight], {id(weight): mask}, Settings("sgd", 0.0, momentum=0.0))
    optimiser.set_rate(1.0)
    optimiser.clear()
    (weight * torch.tensor([[3.0, 4.0, 100.0, 100.0]])).sum().backward()
    optimiser.step(PLAIN, 1.0)
    torch.testing.assert_close(weight.detach(), torch.tensor([[1 - 0.6, 1 - 0.8, 0.0, 0.0]]))


def test_rates_rise_to_the_highest_and_fall_along_a_cosine():
    rate = Rate(0.1, 100, "cosine", 0.1)
    rates = [rate.at(step) for step in range(100)]
    assert rates[:11] == sorted(rates[:11])
    assert rates[10] == pytest.approx(0.1)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[55] == pytest.approx(0.001 + 0.099 * 0.5 * (1 + math.cos(math.pi * 0.5)))
    assert 0.001 <= rates[99] < 0.0012
    constant = Rate(0.1, 100, "constant", 0.0)
    assert {constant.at(step) for step in range(100)} == {0.1}
