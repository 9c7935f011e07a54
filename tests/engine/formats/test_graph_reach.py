"""A module that runs only as far as somebody watches."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from onnx import helper

from tests.engine.recovery.nets import save
from worker.engine import formats
from worker.engine.errors import ModelNotRunnableError
from worker.engine.formats.base import LoadOptions
from worker.engine.formats.graph_module import GraphModule, graph_module


def _module(folder: Path) -> tuple[GraphModule, dict[str, ir.Value]]:
    """Its last step fails for any number of rows but two."""
    arrays: dict[str, Any] = {"w": np.eye(4, dtype=np.float32) * 2, "shape": np.array([8], np.int64)}
    node = helper.make_node
    nodes = [
        node("MatMul", ["x", "w"], ["h"]),
        node("Relu", ["h"], ["r"]),
        node("Reshape", ["r", "shape"], ["flat"]),
        node("Reshape", ["flat", "back"], ["y"]),
    ]
    arrays["back"] = np.array([2, 4], np.int64)
    network = formats.load(save(folder / "net.onnx", nodes, arrays, [4], 4), LoadOptions(scratch=folder))
    values = {value.name or "": value for one in network.structure.graph for value in one.outputs}
    values["x"] = network.structure.graph.inputs[0]
    return graph_module(network), values


@pytest.mark.parametrize("names", [["r"], ["h", "r"], ["x"], ["x", "h"]])
def test_what_is_watched_is_what_forward_makes(tmp_path: Path, names: list[str]) -> None:
    module, values = _module(tmp_path)
    data = torch.randn(2, 4)
    with module.watching([values[name] for name in names]) as seen:
        module(data)
        expected = {name: seen[values[name]].clone() for name in names}
        module.reach(data * 0)
        module.reach(data)
        for name in names:
            assert torch.equal(seen[values[name]], expected[name])


def test_nothing_further_is_run(tmp_path: Path) -> None:
    module, values = _module(tmp_path)
    data = torch.ones(3, 4)
    with module.watching([values["r"]]) as seen:
        with pytest.raises(ModelNotRunnableError):
            module(data)
        module.reach(data)
        assert torch.equal(seen[values["r"]], 2 * data)
