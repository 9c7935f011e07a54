"""The protocol's ratios, and masks that are the engine's own."""

import numpy as np
import pytest

from benchmarks import mnist
from benchmarks.mnist_lap import engine_masks, recipe
from tests.engine.criteria import published

#: Percent of weights left by iteration: the survival grid of the published protocol.
GRID = {4: 6.36, 5: 3.21, 6: 1.63, 7: 0.84, 8: 0.43, 9: 0.23, 10: 0.12}


@pytest.mark.parametrize("iteration", GRID)
def test_ratios_give_the_published_survival(iteration: int) -> None:
    sizes = [ins * outs for ins, outs in zip(mnist.WIDTHS, mnist.WIDTHS[1:], strict=False)]
    layers = recipe("lookahead", iteration).layers
    left = sum(size * (1 - layers[f"fc{i}"].sparsity) for i, size in enumerate(sizes))
    assert round(100 * left / sum(sizes), 2) == GRID[iteration]


def test_masks_are_magnitudes_largest() -> None:
    net = mnist.fresh(0)
    pruned, masks = engine_masks(net, "magnitude", 8)
    for index, (weight, mask) in enumerate(zip(net.weights, masks, strict=True)):
        ratio = recipe("magnitude", 8).layers[f"fc{index}"].sparsity
        np.testing.assert_array_equal(mask, published.keep_largest(np.abs(weight), ratio))
        np.testing.assert_array_equal(pruned.weights[index], weight * mask)
