"""A small real model and data for it."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIZES = (4, 32, 32, 3)


def save_mlp(path: Path) -> Path:
    """An MLP of three matrices, `w0` to `w2`, from ``x[n, 4]`` to three classes."""
    random = np.random.default_rng(0)
    nodes, weights, last = [], [], "x"
    for index, (inside, outside) in enumerate(pairwise(SIZES)):
        weight = random.normal(size=(outside, inside)).astype(np.float32)
        weights.append(numpy_helper.from_array(weight, f"w{index}"))
        nodes.append(
            helper.make_node("Gemm", [last, f"w{index}"], [f"h{index}"], name=f"fc{index}", transB=1)
        )
        last = f"h{index}"
        if outside != SIZES[-1]:
            nodes.append(helper.make_node("Relu", [last], [f"r{index}"]))
            last = f"r{index}"
    sides = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", size])
        for name, size in (("x", SIZES[0]), (last, SIZES[-1]))
    ]
    graph = helper.make_graph(nodes, "mlp", sides[:1], sides[1:], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def save_data(path: Path) -> Path:
    """Forty labelled rows."""
    random = np.random.default_rng(1)
    np.savez(path, x=random.normal(size=(40, 4)).astype(np.float32), targets=random.integers(0, 3, 40))
    return path


def sparsity(path: Path) -> float:
    """Share of zeros in a file's weights, counted anew."""
    weights = [numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer]
    return sum(int((weight == 0).sum()) for weight in weights) / sum(weight.size for weight in weights)
