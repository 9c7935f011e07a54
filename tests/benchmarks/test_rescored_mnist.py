"""What the benchmark compares: the same counts, in one cut the published masks, in several others."""

import numpy as np

from benchmarks import mnist
from benchmarks.mnist_lap import engine_masks, pruned_by
from benchmarks.rescored_mnist import Result, rescored, table


def test_one_cut_is_published_lookahead_and_several_are_not() -> None:
    net = mnist.fresh(0)
    _, published = engine_masks(net, "lookahead", 10)
    _, one = pruned_by(net, rescored(1))
    _, three = pruned_by(net, rescored(3))
    for expected, found, other in zip(published, one, three, strict=True):
        np.testing.assert_array_equal(found, expected)
        assert other.sum() == expected.sum()
    assert any((a != b).any() for a, b in zip(one, three, strict=True))


def test_the_table_averages_over_seeds() -> None:
    results = [Result(seed, 50, 0.1218, error, 2.0) for seed, error in ((0, 9.0), (1, 10.0))]
    assert "| 50 | 0.12 % | **9.50** (9.00, 10.00) | 2.0 |" in table(results)
