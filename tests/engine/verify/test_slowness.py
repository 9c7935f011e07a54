"""The cause that is told where a file is not faster."""

from pathlib import Path

import numpy as np
import pytest

from tests.engine import chains
from worker.engine.formats import LoadOptions, load
from worker.engine.graph.build import build
from worker.engine.types import LayerPlan, Plan
from worker.engine.verify.latency import DENSE_KERNELS
from worker.engine.verify.promises import Promise
from worker.engine.verify.slowness import OVERHEAD, cause_of


def promise(folder: Path, width: int, *, shrinks: bool) -> Promise:
    """A layer of 16 outputs of which so many stay."""
    network = load(chains.mlp(folder / "m.onnx", [8, 16, 4]).path, LoadOptions())
    graph = build(network)
    keep = np.zeros(graph.layers[0].view.seen_shape(), dtype=bool)
    keep[:, :width] = True
    plan = Plan((LayerPlan(graph.layers[0].name, keep, None),))
    return Promise(network, graph, plan, shrinks)


def test_zeros_are_multiplied_by_like_any_number(tmp_path: Path) -> None:
    assert cause_of(promise(tmp_path, 8, shrinks=False)) == DENSE_KERNELS


@pytest.mark.parametrize("width", [5, 13])
def test_a_width_off_the_block_is_named(width: int, tmp_path: Path) -> None:
    found = cause_of(promise(tmp_path, width, shrinks=True))
    assert f": {width})" in found
    assert '"round_to": 8' in found


def test_with_good_widths_what_is_left_is_overhead(tmp_path: Path) -> None:
    assert cause_of(promise(tmp_path, 8, shrinks=True)) == OVERHEAD
